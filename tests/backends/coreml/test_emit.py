"""Emitted packages: names, bytes, batches, versions, and the numbers of a small net in every precision."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc.backends.apple.export import exported
from fxc.backends.coreml.blob import BlobFile
from fxc.backends.coreml.emit import emit
from fxc.backends.coreml.legal import check
from fxc.backends.coreml.package import open_package
from fxc.backends.coreml.placement import placed
from fxc.backends.coreml.run import load
from fxc.backends.coreml.spelling import STYLE
from fxc.backends.coreml.target import IPHONE_FP16, IPHONE_FP32, IPHONE_INT8, IPHONE_W4, TARGETS
from fxc.backends.coreml.versions import narrow
from fxc.compiler.capture import capture
from fxc.compiler.errors import ArtifactError, ToolchainError, UsageError
from fxc.compiler.program import Program
from fxc.passes.pipelines import optimize
from tests.models.metrics import sqnr_db

pytest.importorskip("coremltools")


class Net(nn.Module):
    """A residual block, a concat, a gate, a pool and a linear layer; its input is called ``picture``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.left, self.right = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 1)
        self.gate = nn.Sequential(nn.Conv2d(64, 64, 1), nn.Hardswish())
        self.head = nn.Linear(64, 10)

    def forward(self, picture: Tensor) -> Tensor:
        x = self.stem(picture)
        y = torch.relu(x + self.left(x))
        z = self.gate(torch.cat([y, self.right(x)], 1))
        return self.head(z.mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = Net()
    net(torch.randn(16, 3, 16, 16))
    return net.eval()


X = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def program_of(module: nn.Module, *inputs: Tensor) -> Program:
    program = capture(module.eval(), inputs)
    for step in optimize():
        program = step.apply(program).program
    return program


@pytest.fixture(scope="module")
def program(net: nn.Module) -> Program:
    return program_of(net, X[:2])


@pytest.mark.parametrize(
    ("target", "bar"), [(IPHONE_FP32, 110), (IPHONE_FP16, 55)], ids=lambda t: getattr(t, "name", t)
)
def test_float(target: fxc.Target, bar: float, net: nn.Module, program: Program, tmp_path: Path) -> None:
    emitted = emit(program, target, tmp_path)
    with torch.no_grad():
        assert sqnr_db(net(X), torch.from_numpy(load(tmp_path / emitted.model)([X.numpy()])[0])) > bar
    types = open_package(tmp_path / emitted.model).spec.description
    assert all(f.type.multiArrayType.dataType == 65568 for f in (*types.input, *types.output))  # float32
    assert emitted.inputs == ("picture",)
    assert emitted.outputs == ("output",)
    assert all((tmp_path / name).is_file() for name in emitted.files)


def test_values_are_called_as_the_layers(program: Program, tmp_path: Path) -> None:
    emitted = emit(program, IPHONE_FP16, tmp_path)
    assert {"stem.0", "left", "right", "gate.0", "head"} <= set(emitted.tensors)
    names = [emitted.tensors[label] for label in ("left", "head")]
    runner = load(tmp_path / emitted.model, expose=names)
    left, head = runner([X[:1].numpy()])[1:]
    inner = {n.name: n for n in program.graph.nodes}
    assert left.shape == (1, *inner["left"].meta["val"].shape[1:])
    np.testing.assert_array_equal(head, runner([X[:1].numpy()])[0])


def test_equal_models_are_equal_bytes(program: Program, tmp_path: Path) -> None:
    trees = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        emitted = emit(program, IPHONE_FP16, tmp_path / name)
        trees.append({f: (tmp_path / name / f).read_bytes() for f in emitted.files})
    assert trees[0] == trees[1]
    assert "model.mlpackage/Manifest.json" in trees[0]


def test_coremltools_still_reads_it(program: Program, tmp_path: Path) -> None:
    import coremltools as ct

    emitted = emit(program, IPHONE_FP16, tmp_path)
    model = ct.models.MLModel(str(tmp_path / emitted.model), skip_model_load=True)
    assert [i.name for i in model.get_spec().description.input] == ["picture"]
    assert model.get_spec().specificationVersion == ct.target.iOS16.value


def test_a_batch_is_run_sample_by_sample(net: nn.Module, program: Program, tmp_path: Path) -> None:
    emitted = emit(program, IPHONE_FP32, tmp_path)
    assert any("batch is 1" in note for note in emitted.notes)
    runner = load(tmp_path / emitted.model)
    whole = runner([X.numpy()])[0]
    np.testing.assert_array_equal(whole[2:], runner([X[2:].numpy()])[0])


def test_outputs_that_do_not_lead_with_the_batch_fix_it(tmp_path: Path) -> None:
    class Turned(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x @ x.transpose(1, 2)).transpose(0, 1)

    x = torch.randn(2, 3, 4)
    program = program_of(Turned(), x)
    emitted = emit(program, IPHONE_FP32, tmp_path)
    np.testing.assert_allclose(load(tmp_path / emitted.model)([x.numpy()])[0], Turned()(x).numpy(), rtol=1e-5)


def test_outputs_that_are_inputs_or_each_other(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y = x.relu()
            return x, y, y

    x = torch.randn(2, 3, 4)
    emitted = emit(program_of(Twice(), x), IPHONE_FP32, tmp_path)
    found = load(tmp_path / emitted.model)([x.numpy()])
    for got, want in zip(found, (x, x.relu(), x.relu()), strict=True):
        np.testing.assert_array_equal(got, want.numpy())


def test_the_graph_is_exported_under_its_own_names(program: Program) -> None:
    graph = exported(program, STYLE).graph_module.graph
    ours = [n.name for n in program.graph.nodes if n.op == "call_function" and "sym_size" not in n.name]
    theirs = [n.name for n in graph.nodes if n.op == "call_function"]
    assert [n for n in theirs if "_part" not in n] == ours


def test_in_eight_bits(net: nn.Module) -> None:
    data = [torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    artifact = fxc.compile(net, "iphone-int8", example_inputs=(X[:1],), calibration_data=data)
    (row,) = artifact.report["accuracy"]["outputs"]
    assert row["file_db"] > 25
    assert abs(row["file_db"] - row["graph_db"]) < 1
    assert artifact.report["kernels"]["mac_coverage"] == 1
    assert artifact.report["kernels"]["planned"]
    graph = artifact.program.run_flat(X)[0]
    assert sqnr_db(graph, artifact(X)) > 45  # what is left are biases in float16
    program = open_package(artifact.model).program
    assert [p.op for p in placed(program, ("add",)) if not p.why] == ["add"]
    scales = [n.args[1] for n in artifact.program.graph.nodes if "quantize.tensor" in str(n.target)]
    assert all(float(np.float16(s)) == s for s in scales)


def test_what_is_not_in_eight_bits_is_told(net: nn.Module) -> None:
    artifact = fxc.compile(
        net, "iphone-int8", example_inputs=(X[:1],), calibration_data=[X], keep_float=["right"]
    )
    notes = [n for n in artifact.manifest["notes"] if "stand between" in n or n.startswith("right")]
    assert notes[0].startswith("5 of 6 ")
    assert "its input comes from" in notes[1] or "its weight comes from" in notes[1]
    assert artifact.report["kernels"]["float_layers"] == ["right"]


@pytest.mark.parametrize(("name", "bar", "size"), [("iphone-w8", 35, 0.35), ("iphone-w4", 12, 0.3)])
def test_weights_in_few_bits(name: str, bar: float, size: float, net: nn.Module) -> None:
    artifact = fxc.compile(net, name, example_inputs=(X[:1],))
    assert artifact.report["accuracy"]["outputs"][0]["file_db"] > bar
    kinds = {kind for kind, _ in load(artifact.model).plan.operators}
    assert any(kind.startswith("constexpr_") for kind in kinds)
    assert any(note.startswith("weights: ") for note in artifact.manifest["notes"])
    weights = (artifact.model / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    assert weights < size * artifact.report["size"]["float_weights_bytes"]


@pytest.mark.parametrize("ios", ["15", "16", "17", "18"])
def test_every_ios(ios: str, net: nn.Module) -> None:
    artifact = fxc.compile(net, "iphone-fp16", example_inputs=(X[:1],), ios=ios)
    function = open_package(artifact.model).program.functions["main"]
    assert function.opset == f"CoreML{int(ios) - 10}"
    assert artifact.report["accuracy"]["outputs"][0]["file_db"] > 55


@pytest.mark.parametrize(
    ("target", "ios", "word"),
    [(IPHONE_INT8, "16", "iOS 17"), (IPHONE_W4, "17", "iOS 18"), (IPHONE_FP16, "14", "no operator set"), (IPHONE_FP16, "17.1", "no operator set")],
    ids=lambda v: getattr(v, "name", v),
)  # fmt: skip
def test_versions_that_cannot_be(target: fxc.Target, ios: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        narrow(target, {"ios": ios})


def test_lint_names_what_cannot_be_written() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 3, 2, 3, 0, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(self.up(x))

    found = [v for v in check(program_of(Odd(), torch.randn(2, 3, 4, 4)), IPHONE_FP16) if v.fatal]
    assert [v.layer for v in found] == ["up", "special_bessel_j0"]
    assert "output_padding" in found[0].rule


def test_windows_of_an_image_have_six_dimensions_on_the_way(tmp_path: Path) -> None:
    class Windows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            n, h, w, c = x.shape
            return x.view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)

    x = torch.rand(1, 4, 6, 3)
    program = program_of(Windows(), x)
    assert not [v for v in check(program, IPHONE_FP32) if v.fatal]
    emitted = emit(program, IPHONE_FP32, tmp_path)
    np.testing.assert_array_equal(load(tmp_path / emitted.model)([x.numpy()])[0], Windows()(x).numpy())


@pytest.mark.parametrize(
    ("layer", "x", "words"),
    [
        (nn.Conv2d(3, 4, 5, stride=5), torch.rand(1, 3, 20, 20), "stride of 5"),
        (nn.Conv2d(3, 4, 15), torch.rand(1, 3, 20, 20), "15 x 15"),
        (nn.Conv2d(3, 4, (3, 6)), torch.rand(1, 3, 20, 6), "last axis has size 1"),
        (nn.Conv2d(3, 4, 6, stride=6), torch.rand(1, 3, 18, 18), None),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3)), torch.rand(1, 3, 18, 18), "stride of 3"),
    ],
)
def test_lint_for_the_neural_engine(layer: nn.Module, x: Tensor, words: str | None) -> None:
    found = check(program_of(layer, x), IPHONE_FP16)
    assert not [v for v in found if v.fatal]
    assert len(found) == (words is not None)
    assert all(v.fix and str(words) in v.rule for v in found)
    assert check(program_of(layer, x), IPHONE_FP32) == []


def test_a_bundle_is_saved_loaded_and_noticed_when_damaged(net: nn.Module, tmp_path: Path) -> None:
    artifact = fxc.compile(net, "iphone-fp16", example_inputs=(X[:1],))
    artifact.save(tmp_path / "b")
    again = fxc.load(tmp_path / "b")
    torch.testing.assert_close(again(X), artifact(X))
    assert again.report["size"]["model_bytes"] == sum(
        f.stat().st_size for f in again.model.rglob("*") if f.is_file()
    )
    weights = tmp_path / "b/model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    weights.write_bytes(weights.read_bytes()[:-64])
    with pytest.raises(ArtifactError):
        fxc.load(tmp_path / "b")
    shutil.rmtree(weights.parent)
    with pytest.raises(ArtifactError):
        BlobFile(weights)


def test_targets_are_listed_without_torch() -> None:
    assert {t.name for t in TARGETS} <= {t.name for t in fxc.targets()}


def test_without_the_converter_it_lints_and_says_what_is_missing(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fxc.backends.coreml import toolchain

    monkeypatch.setattr(toolchain, "PACKAGE", "coremltools_that_is_not_there")
    assert not any(v.fatal for v in fxc.lint(net, "iphone-int8", example_inputs=(X[:1],)))
    with pytest.raises(ToolchainError, match="not installed") as caught:
        fxc.compile(net, "iphone-fp16", example_inputs=(X[:1],))
    assert "fxc[coreml]" in str(caught.value.fix)


def test_equal_constants_are_one(program: Program, tmp_path: Path) -> None:
    from coremltools.converters.mil.frontend.milproto.load import load as read

    package = open_package(tmp_path / emit(program, IPHONE_FP16, tmp_path).model)
    function = package.program.functions["main"]
    operations = function.block_specializations[function.opset].operations
    constants = [op for op in operations if op.type == "const"]
    contents = [(str(op.outputs[0].type), str(op.attributes["val"])) for op in constants]
    assert len(set(contents)) == len(contents)
    paddings = [op.inputs["pad"].arguments[0].name for op in operations if op.type == "conv"]
    assert len(set(paddings)) < len(paddings)
    # coremltools makes its own program of it, in which every reader finds its constant.
    again = read(
        package.spec,
        specification_version=package.spec.specificationVersion,
        file_weights_dir=str(package.folder / "weights"),
    )
    convolutions = [op for op in again.functions["main"].operations if op.op_type == "conv"]
    assert [list(op.pad.val) for op in convolutions] == [
        [1, 1, 1, 1],
        [1, 1, 1, 1],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]
