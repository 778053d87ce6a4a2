"""Pictures as documents: well-formed, escaped, complete, the same bytes every time."""

from __future__ import annotations

import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from fxc.tools.dump.diff import compare
from fxc.tools.dump.facts import operators
from fxc.tools.dump.scene import TEXT_COLUMNS, build_scene, columns_of, cut
from fxc.tools.dump.svg import scene_svg
from tests.tools.dump_graphs import Maker, aten, conv_bn_relu, conv_tensors

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "</svg><script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "]]>&amp;<!--",
    "control\x00\x07 and \ud800 surrogate \uffff",
    "層.畳み込み.重み.とても長い名前がここに続いていく",
]


def picture(program: object, before: object = None) -> str:
    after, old = operators(program), operators(before) if before else None  # type: ignore[arg-type]
    return scene_svg(build_scene(after, old, compare(old, after) if old else None), "title")


def nodes(svg: str) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(svg)
    return {g.attrib["data-name"]: g for g in root.iter(f"{SVG}g") if "data-name" in g.attrib}


def test_colours_tell_added_removed_changed_and_rewired() -> None:
    tensors = conv_tensors()
    with_norm = conv_bn_relu(tensors, norm=True)
    scaled = {**tensors, "block.conv.weight": tensors["block.conv.weight"] * 2}
    without = conv_bn_relu(scaled, norm=False)
    classes = {name: g.attrib["class"].split() for name, g in nodes(picture(without, with_norm)).items()}
    assert "removed" in classes["norm"]
    assert "changed" in classes["conv"]
    assert "rewired" in classes["act"]
    assert "added" in nodes(picture(with_norm, without))["norm"].attrib["class"].split()
    assert {"added", "removed", "changed", "rewired"}.isdisjoint(
        nodes(picture(without))["conv"].attrib["class"].split()
    )


def test_a_box_says_what_a_reader_needs() -> None:
    conv = nodes(picture(conv_bn_relu(conv_tensors(), norm=True)))["conv"]
    lines = [text.text for text in conv.iter(f"{SVG}text")]
    assert lines == ["conv2d", "block.conv", "padding 1", "weight 4×4×3×3 float32", "1×4×8×8 float32"]
    act = nodes(picture(conv_bn_relu(conv_tensors(), norm=True)))["act"]
    assert "source: net.py:7  y = self.act(y)" in (act.findtext(f"{SVG}title") or "")


def test_integer_edges_look_different() -> None:
    import torch

    make = Maker()
    q = make.call(torch.ops.fxc.quantize.tensor, make.x, 0.1, 0, -128, 127, torch.int8, name="q")
    program = make.done(make.call(torch.ops.fxc.dequantize.tensor, q, 0.1, 0, name="dq"))
    root = ElementTree.fromstring(picture(program))
    kinds = {
        (p.attrib["data-start"], p.attrib["class"])
        for p in root.iter(f"{SVG}path")
        if "data-start" in p.attrib
    }
    assert kinds == {("x", "edge float"), ("q", "edge quantized"), ("dq", "edge float")}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_labels_stay_text(text: str) -> None:
    make = Maker()
    y = make.call(aten.relu.default, make.x, name="a", layer=f"{text}.inner", source=text)
    y = make.call(aten.neg.default, y, name="b", layer=f"{text}.other")
    y = make.call(aten.abs.default, y, name="c", layer="free")
    program = make.done(y)
    svg = scene_svg(build_scene(operators(program)), text)
    root = ElementTree.fromstring(svg.encode("utf-8"))
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= {
        "svg", "title", "style", "defs", "marker", "path", "g", "rect", "text",
    }  # fmt: skip
    assert not any(name.startswith("on") or "href" in name for e in root.iter() for name in e.attrib)


def test_cut_keeps_the_end_of_a_name_and_counts_wide_characters_twice() -> None:
    assert cut("a" * 100, from_the_left=True) == "…" + "a" * (TEXT_COLUMNS - 1)
    assert cut("short") == "short"
    assert columns_of(cut("畳" * 50)) <= TEXT_COLUMNS


def test_nothing_in_a_picture_points_outside() -> None:
    svg = picture(conv_bn_relu(conv_tensors(), norm=True))
    assert "url(http" not in svg
    assert "@import" not in svg
    assert svg.count("http") == svg.count("http://www.w3.org/2000/svg")


def test_same_bytes_in_another_process() -> None:
    """String hashing differs between processes; the picture must not."""
    code = (
        "import sys\n"
        "from tests.tools.test_dump_svg import picture, conv_bn_relu, conv_tensors\n"
        "t = conv_tensors()\n"
        "sys.stdout.buffer.write(picture(conv_bn_relu(t, norm=False), conv_bn_relu(t, norm=True)).encode())"
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."}
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=environment
    ).stdout
    tensors = conv_tensors()
    here = picture(conv_bn_relu(tensors, norm=False), conv_bn_relu(tensors, norm=True))
    assert made == here.encode()
    assert len(made) > 5000
