"""Core ML's evaluator, which is ours, against Core AI's runtime, which is Apple's, on the same programs in float32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxc.backends.coreml import emit as coreml_emit
from fxc.backends.coreml import run as coreml_run
from fxc.backends.coreml.target import IPHONE_FP32, IPHONE_INT8
from fxc.compiler.capture import capture
from fxc.compiler.program import Program
from fxc.passes.pipelines import optimize
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.insert import InsertQDQ
from tests.backends.coreai.together import Case, together
from tests.models.metrics import sqnr_db

pytest.importorskip("coremltools")
pytestmark = [pytest.mark.usefixtures("core_ai"), pytest.mark.slow]

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Residual(nn.Module):
    """A residual block, a concat and pools."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.left, self.right = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        y = torch.relu(x + self.left(x))
        return self.head(torch.cat([y, self.right(x)], 1).mean((2, 3)))


class Gated(nn.Module):
    """An inverted residual with squeeze-excite, HardSwish and SiLU, and an enlarging by two interpolations."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.deep = nn.Conv2d(3, 24, 1), nn.Conv2d(24, 24, 5, 2, 2, groups=24)
        self.down, self.up, self.out = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1), nn.Conv2d(24, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.deep(F.hardswish(self.expand(x))))
        x = x * F.hardsigmoid(self.up(F.relu6(self.down(F.adaptive_avg_pool2d(x, 1)))))
        x = self.out(F.leaky_relu(x, 0.1))
        return F.interpolate(
            F.interpolate(x, scale_factor=2), size=(24, 20), mode="bilinear", align_corners=False
        )


class Attention(nn.Module):
    """A transformer's block on patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 32, 4, 4), nn.LayerNorm(32)
        self.qkv, self.project, self.mlp = nn.Linear(32, 96), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).reshape(-1, 16, 3, 4, 8).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, 16, 32)
        x = x + self.project(mixed)
        return (x + F.gelu(self.mlp(self.norm(x)))).softmax(-1)


NETS = (Residual, Gated, Attention)


def program_of(kind: type[nn.Module]) -> Program:
    torch.manual_seed(0)
    module = kind()
    module(torch.randn(16, 3, 16, 16))
    program = capture(module.eval(), (X,))
    for step in optimize():
        program = step.apply(program).program
    return program


def quantized(program: Program) -> Program:
    scheme = IPHONE_INT8.scheme
    assert scheme is not None
    annotated = Annotate(scheme).apply(program).program
    statistics = calibrate(annotated, [(X,)])
    return InsertQDQ(scheme.share_ratio, scheme.mix_signs, statistics).apply(annotated).program


def test_float_and_eight_bits(tmp_path: Path) -> None:
    floats = [program_of(kind) for kind in NETS]
    coded = [quantized(program) for program in floats]
    theirs = together([Case(p, [X.numpy()]) for p in (*floats, *coded)], tmp_path)
    exact = replace(IPHONE_INT8, precision="fp32")
    for number, (program, answer) in enumerate(zip((*floats, *coded), theirs)):
        assert not isinstance(answer, str), answer
        folder = tmp_path / f"coreml_{number}"
        folder.mkdir()
        target = IPHONE_FP32 if number < len(floats) else exact
        emitted = coreml_emit.emit(program, target, folder)
        (ours,) = coreml_run.load(folder / emitted.model)([X.numpy()])
        # In eight bits a sum in another order may move a code by one.
        bar = 100 if number < len(floats) else 45
        assert sqnr_db(torch.from_numpy(answer[0]), torch.from_numpy(ours)) > bar, NETS[number % len(NETS)]
