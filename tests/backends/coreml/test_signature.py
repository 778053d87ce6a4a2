"""What a package says it takes and gives: batches, classes, metadata; and whoever runs it keeps to that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc.backends.coreml.package import open_package
from fxc.backends.coreml.run import Evaluator, load
from fxc.backends.coreml.shapes import Shapes, parts
from fxc.tools.cli.main import main
from tests.backends.coreml.engine_nets import Packed, pooled
from tests.backends.coreml.made import convert

pytest.importorskip("coremltools")

X = torch.randn(7, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = ["cat", "dog", "ant"]


def compiled(target: str = "iphone-fp32", model: nn.Module | None = None, **words: Any) -> fxc.Artifact:
    torch.manual_seed(0)
    return fxc.compile((model or pooled()).eval(), target, example_inputs=X[:1], **words)


def runner(artifact: fxc.Artifact) -> Evaluator:
    found = artifact.runner()
    assert isinstance(found, Evaluator)
    return found


@pytest.mark.parametrize(
    ("text", "takes", "refuses"), [("2,1,4", (1, 2, 4), (3, 5)), ("2..4", (2, 3, 4), (1, 5))]
)
def test_batches(text: str, takes: tuple[int, ...], refuses: tuple[int, ...]) -> None:
    made = compiled(batches=text)
    run = runner(made)
    torch.manual_seed(0)
    with torch.no_grad():
        want = pooled().eval()(X).numpy()
    (shapes,) = run.shapes.values()
    assert all(shapes.admit((n, 3, 16, 16)) for n in takes)
    assert not any(shapes.admit((n, 3, 16, 16)) for n in refuses)
    for n in takes:
        np.testing.assert_allclose(run.values([X[:n].numpy()])[0], want[:n], rtol=1e-4, atol=1e-5)
    for n in refuses:
        with pytest.raises(fxc.FxcError, match="and takes"):
            run.values([X[:n].numpy()])
    # A batch that it does not take is put together of those that it does, or filled up.
    np.testing.assert_allclose(made(X).numpy(), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made(X[:1]).numpy(), want[:1], rtol=1e-4, atol=1e-5)
    array = open_package(made.model).spec.description.input[0].type.multiArrayType
    assert array.WhichOneof("ShapeFlexibility") == ("shapeRange" if ".." in text else "enumeratedShapes")
    assert list(array.shape) == [2, 3, 16, 16]  # the usual one


def test_batches_through_symbolic_sizes() -> None:
    """Heads are unpacked by reshapes of a free batch."""
    torch.manual_seed(0)
    model, x = Packed().eval(), torch.randn(3, 5, 12)
    made = fxc.compile(model, "iphone-fp16", example_inputs=x[:1], batches="1..8", ane=True)
    with torch.no_grad():
        np.testing.assert_allclose(runner(made).values([x.numpy()])[0], model(x), rtol=1e-2, atol=1e-3)


def test_a_flexible_batch_in_eight_bits() -> None:
    made = compiled("iphone-int8", batches="1,4", calibration_data=[X])
    assert made.report["kernels"]["mac_coverage"] == 1
    whole, single = runner(made).values([X[:4].numpy()])[0], runner(made).values([X[3:4].numpy()])[0]
    np.testing.assert_array_equal(whole[3:], single)


def test_batches_of_another_package(tmp_path: Path) -> None:
    import coremltools as ct

    batch = ct.RangeDim(1, 3)
    path = convert(
        nn.Conv2d(3, 2, 3), [X[:1]], tmp_path / "m.mlpackage", export=False,
        inputs=[ct.TensorType(name="x", shape=(batch, 3, 16, 16))],
    )  # fmt: skip
    run = load(path)
    assert run.shapes["x"].admit((3, 3, 16, 16))
    assert run([X.numpy()])[0].shape == (7, 2, 14, 14)
    with pytest.raises(fxc.FxcError, match="and takes"):
        run.values([X.numpy()])


def test_parts() -> None:
    assert parts(10, {1, 4, 8}.__contains__) == [8, 1, 1]
    assert parts(6, {4, 3}.__contains__) == [3, 3]
    assert parts(5, {2, 4}.__contains__) is None
    assert parts(1, lambda n: n == 1) == [1]
    assert parts(100_000, lambda n: True) == [100_000]
    assert parts(10_003, {1, 8}.__contains__) == [8] * 1250 + [1] * 3
    assert sum(parts(997, {6, 10, 15}.__contains__) or []) == 997
    assert str(Shapes(ranges=((1, -1), (3, 3)))) == "[1.., 3]"


@pytest.mark.parametrize("target", ["iphone-fp16", "iphone-fp32"])
def test_a_classifier(target: str) -> None:
    made = compiled(target, labels=LABELS)
    run = runner(made)
    torch.manual_seed(0)
    with torch.no_grad():
        want = pooled().eval()(X)
    label, scores = run.values([X[:1].numpy()])
    assert run.labels == tuple(scores) == tuple(LABELS)
    assert label == LABELS[int(want[0].argmax())]
    np.testing.assert_allclose(list(scores.values()), want[0], rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(made(X), want, rtol=1e-2, atol=1e-3)
    described = open_package(made.model).spec.description
    assert described.predictedFeatureName == "classLabel"
    assert [o.name for o in described.output] == ["classLabel", "classLabel_probs"]


def test_labels_from_a_file_and_what_inspect_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n\nant\n")
    (tmp_path / "net.py").write_text("from tests.backends.coreml.engine_nets import pooled as net\n")
    words = ["--labels", str(tmp_path / "labels.txt"), "--about", "author=Ada", "--about", "license=MIT",
             "--about", "version=3", "--about", "description=animals", "-o", str(tmp_path / "b")]  # fmt: skip
    shape = ["--input-shape", "1,3,16,16", "-t", "iphone-fp16"]
    assert main(["compile", f"{tmp_path / 'net.py'}:net", *shape, *words]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "b/model.mlpackage")]) == 0
    text = capsys.readouterr().out
    for told in ("3: cat, dog, ant", "Ada", "MIT", "animals", "classLabel: string"):
        assert told in text
    about = open_package(tmp_path / "b/model.mlpackage").spec.description.metadata
    assert (about.author, about.license, about.versionString) == ("Ada", "MIT", "3")
    assert about.userDefined["fxc"]


class Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3)), x


@pytest.mark.parametrize(
    ("model", "words", "match"),
    [
        (None, {"labels": ["cat", "dog"]}, "2 labels"),
        (None, {"labels": ["cat", "cat", "dog"]}, "given twice"),
        (None, {"labels": ["cat"]}, "two classes or more"),
        (None, {"labels": [1, 2, 3]}, "one name for each class"),
        (None, {"labels": "nowhere.txt"}, "cannot read the labels"),
        (Two(), {"labels": LABELS}, "3 labels"),
        (None, {"labels": LABELS, "batches": "1,2"}, "a batch of 1"),
        (None, {"batches": "1,2", "dynamic_batch": False}, "cannot take batches"),
        *((None, {"batches": bad}, "no sizes") for bad in ("0..3", "4..1", "3", "1,1", "a,b", "", "1..2..3")),
        (None, {"about": {"owner": "me"}}, "has no 'owner'"),
        (None, {"about": "me"}, "texts by name"),
    ],
)
def test_what_cannot_be(model: nn.Module | None, words: dict[str, Any], match: str) -> None:
    with pytest.raises(fxc.FxcError, match=match):
        compiled(model=model, **words)


def test_an_image_has_no_batch() -> None:
    how = {"mean": [0.5] * 3, "std": [0.5] * 3}
    with pytest.raises(fxc.FxcError, match="cannot take batches"):
        compiled(batches="1,2", image_input="rgb", preprocessing=how)


def test_other_targets_do_not_know_the_words() -> None:
    for words in ({"labels": LABELS}, {"batches": "1,2"}, {"about": {"author": "me"}}, {"ane": True}):
        with pytest.raises(fxc.FxcError, match="says nothing about cpu-fp32"):
            compiled("cpu-fp32", **words)
