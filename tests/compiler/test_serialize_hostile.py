"""A program file made to run code: shown to run when FX gets it unchecked, and refused by us with nothing run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx

from fxc.compiler.errors import ArtifactError
from fxc.compiler.files import compact_json
from fxc.compiler.serialize import load_program, save_program
from fxc.compiler.serialize_names import attribute_path, identifier, operator_of
from tests.compiler.saved_programs import conv_program


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the JSON of a saved program the way an attacker would: the digest is made to fit again."""
    path = folder / "program.json"
    document = json.loads(path.read_text())
    document.pop("digest")
    change(document)
    digest = hashlib.sha256(compact_json(document).encode()).hexdigest()
    path.write_text(compact_json({**document, "digest": digest}))
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_program(conv_program(), tmp_path_factory.mktemp("original") / "p")


@pytest.fixture
def saved(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "p"))


def node(document: dict[str, Any], op: str, target: str = "") -> dict[str, Any]:
    return next(n for n in document["nodes"] if n["op"] == op and target in n["target"])


def test_rewriting_alone_is_accepted(saved: Path) -> None:
    load_program(rewrite(saved, lambda document: document.update(name="other")))


def test_placeholder_target_runs_in_plain_fx_and_is_refused(saved: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    evil = f"x=open({str(marker)!r}, 'w')"
    graph = fx.Graph()
    graph.output((graph.create_node("placeholder", evil, name="x0"),))
    fx.GraphModule({}, graph)
    assert marker.exists(), "the attack does not work any more: find the one that does"
    marker.unlink()
    with pytest.raises(ArtifactError, match="identifier"):
        load_program(rewrite(saved, lambda d: node(d, "placeholder").update(target=evil)))
    assert not marker.exists()


def test_attribute_target_runs_in_plain_fx_and_is_refused(saved: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    evil = f'forward") and open("{marker}", "w") and str("'
    graph = fx.Graph()
    graph.output((graph.create_node("get_attr", evil),))
    fx.GraphModule({evil: torch.ones(1)}, graph)()
    assert marker.exists(), "the attack does not work any more: find the one that does"
    marker.unlink()
    with pytest.raises(ArtifactError, match="tensor's name"):
        load_program(rewrite(saved, lambda d: node(d, "get_attr", "head").update(target=evil)))
    assert not marker.exists()


def test_keyword_name_runs_in_plain_fx_and_is_refused(saved: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    evil = f"other=open({str(marker)!r}, 'w') and"
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output((graph.call_function(torch.add, (x,), {f"{evil} 1, alpha": 1}),))
    fx.GraphModule({}, graph)(torch.ones(1))
    assert marker.exists(), "the attack does not work any more: find the one that does"
    marker.unlink()
    with pytest.raises(ArtifactError, match="identifier"):
        load_program(rewrite(saved, lambda d: node(d, "call_function", "clamp").update(kwargs={evil: 1})))
    assert not marker.exists()


def test_an_operator_that_writes_files_exists_and_is_refused(saved: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    torch.ops.aten.from_file.default(str(marker), True, 4)
    assert marker.exists(), "the attack does not work any more: find the one that does"
    marker.unlink()

    def change(document: dict[str, Any]) -> None:
        node(document, "call_function", "clamp").update(
            target="aten.from_file.default", args=[str(marker), True, 4]
        )

    with pytest.raises(ArtifactError, match="from_file"):
        load_program(rewrite(saved, change))
    assert not marker.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system", "builtins.exec", "torch.load", "operator.attrgetter", "operator.methodcaller", "math.__loader__",
        "aten.save.default", "aten.from_file.out", "aten.warn.default", "aten.conv2d", "aten.__class__.default",
        "aten._qualified_op_name.default", "aten.conv2d.__init__", "prims.convolution.default", "fxc.nothing.tensor",
        "aten.conv2d.default; x", "", None, 3, ["aten"], "torch.ops.aten.add.Tensor",
    ],
)  # fmt: skip
def test_other_functions_are_refused(saved: Path, target: object) -> None:
    with pytest.raises(ArtifactError) as caught:
        load_program(rewrite(saved, lambda d: node(d, "call_function", "clamp").update(target=target)))
    assert "program.json" in str(caught.value)


def test_a_namespace_can_be_allowed() -> None:
    with pytest.raises(ArtifactError, match="namespace"):
        operator_of("prims.neg.default")
    assert operator_of("prims.neg.default", frozenset({"prims"})) is torch.ops.prims.neg.default


@pytest.mark.parametrize("name", ["a b", "a.b", "é", "x\ny", "1a", "class", "self", "", "a;b", None, 3])
def test_identifiers_are_strict(name: object) -> None:
    with pytest.raises(ArtifactError):
        identifier(name)


@pytest.mark.parametrize("path", ["", "a..b", 'a"b', "a'b", "a\\b", "a{b}", "a;b", "a(b", "forward", "__class__.x", "a._parameters.x", "_modules.x",
                                  "code", "a.__dict__", "a\n", "training", None])  # fmt: skip
def test_attribute_paths_are_strict(path: object) -> None:
    with pytest.raises(ArtifactError):
        attribute_path(path)


def _set(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update({key: value})


def _first(op: str, /, **change: object) -> Callable[[dict[str, Any]], None]:
    return lambda document: node(document, op).update(change)


@pytest.mark.parametrize(
    "change",
    [
        _set("format", 2),
        _set("kind", "other"),
        _set("nodes", []),
        _set("nodes", None),
        _set("outputs", []),
        _set("inputs", []),
        _set("in_tree", {"torch.nn.Module": []}),
        _set("in_tree", {"tuple": "*"}),
        _set("out_tree", "*"),
        _set("shared", {"state/head.weight": "state/none"}),
        _set("parameters", {"layer1.0.conv1.weight": True}),
        _set("examples", 9),
        _set("notes", [{"evil": 1}]),
        _set("folded_norms", ["none"]),
        _set("sizes", {"batch": "x"}),
        _first("placeholder", op="call_module"),
        _first("placeholder", op="call_method", target="system"),
        _first("placeholder", args=[{"node": "x"}]),
        _first("call_function", name="layer1_0_conv1"),
        _first("call_function", args=[{"node": "later"}]),
        _first("call_function", args=[{"dtype": "load"}]),
        _first("call_function", args=[{"device": "cuda"}]),
        _first("call_function", args=[{"exec": "1"}]),
        _first("call_function", args=[1 << 70]),
        _first("call_function", args=["/etc/passwd"]),
        _first("call_function", origin={"label": "x"}),
    ],
)
def test_malformed_documents_are_artifact_errors(
    saved: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(ArtifactError) as caught:
        load_program(rewrite(saved, change))
    assert str(saved) in str(caught.value)


def test_deep_nesting_does_not_exhaust_the_stack(saved: Path) -> None:
    copy = shutil.copytree(saved, saved.parent / "q")
    (saved / "program.json").write_text("[" * 200_000)
    with pytest.raises(ArtifactError):
        load_program(saved)
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    with pytest.raises(ArtifactError, match="nested"):
        load_program(rewrite(copy, _first("call_function", args=[deep])))


@pytest.mark.parametrize("shape", [[-1], [True], ["x y"], [1.5], ["__import__('os')"], [1 << 70]])
def test_input_shapes_are_checked(saved: Path, shape: list[object]) -> None:
    with pytest.raises(ArtifactError):
        load_program(rewrite(saved, lambda d: d["inputs"][0].update(shape=shape)))
