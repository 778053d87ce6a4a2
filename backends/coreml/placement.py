"""What a program's products run on: which convolutions, linears and sums stand between dequantize and quantize."""

from __future__ import annotations

from typing import Any

from fxc.compiler.backend import Kernel


def kernels(program: Any) -> list[Kernel]:
    """Every operator that multiplies."""
    return []
