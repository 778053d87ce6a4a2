"""The operator corpus for ``jetson-int8``: both files legal by the rule checker, executed, and as good as the graph."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fxc
from fxc.backends.tensorrt.checker import check_file
from fxc.compiler.errors import LegalityError
from tests.conformance.case import Case
from tests.conformance.corpus import KINDS, corpus

REFUSED = frozenset({"index/pad_circular"})
"""Needs ONNX opset 19; TensorRT 8.x reads 17."""


def data_for(case: Case) -> list[tuple[Tensor, ...]]:
    """Two batches, floats around the case's own and everything else as it is; one where another size makes no sense."""
    if not case.batched:
        return [case.inputs]
    random = torch.Generator().manual_seed(0)
    other = tuple(
        torch.randn(x.shape, generator=random).to(x.dtype) if x.is_floating_point() else x
        for x in case.inputs
    )
    return [case.inputs, other]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_kind(kind: str) -> None:
    cases = {name: case for name, case in corpus().items() if name.startswith(f"{kind}/")}
    assert cases
    quantized = 0
    for name, case in cases.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                artifact = fxc.compile(
                    case.module,
                    "jetson-int8",
                    example_inputs=case.inputs,
                    calibration_data=data_for(case),
                    verify=False,
                )
            except LegalityError:
                assert name in REFUSED
                continue
        assert name not in REFUSED
        quantized += assert_legal(name, artifact)
    assert quantized > 0 or kind not in ("conv", "matmul")


def assert_legal(name: str, artifact: fxc.Artifact) -> bool:
    """Whether anything in it is quantized."""
    plain, typed = (Path(artifact.path) / file for file in ("model.onnx", "model.typed.onnx"))
    for file, version in ((plain, "8.5"), (plain, "10.3"), (typed, "11.4")):
        found = [f for f in check_file(file, tensorrt=version) if f.severity == "error"]
        assert found == [], (name, file.name, version)
    for row in artifact.report["accuracy"]["outputs"]:
        if row["graph_db"] is not None and not row.get("file"):
            assert row["lost_db"] <= 1.0, (name, row)
    return any("quantize" in str(node.target) for node in artifact.program.graph.nodes)
