"""What the command line's words mean, taken apart without running anything."""

import io
import json
from pathlib import Path

import pytest

from fxc.compiler.errors import ArtifactError, UsageError
from fxc.tools.cli.config import quantization
from fxc.tools.cli.folder import check_output
from fxc.tools.cli.modelspec import ShapeSpec, parse_model, parse_shape, parse_shapes
from fxc.tools.cli.options import floats, sizes
from fxc.tools.cli.output import Result, columns, plain, write


def test_model_words(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("")
    (tmp_path / "m.pt2").write_bytes(b"")
    assert parse_model("torchvision:resnet18").name == "resnet18"
    python = parse_model(f"{tmp_path}/m.py:make")
    assert (python.kind, python.path, python.attribute) == ("python", tmp_path / "m.py", "make")
    assert parse_model(f"{tmp_path}/m.pt2").kind == "pt2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet18", "not a model"),
        ("torchvision:", "not a model"),
        ("gone.py:make", "no file gone.py"),
        ("gone.pt2", "no file gone.pt2"),
        (__file__, "which name in the file"),
        (f"{__file__}:a b", "names nothing after the colon"),
    ],
)
def test_model_words_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_model(text)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("1,3,224,224", ShapeSpec(None, (1, 3, 224, 224))),
        ("1x3x8x8", ShapeSpec(None, (1, 3, 8, 8))),
        ("ids=2,16:int64", ShapeSpec("ids", (2, 16), "int64")),
    ],
)
def test_shapes(text: str, shape: ShapeSpec) -> None:
    assert parse_shape(text) == shape


@pytest.mark.parametrize("text", ["", "a", "1,,3", "1,-3", "0,3", "1,3:complex64", "1,3:"])
def test_shapes_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError):
        parse_shape(text)


def test_a_batch_goes_over_every_shape() -> None:
    assert [s.dims for s in parse_shapes(["1,3,8,8", "1,4"], batch=5)] == [(5, 3, 8, 8), (5, 4)]
    with pytest.raises(UsageError, match="some inputs"):
        parse_shapes(["a=1,2", "1,2"])


def test_numbers() -> None:
    assert floats("0.5,.25,1", "--mean") == (0.5, 0.25, 1.0)
    assert sizes("192x320", "--size") == (192, 320)
    assert floats(None, "--mean") is None
    for text in ("a", "0", "1,2,3", "-4", ""):
        with pytest.raises(UsageError, match="--size"):
            sizes(text, "--size")
    with pytest.raises(UsageError, match="--std"):
        floats("1;2", "--std")


def test_flags_go_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "q.yaml"
    file.write_text('observer: mse\nkeep_float: ["stem.*"]\nlayers: {"head": {observer: entropy}}\n')
    both = quantization(file, ["head"], "percentile", 99.9)
    assert (both.observer, both.percentile, both.keep_float) == ("percentile", 99.9, ("stem.*", "head"))
    assert both.layers["head"].observer == "entropy"
    assert quantization(file, None, None, None).observer == "mse"
    file.write_text("observr: mse")
    with pytest.raises(UsageError) as caught:
        quantization(file, None, None, None)
    assert "did you mean 'observer'?" in str(caught.value)


def test_an_existing_bundle_is_kept(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError):
        check_output(tmp_path / "b", force=False)
    check_output(tmp_path / "b", force=True)
    check_output(tmp_path / "new" / "deep" / "b", force=False)
    assert [p.name for p in tmp_path.iterdir()] == ["b"], "a check leaves nothing behind"


def test_a_folder_of_something_else_is_kept_even_with_force(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("")
    (tmp_path / "file").write_text("")
    for path in ("photos", "file", "file/b"):
        with pytest.raises(ArtifactError):
            check_output(tmp_path / path, force=True)


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    """/proc refuses new folders to everyone, root included."""
    with pytest.raises(ArtifactError):
        check_output(Path("/proc/fxc/b"), force=False)


def test_results_are_strict_json() -> None:
    out = io.StringIO()
    write(Result({"a": float("nan"), "b": (1, Path("x")), 3: float("inf")}, ""), out, as_json=True)
    assert json.loads(out.getvalue()) == {"a": None, "b": [1, "x"], "3": None}
    assert plain({"deep": [{"x": float("-inf")}]}) == {"deep": [{"x": None}]}


def test_columns_line_up() -> None:
    assert columns([("a", 1), ("bbb", 22)], ("x", "y")) == "x    y\n---  --\na    1\nbbb  22"
