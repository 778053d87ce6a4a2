"""The HTML report, judged by the standard library's own HTML parser."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from fxc.tools.report import Example, Measured, Row, numbers, render
from fxc.tools.report.markup import Markup, join, tag, text
from tests.tools.report_sample import REASONS, sample_report

HOSTILE = '<script>alert(\'1\')</script>"onmouseover="x" --></style></title>&amp;${script}$$'
VOID = {"meta", "input"}


class Page(HTMLParser):
    """The elements and texts of a page; refuses unbalanced tags."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.by_tag: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> inside {self.open}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open:
            self.by_tag.setdefault(self.open[-1], []).append(data)

    @property
    def visible(self) -> str:
        hidden = {*self.by_tag.get("script", []), *self.by_tag.get("style", [])}
        return " ".join(" ".join(t for t in self.texts if t not in hidden).split())


def with_strings(value: Any, change: Any) -> Any:
    """``value`` with every string but the words that steer the report (kinds, sources) changed."""
    if isinstance(value, dict):
        keep = {"kind", "source"}
        return {k: v if k in keep else with_strings(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [with_strings(v, change) for v in value]
    return change(value) if isinstance(value, str) else value


def test_page_says_what_the_report_holds() -> None:
    report = sample_report()
    page = Page(render(report)).visible
    for row in report["layers"]:
        assert row["layer"] in page
    for reason in [*REASONS.values(), "only one of the two inputs of the addition is on integers"]:
        assert reason in page
    for expected in (
        "DigitsNet",
        "cpu-int8",
        "31.4 dB",
        "99.9 %",
        "10.4 M parameters",
        "brgconv_avx512_I8",
        "0.25×",
    ):
        assert expected in page
    assert "captured by torch.export with a dynamic batch" in page
    assert "fuse_add: the sum has two consumers" in page
    assert "keep_float matches layer*" in page
    assert "3.2e-07" in page


def test_page_needs_nothing_but_itself() -> None:
    html = render(sample_report())
    page = Page(html)
    assert not [a for a in page.attributes if a[0] in {"src", "href", "srcset", "action"}]
    assert "@import" not in html
    assert "url(" not in html
    assert [tag for tag, _ in page.elements].count("script") == 1


def test_only_the_pages_own_script_may_run() -> None:
    page = Page(render(sample_report()))
    script = "".join(page.by_tag["script"])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(v for name, v in page.attributes if name == "content" and "script-src" in v)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("layers", [3, 40])
def test_hostile_names_stay_text(layers: int) -> None:
    """Every string made hostile: the page keeps exactly the elements and attributes of the benign one."""
    report = sample_report(layers)
    hostile = with_strings(report, lambda s: s + HOSTILE)
    for key in ("inputs", "outputs"):
        assert hostile["model"][key][0]["name"].endswith(HOSTILE)
    page, benign = Page(render(hostile)), Page(render(report))
    assert page.elements == benign.elements
    assert page.by_tag["script"] == benign.by_tag["script"]
    assert "layers.0.conv1" + " ".join(HOSTILE.split()) in page.visible


def test_layer_called_script() -> None:
    report = sample_report()
    report["layers"][0]["layer"] = report["float_tensors"][0]["layer"] = "<script>"
    html = render(report)
    assert "<code>&lt;script&gt;</code>" in html
    assert html.count("<script>") == 1


@pytest.mark.parametrize("bad", ["\x00", "\x1b", "\u202e", "\ud800", "\u2066"])
def test_unprintable_characters_are_replaced(bad: str) -> None:
    report = sample_report()
    report["layers"][0]["layer"] = f"conv{bad}1"
    html = render(report)
    assert bad not in html
    assert "conv\ufffd1" in html
    html.encode("utf-8")


def test_same_report_same_bytes() -> None:
    assert render(sample_report()) == render(sample_report())


def test_synthesised_calibration_is_said_before_any_number() -> None:
    report = sample_report()
    report["calibration"] = {
        "source": "synthesised",
        "said": "images from batch-norm statistics",
        "images": 64,
    }
    page = Page(render(report)).visible
    assert "Calibrated on synthesised inputs, not on data" in page
    assert page.index("synthesised") < page.index("31.4 dB")
    assert "synthesised" not in Page(render(sample_report())).visible


def test_warnings_come_before_everything_else() -> None:
    report = sample_report()
    report["notes"].append({"kind": "warning", "text": "random weights", "layer": "head", "by": "capture"})
    page = Page(render(report)).visible
    assert "with 1 warning" in page
    assert page.index("random weights") < page.index("Calibrated on")
    assert "No warnings" not in page


def test_float_target_has_no_integer_columns() -> None:
    report = sample_report()
    report |= {"calibration": None, "float_tensors": []}
    report["target"] |= {"name": "cpu-fp32", "precision": "fp32"}
    for row in report["layers"]:
        row |= {"quantized": False, "sqnr_db": None}
    page = Page(render(report)).visible
    assert "runs as" not in page
    assert "Calibrated" not in page
    assert "Tensors left in float" not in page
    assert "optimized graph" in page


def test_numbers_that_are_missing_are_dashes() -> None:
    report = sample_report()
    report["accuracy"]["outputs"][0] |= {"graph_db": None, "file_db": None, "lost_db": None}
    report["kernels"]["mac_coverage"] = None
    report["size"] = {"float_weights_bytes": 41637672, "files": ["model.onnx"]}
    report["layers"] = []
    page = Page(render(report)).visible
    assert numbers.ABSENT in page
    assert " None" not in page
    assert "nan" not in page.lower().replace("openvino", "")


def test_kernels_that_nothing_here_tells_of_are_what_the_file_asks() -> None:
    report = sample_report()
    assert "as the runtime" in Page(render(report)).visible
    report["kernels"]["planned"] = True
    page = Page(render(report)).visible
    assert "as the file asks; what the chip does with it is not known here" in page
    assert "as the runtime" not in page


def test_layers_sort_by_the_number_behind_the_words() -> None:
    report = sample_report()
    html = render(report)
    body = html[html.index('<table id="layers">') :]
    rows = re.findall(r"<tr><td data-v.*?</tr>", body)
    orders = [re.findall(r'<td data-v="([^"]*)"', row) for row in rows]
    assert [int(o[0]) for o in orders] == list(range(1, len(report["layers"]) + 1))
    assert [int(o[3]) for o in orders] == [row["macs"] for row in report["layers"]]
    noise = [-1.0 if row["sqnr_db"] is None else row["sqnr_db"] for row in report["layers"]]
    assert [float(o[-1]) for o in orders] == noise


def test_chart_is_as_high_as_the_numbers() -> None:
    html = render(sample_report())
    tops = {float(cy) for cy in re.findall(r'<circle cx="[^"]*" cy="([^"]*)"', html)}
    known = {row["sqnr_db"] for row in sample_report()["layers"] if row["sqnr_db"] is not None}
    assert len(tops) == len(known)
    # The axis runs from 0 dB at 214 to 50 dB at 12.
    assert sorted(50 * (214 - top) / 202 for top in tops) == pytest.approx(sorted(known), abs=0.03)


def test_measured_block() -> None:
    rows = (
        Row("top-1", "99.5 %", "99.4 %", "-0.06", "≥ −0.3", True),
        Row("size", "4", "2", "0.5×", "≤ 0.3×", False),
    )
    picture = Example(((0, 16), (8, 0)), "a 3: float says 3")
    block = Measured("Digits", "2 threads", rows, {"capture": 1.0, "emit": 3.0}, (picture,), "Disagreements")
    html = render(sample_report(), [block])
    page = Page(html).visible
    assert "✓ held" in page
    assert "✗ missed" in page
    assert "Compile time: 4.0 s" in page
    assert "emit 3.00 s" in page
    assert html.count("<rect ") == 2
    assert re.search(r'<rect x="1" y="0" width="1" height="1" opacity="1.00">', html)
    assert 'style="width:75.00%"' in html


def test_markup_escapes_attributes_and_keeps_markup() -> None:
    assert (
        tag("a", "<b>", title='"x"', hidden=True, class_=None)
        == '<a title="&quot;x&quot;" hidden>&lt;b&gt;</a>'
    )
    assert tag("p", tag("i", 3)) == "<p><i>3</i></p>"
    assert join("<", Markup("<br>"), None) == "&lt;<br>"
    assert text(text("&")) == "&amp;"


@pytest.mark.parametrize(
    ("function", "value", "shown"),
    [
        (numbers.count, 999, "999"),
        (numbers.count, 11173962, "11.2 M"),
        (numbers.size, 41637672, "39.7 MiB"),
        (numbers.size, 512, "512 B"),
        (numbers.percent, 1.0, "100.0 %"),
        (numbers.percent, 0.99999, ">99.9 %"),
        (numbers.decibel, 200.0, "equal"),
        (numbers.decibel, -3.04, "-3.0 dB"),
        (numbers.scientific, 0.0, "0"),
        (numbers.scientific, None, numbers.ABSENT),
    ],
)
def test_numbers(function: Any, value: float | None, shown: str) -> None:
    assert function(value) == shown
