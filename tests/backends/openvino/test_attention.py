"""Attention for ``cpu-int8``: its first product on integers in OpenVINO, and the same numbers in two runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxc.backends.openvino import emit, run
from fxc.backends.openvino.passes import pipeline
from fxc.backends.openvino.target import CPU_FP32, CPU_INT8, SCHEME
from fxc.backends.ort import run as ort
from fxc.backends.ort.target import ORT_INT8
from fxc.compiler.capture import capture
from fxc.compiler.origin import label_of
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.passes.pipelines import optimize
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.insert import InsertQDQ
from fxc.proof import sqnr_db
from tests.conformance.case import Fn

BIAS = torch.randn(9, 9, generator=torch.Generator().manual_seed(5))
MASK = torch.ones(9, 9, dtype=torch.bool).tril()
MASK[3] = False
NINE = ((2, 3, 9, 8),) * 3


def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As Swin Transformer writes it: the query scaled first, a bias, the heads put together at once."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT + BIAS
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


CASES: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "plain": (F.scaled_dot_product_attention, ((2, 2, 50, 64),) * 3),
    "one query": (F.scaled_dot_product_attention, ((2, 4, 1, 8), (2, 4, 17, 8), (2, 4, 17, 8))),
    "odd sizes": (F.scaled_dot_product_attention, ((3, 2, 5, 33), (3, 2, 70, 33), (3, 2, 70, 20))),
    "as many heads as tokens": (F.scaled_dot_product_attention, ((2, 4, 4, 8),) * 3),
    "causal": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), NINE),
    "bias and scale": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, BIAS, scale=0.2), NINE),
    "mask with an empty row": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, MASK), NINE),
    "mask of an input": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, q[..., :1] > 0), NINE),
    "by hand": (by_hand, NINE),
    "three dimensions": (lambda q, k, v: torch.bmm(torch.bmm(q, k.mT).softmax(-1), v), ((6, 9, 8),) * 3),
}


def quantized(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Program, Program]:
    """The float program, legal for the target, and the quantized one."""
    program = run_pipeline(capture(model.eval(), inputs), (*optimize(), *pipeline(CPU_INT8)))
    annotated = run_pipeline(program, (Annotate(SCHEME),))
    statistics = calibrate(annotated, [inputs])
    return program, run_pipeline(annotated, (InsertQDQ(statistics=statistics),))


@pytest.mark.parametrize("name", CASES)
def test_only_the_product_of_queries_and_keys_is_integer(name: str, tmp_path: Path) -> None:
    function, shapes = CASES[name]
    rng = torch.Generator().manual_seed(0)
    inputs = tuple(torch.randn(shape, generator=rng) for shape in shapes)
    program, coded = quantized(Fn(function), inputs)
    graph = coded.run_flat(*inputs)[0]
    noise = sqnr_db(program.run_flat(*inputs)[0], graph)
    assert noise is not None
    # Eight bits keep about 40 dB; a graph without any quantizer would be exact.
    assert 35.0 < noise < 60.0
    emitted = emit.emit(coded, CPU_INT8, tmp_path)
    arrays = [x.numpy() for x in inputs]
    runner = run.load(tmp_path / emitted.model, CPU_INT8, threads=1)
    for found in (runner, ort.load(tmp_path / emitted.model, ORT_INT8, threads=1)):
        np.testing.assert_allclose(found(arrays)[0], graph.numpy(), atol=2e-5)
    assert [kernel.integer for kernel in runner.kernels()] == [True, False]


def test_the_layers_around_it_and_their_names(tmp_path: Path) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
            self.out = nn.Linear(32, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.attention(x, x, x, need_weights=False)[0])

    torch.manual_seed(0)
    x = torch.randn(2, 11, 32)
    _, coded = quantized(Block(), (x,))
    emitted = emit.emit(coded, CPU_INT8, tmp_path)
    runner = run.load(tmp_path / emitted.model, CPU_INT8, threads=1)
    runner([x.numpy()])
    kernels = {kernel.layer: kernel.integer for kernel in runner.kernels()}
    attention = "attention.scaled_dot_product_attention"
    assert kernels[f"{attention}.matmul"]
    assert not kernels[attention]
    others = [integer for layer, integer in kernels.items() if not layer.startswith(attention)]
    assert others == [True] * 3
    (reason,) = (n.text for n in coded.notes if n.kind == "float" and n.layer == attention)
    assert "softmax" in reason
    assert attention in {label_of(node) for node in coded.graph.nodes}


def test_a_float_target_keeps_attention_whole() -> None:
    assert pipeline(CPU_FP32) == ()
