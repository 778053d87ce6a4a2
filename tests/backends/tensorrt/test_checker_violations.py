"""Every rule of the checker finds its planted violation, at its place, and no other rule does."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fxc.backends.tensorrt.checker import RULES, Finding, check_file
from fxc.compiler.errors import ArtifactError, UsageError
from tests.backends.tensorrt import checker_edits as edit
from tests.backends.tensorrt.checker_cases import CASES, Case, Edit, more_groups
from tests.backends.tensorrt.checker_nets import (
    DLA,
    V85,
    V103,
    Build,
    Form,
    chain,
    grouped,
    product,
    residual,
)

SEVERITY = {rule.id: rule.severity for rule in RULES}


def judged(build: Build, form: Form, change: Edit, folder: Path) -> list[Finding]:
    """What the checker says of a net after a change."""
    model = build(form)
    change(model)
    onnx.save(model, folder / "net.onnx")
    return check_file(folder / "net.onnx", tensorrt=form.tensorrt, dla=form.dla)


@pytest.mark.parametrize("case", CASES, ids=[f"{c.rule}-{i}" for i, c in enumerate(CASES)])
def test_a_planted_violation_is_found_and_nothing_else(case: Case, tmp_path: Path) -> None:
    found = judged(case.build, case.form, case.edit, tmp_path)
    assert [(f.rule, f.node) for f in found] == [(case.rule, name) for name in case.at]
    assert {f.severity for f in found} == {SEVERITY[case.rule]}
    assert all(f.text for f in found)


def test_every_rule_has_a_planted_violation_and_a_source() -> None:
    assert {case.rule for case in CASES} == set(SEVERITY)
    assert len(SEVERITY) == len(RULES)
    sources = ("TensorRT", "NvInfer.h", "onnx-tensorrt", "ONNX", "NVIDIA")
    assert [r.id for r in RULES if not any(word in (r.find.__doc__ or "") for word in sources)] == []


@pytest.mark.parametrize("code", [-128, 127])
def test_every_code_of_a_weight_is_fine(code: int, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        edit.put(model, "conv2.weight", np.full((16, 16, 3, 3), code, np.int8))

    assert judged(chain, V103, change, tmp_path) == []


def test_a_convolution_before_an_addition_may_carry_the_unit_scale_on_the_accelerator(tmp_path: Path) -> None:
    assert judged(residual, DLA, lambda m: edit.rescale(m, "conv3", 1.0), tmp_path) == []
    found = judged(residual, DLA, lambda m: edit.rescale(m, "relu1", 1.0), tmp_path)
    assert {f.rule for f in found} == {"dla-operand-scale"}


def test_depthwise_and_narrow_layers_are_only_slow(tmp_path: Path) -> None:
    found = judged(grouped, V103, more_groups(16), tmp_path)
    assert [f.severity for f in found] == ["slow"]


def test_errors_come_first(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        edit.insert_pair(model, "conv2", "relu2")
        edit.put(model, "relu1.q.zero", np.int8(1))

    found = judged(chain, V85, change, tmp_path)
    assert [f.rule for f in found] == ["zero-point-value", "before-activation"]


def test_constants_may_come_from_nodes(tmp_path: Path) -> None:
    """Exporters write scales as ``Constant`` nodes, and cast them."""

    def change(model: onnx.ModelProto) -> None:
        value = helper.make_tensor("value", TensorProto.DOUBLE, [], [0.0625])
        edit.add(model, "relu1.q", "Constant", [], "wide", value=value)
        edit.add(model, "relu1.q", "Cast", ["wide"], "narrow", to=TensorProto.FLOAT)
        edit.wire(model, "relu1.q", 1, "narrow")

    assert judged(chain, V85, change, tmp_path) == []


def test_a_transposed_weight_is_followed_to_its_scales(tmp_path: Path) -> None:
    """``DequantizeLinear -> Transpose -> MatMul``, as PyTorch's exporter writes a linear layer."""

    def turn(axis: int) -> Edit:
        def change(model: onnx.ModelProto) -> None:
            edit.attribute(model, "query.weight.dq", axis=axis)
            edit.insert(model, "query.weight.dq", "matmul1", "Transpose", perm=[1, 0])

        return change

    assert judged(product, V103, turn(0), tmp_path) == []
    assert [f.rule for f in judged(product, V103, turn(1), tmp_path)] == ["weight-axis"]


def test_external_data_and_unnamed_nodes(tmp_path: Path) -> None:
    model = chain(V103)
    for node in model.graph.node:
        node.name = ""
    edit.put(model, "conv2.weight.dq.zero", np.eye(1, 16, 3, np.int8)[0])
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    found = check_file(tmp_path / "net.onnx", tensorrt="10.3")
    assert [(f.rule, f.node) for f in found] == [("zero-point-value", "conv2.weight.dq")]


def test_what_a_body_of_control_flow_reads_counts_as_read(tmp_path: Path) -> None:
    """The codes are read inside the branches of an ``If``: no dequantizer, but not dead either."""

    def change(model: onnx.ModelProto) -> None:
        made = helper.make_tensor_value_info("made", TensorProto.FLOAT, None)
        cast = helper.make_node("Cast", ["relu1.q"], ["made"], to=TensorProto.FLOAT)
        body = helper.make_graph([cast], "body", [], [made])
        edit.put(model, "yes", np.asarray(True))
        edit.add(model, "", "If", ["yes"], "new", then_branch=body, else_branch=body)
        edit.output(model, "new")

    found = judged(chain, V85, change, tmp_path)
    assert [(f.rule, f.node) for f in found] == [("read-codes", "new")]


@pytest.mark.parametrize("text", ["7.1", "ten", "10", "10.3.x", ""])
def test_a_version_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    onnx.save(chain(V85), tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="not a version"):
        check_file(tmp_path / "net.onnx", tensorrt=text)


def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"not a model at all")
    for name in ("net.onnx", "missing.onnx"):
        with pytest.raises(ArtifactError, match="cannot be read as ONNX"):
            check_file(tmp_path / name, tensorrt="10.3")
