"""Models that cannot be run: what is said of each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fxc.backends.coreml.package import open_package
from fxc.backends.coreml.run import load
from fxc.compiler.errors import ArtifactError, FxcError, InputError, ToolchainError
from tests.backends.coreml.cases import rand
from tests.backends.coreml.made import Case, build_program, save_program

pytest.importorskip("coremltools")

WEIGHT = rand(6, 40)
MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
X = rand(2, 40)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = Case("linear", lambda mb, x: mb.relu(x=mb.linear(x=x, weight=WEIGHT, bias=WEIGHT[:, 0])), (X,))
    return save_program(build_program(case), tmp_path_factory.mktemp("good") / "m.mlpackage", 16)


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "m.mlpackage"))


def edit(path: Path, change: Callable[[bytearray], None]) -> None:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(bytes(content))


def respec(path: Path, change: Callable[..., None]) -> None:
    package = open_package(path)
    change(package.spec)
    (path / MODEL).write_bytes(package.spec.SerializeToString())


def main_block(spec):  # type: ignore[no-untyped-def]
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def refused(path: Path, kind: type[FxcError] = ArtifactError) -> str:
    with pytest.raises(kind) as caught:
        load(path)([X])
    return str(caught.value)


def test_a_good_one(copy: Path) -> None:
    np.testing.assert_allclose(
        load(copy)([X])[0], np.maximum(X @ WEIGHT.T + WEIGHT[:, 0], 0), rtol=1e-5, atol=1e-5
    )


def test_no_such_model(tmp_path: Path) -> None:
    assert "there is no model" in refused(tmp_path / "none.mlpackage")


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "m.mlpackage").write_text("")
    assert "an .mlpackage is a folder" in refused(tmp_path / "m.mlpackage")


def test_no_manifest(copy: Path) -> None:
    (copy / "Manifest.json").unlink()
    assert "no Manifest.json" in refused(copy)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rootModelIdentifier": "x", "itemInfoEntries": {}}'])
def test_a_damaged_manifest(copy: Path, text: str) -> None:
    (copy / "Manifest.json").write_text(text)
    assert "is damaged" in refused(copy)


def test_a_manifest_that_points_outside(copy: Path) -> None:
    document = json.loads((copy / "Manifest.json").read_text())
    document["itemInfoEntries"][document["rootModelIdentifier"]]["path"] = "../../../etc/passwd"
    (copy / "Manifest.json").write_text(json.dumps(document))
    assert "outside of the package" in refused(copy)


def test_no_specification(copy: Path) -> None:
    (copy / MODEL).unlink()
    assert "has no file" in refused(copy)


def test_a_cut_specification(copy: Path) -> None:
    edit(copy / MODEL, lambda content: content.__delitem__(slice(len(content) // 2, None)))
    assert "is damaged" in refused(copy)


def test_a_specification_of_noise(copy: Path) -> None:
    (copy / MODEL).write_bytes(np.random.default_rng(0).bytes(5000))
    assert "is damaged" in refused(copy)


def test_no_weights(copy: Path) -> None:
    shutil.rmtree(copy / WEIGHTS.parent)
    assert "weight file" in refused(copy)
    assert "is missing" in refused(copy)


@pytest.mark.parametrize("keep", [0, 10, 64, 100, 130])
def test_cut_weights(copy: Path, keep: int) -> None:
    edit(copy / WEIGHTS, lambda content: content.__delitem__(slice(keep, None)))
    assert "is damaged" in refused(copy)


def test_a_broken_record(copy: Path) -> None:
    edit(copy / WEIGHTS, lambda content: content.__setitem__(64, content[64] ^ 255))
    assert "there is no blob at 64" in refused(copy)


def test_weights_of_another_type(copy: Path) -> None:
    edit(copy / WEIGHTS, lambda content: content.__setitem__(68, 14))
    assert "holds int32, the program says float32" in refused(copy)


def test_weights_outside(copy: Path) -> None:
    def change(spec) -> None:  # type: ignore[no-untyped-def]
        for op in main_block(spec).operations:
            if op.type == "const" and op.attributes["val"].WhichOneof("value") == "blobFileValue":
                op.attributes["val"].blobFileValue.fileName = "@model_path/../../../../secret.bin"

    respec(copy, change)
    assert "outside of it" in refused(copy)


def test_a_neural_network(tmp_path: Path) -> None:
    import coremltools as ct
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder

    builder = NeuralNetworkBuilder([("x", datatypes.Array(3))], [("y", datatypes.Array(3))])
    builder.add_activation("a", "RELU", "x", "y")
    ct.models.MLModel(builder.spec, skip_model_load=True).save(str(tmp_path / "m.mlpackage"))
    assert "no mlprogram but a model of the kind neuralNetwork" in refused(tmp_path / "m.mlpackage")


def test_an_unknown_operator(copy: Path) -> None:
    respec(
        copy,
        lambda spec: [setattr(op, "type", "warp") for op in main_block(spec).operations if op.type == "relu"],
    )
    assert "the operator 'warp' is not known" in refused(copy, ToolchainError)


def test_an_unknown_setting(copy: Path) -> None:
    def change(spec) -> None:  # type: ignore[no-untyped-def]
        for op in main_block(spec).operations:
            if op.type == "relu":
                op.inputs["slope"].CopyFrom(op.inputs["x"])

    respec(copy, change)
    assert "has slope, which is not known here" in refused(copy, ToolchainError)


def test_a_missing_argument(copy: Path) -> None:
    respec(
        copy,
        lambda spec: [op.inputs.pop("weight") for op in main_block(spec).operations if op.type == "linear"],
    )
    assert "has no weight" in refused(copy, ToolchainError)


def test_a_value_that_nothing_gives(copy: Path) -> None:
    def change(spec) -> None:  # type: ignore[no-untyped-def]
        main_block(spec).outputs[0] = "nowhere"

    respec(copy, change)
    assert "nothing gives the value 'nowhere'" in refused(copy)


def test_a_type_that_the_result_has_not(copy: Path) -> None:
    def change(spec) -> None:  # type: ignore[no-untyped-def]
        for op in main_block(spec).operations:
            if op.type == "linear":
                op.outputs[0].type.tensorType.dimensions[1].constant.size = 7

    respec(copy, change)
    assert "gives [2, 6], and the program says float32[2, 7]" in refused(copy)


def test_a_weight_that_does_not_fit(copy: Path) -> None:
    def change(spec) -> None:  # type: ignore[no-untyped-def]
        for value in main_block(spec).operations:
            if value.type == "linear":
                value.inputs["weight"].arguments[0].name, value.inputs["bias"].arguments[0].name = (
                    value.inputs["bias"].arguments[0].name,
                    value.inputs["weight"].arguments[0].name,
                )

    respec(copy, change)
    assert "cannot be computed" in refused(copy)


def test_inputs_that_do_not_fit(good: Path) -> None:
    runner = load(good)
    for inputs, word in (
        ([], "takes 1 inputs"),
        ([X[0]], "has shape [40]"),
        ([X.astype(np.int32)], "has dtype int32"),
    ):
        with pytest.raises(InputError) as caught:
            runner(inputs)
        assert word in str(caught.value)


def test_what_cannot_be_asked(good: Path) -> None:
    with pytest.raises(ToolchainError, match="no precision 'bf16'"):
        load(good, precision="bf16")
    with pytest.raises(ArtifactError, match="no value 'nowhere'"):
        load(good, expose=["nowhere"])


def test_inner_values_can_be_asked_for(good: Path) -> None:
    runner = load(good, expose=["linear_0"])
    answer, inner = runner([X])
    np.testing.assert_array_equal(answer, np.maximum(inner, 0))
    assert (inner < 0).any()
