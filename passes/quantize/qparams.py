"""From a range to scale and zero point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fxc.compiler.errors import CalibrationError
from fxc.compiler.quant import QuantSpec

SMALLEST_SCALE = 2.0**-40
"""Floor for scales: far below any useful step, and the product of two is still a normal float32."""

_SMALLEST_F16 = 2.0**-24


@dataclass(frozen=True)
class QParams:
    """Scale (a float32 value) and zero point of a per-tensor quantizer."""

    scale: float
    zero_point: int


def qparams(low: float, high: float, spec: QuantSpec) -> QParams:
    """Scale and zero point whose codes cover ``[low, high]``.

    Affine specs (ONNX QuantizeLinear, "data range includes zero"): ``scale = (high - low) / (qmax - qmin)`` and
    ``zero_point = round(qmin - low / scale)``. Symmetric ones: ``scale = max|x| / (codes above the zero)``. The range is
    widened to contain 0, which is always represented exactly. A constant zero tensor gets scale 1.

    Raises:
        CalibrationError: the range is not finite.
    """
    if spec.fixed is not None:
        return QParams(float(np.float32(spec.fixed[0])), spec.fixed[1])
    if not np.isfinite([low, high]).all():
        raise CalibrationError(f"the observed range [{low}, {high}] is not finite")
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return QParams(1.0, spec.zero if spec.symmetric else _clip(0, spec))
    if spec.symmetric:
        zero = spec.zero_for(low)
        scale = max(high / (spec.qmax - zero), -low / max(zero - spec.qmin, 1))
        return QParams(_step(scale, spec), zero)
    scale = _step((high - low) / (spec.qmax - spec.qmin), spec)
    # In float32 as ONNX DynamicQuantizeLinear does, so that a symmetric range meets the same tie.
    zero_point = np.rint(np.float32(spec.qmin) - np.float32(low) / np.float32(scale))
    return QParams(scale, _clip(int(zero_point), spec))


def _clip(code: int, spec: QuantSpec) -> int:
    return min(max(code, spec.qmin), spec.qmax)


def _step(scale: float, spec: QuantSpec) -> float:
    scale = max(scale, SMALLEST_SCALE)
    if spec.scale_kind == "pow2":
        scale = 2.0 ** np.ceil(np.log2(scale))
    if spec.scale_kind == "f16":
        scale = min(max(float(np.float16(scale)), _SMALLEST_F16), 65504.0)
    return float(np.float32(scale))


def weight_scales(weight: Tensor, spec: QuantSpec) -> Tensor:
    """Scales of a constant weight: float32 ``[channels]`` along ``spec.axis``, or 0-d for a per-tensor spec.

    ``scale = max|w| / qmax``. A channel of zeros takes the largest scale of the others, so that its bias still has
    codes to be written in; a weight that is all zeros takes scale 1.
    """
    magnitude = channel_maxima(weight, spec)
    scale = (magnitude.double() / spec.qmax).to(torch.float32)
    dead = magnitude == 0
    fallback = scale.max() if float(magnitude.max()) > 0 else torch.tensor(1.0)
    return rounded_up(torch.where(dead, fallback, scale).clamp_min(SMALLEST_SCALE), spec)


def rounded_up(scales: Tensor, spec: QuantSpec) -> Tensor:
    """``scales``, or the next powers of two or float16 numbers where ``spec`` asks for them; float32."""
    if spec.scale_kind == "f16":
        half = scales.half()
        up = torch.where(half.float() < scales, torch.nextafter(half, torch.full_like(half, torch.inf)), half)
        return up.float().clamp(_SMALLEST_F16, 65504.0)
    return torch.exp2(torch.ceil(torch.log2(scales))) if spec.scale_kind == "pow2" else scales


def channel_maxima(weight: Tensor, spec: QuantSpec) -> Tensor:
    """Largest magnitude of each channel along ``spec.axis``, ``[channels]``; of the whole tensor (0-d) without axis."""
    magnitude = weight.detach().abs()
    if spec.axis is None:
        return magnitude.amax()
    return magnitude.movedim(spec.axis, 0).reshape(weight.shape[spec.axis], -1).amax(dim=1)
