"""What quantization *is* for one tensor, and what a target's scheme says of an operator. Data only, no torch.

A :class:`QuantSpec` describes how one tensor is coded. A :class:`QuantScheme` says which operators take which specs
on input, weight, bias and output, which tensors share one scale, and what stays in float with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

OBSERVERS = ("minmax", "moving_average", "percentile", "mse", "entropy", "auto")
_INT_BITS = {"int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "int32": 32, "int4": 4, "uint4": 4}

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
MOVES = ("reshape", "permute", "squeeze", "unsqueeze", "select", "slice", "upsample_nearest2d")
"""What copies values and computes none, on every target; a target adds what its own runtime has."""

ACTIVATIONS = (
    "relu",
    "hardtanh",
    "clamp",
    "leaky_relu",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "mish",
    "sigmoid",
    "silu",
    "tanh",
)
"""Canonical operator names, for the rules of schemes."""

Observer = Literal["minmax", "moving_average", "percentile", "mse", "entropy", "auto"]


@dataclass(frozen=True)
class QuantSpec:
    """How one tensor is coded as integers.

    Attributes:
        dtype: integer type by name (``"uint8"``); codes lie in ``[qmin, qmax]``, both inclusive.
        symmetric: the zero point is fixed (0 for signed types, the middle of the range for unsigned ones).
        one_sided: of a symmetric spec of an unsigned type: a tensor without negative numbers has its zero at the lowest code.
        axis: channel axis of a per-channel spec, ``None`` for per tensor.
        scale_kind: ``"any"`` float32, ``"pow2"`` (power of two) or ``"f16"`` (a float16, where the file holds such).
        observer: how the range is found from data; ``percentile`` is its parameter in percent, ``auto`` the best of the
            others by measurement.
        fixed: ``(scale, zero_point)`` when the range is known without data (a sigmoid's).
    """

    dtype: str = "uint8"
    qmin: int = 0
    qmax: int = 255
    symmetric: bool = False
    one_sided: bool = False
    axis: int | None = None
    scale_kind: Literal["any", "pow2", "f16"] = "any"
    observer: Observer = "minmax"
    percentile: float = 99.99
    fixed: tuple[float, int] | None = None

    def __post_init__(self) -> None:
        if self.dtype not in _INT_BITS:
            raise ValueError(f"unknown integer dtype {self.dtype!r}; known: {', '.join(_INT_BITS)}")
        if self.observer not in OBSERVERS:
            raise ValueError(f"unknown observer {self.observer!r}; known: {', '.join(OBSERVERS)}")
        if self.qmin >= self.qmax:
            raise ValueError(f"empty code range [{self.qmin}, {self.qmax}]")

    @property
    def bits(self) -> int:
        """Storage width in bits."""
        return _INT_BITS[self.dtype]

    @property
    def signed(self) -> bool:
        """Whether codes may be negative by type."""
        return self.dtype.startswith("int")

    @property
    def zero(self) -> int:
        """Zero point of a symmetric spec, for a tensor that has negative numbers."""
        return 0 if self.signed else (self.qmin + self.qmax + 1) // 2

    def zero_for(self, low: float) -> int:
        """Zero point of a symmetric spec for a tensor whose smallest number is ``low``."""
        return self.qmin if self.one_sided and low >= 0.0 else self.zero

    def but(self, **changes: object) -> QuantSpec:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


U8 = QuantSpec()
I8 = QuantSpec(dtype="int8", qmin=-128, qmax=127, symmetric=True)
I8_WEIGHT = QuantSpec(dtype="int8", qmin=-127, qmax=127, symmetric=True, axis=0)


@dataclass(frozen=True)
class OpRule:
    """What a target does with one kind of operator.

    Attributes:
        ops: canonical operator names, ``"conv2d"``: the packet names of ATen after canonicalization.
        kind: when the operator runs on integers. ``"mac"``: always. ``"join"``: when every data operand comes from an
            integer producer (a residual add between convolutions, not one between float normalisations).
            ``"follow"``: when its input is integer and no other reader needs that input in float.
            ``"carry"``: always, whatever its input is: it moves values, the toolchain moves quantizers across it, and none
            is put around it.
        inputs: spec of the data inputs; of a product of two tensors (``"mac"`` without ``weight``) also where a producer
            would give them another.
        inputs_after: producer's operator name to the spec used instead of ``inputs``.
        float_after: producer's operator name to the reason why an operator that reads its numbers stays in float.
        weight: spec of a constant weight, per channel along ``axis``.
        bias: ``"int32"`` behind a dequantize with scale ``s_x * s_w``, or ``"float"``.
        output: spec that the output (after fused activations) always gets; ``None``: where a reader wants it. A ``"follow"``
            with one does not ask what else reads its input.
        share: input and output carry one scale (max-pool, reshape, concat).
        share_operands: of a ``"join"``, its operands carry one scale, whatever their ranges, and the result another (a unit
            that adds codes as they are).
        absorbs: of a ``"join"``, operators whose kernels add the other operand before they requantize: the result of one
            of them that nobody else reads is not coded.
        fuses: activation operators that may sit between this operator and its output's quantizer.
        yields: the output counts as integer for the joins and followers that read it.
        min_rank, max_rank: ranks of the first input that this rule holds for.
    """

    ops: tuple[str, ...]
    kind: Literal["mac", "join", "follow", "carry"] = "mac"
    inputs: QuantSpec | None = None
    inputs_after: dict[str, QuantSpec] = field(default_factory=dict)
    float_after: dict[str, str] = field(default_factory=dict)
    weight: QuantSpec | None = None
    bias: Literal["int32", "float"] = "float"
    output: QuantSpec | None = None
    share: bool = False
    share_operands: bool = False
    absorbs: tuple[str, ...] = ()
    fuses: tuple[str, ...] = ()
    yields: bool = True
    min_rank: int = 0
    max_rank: int = 99


@dataclass(frozen=True)
class QuantScheme:
    """The quantization habits of one target.

    Attributes:
        name: for reports.
        rules: first rule that matches an operator (name and rank) applies.
        fixed_output: operator name to ``(low, high)`` of its known output range.
        keep_float: operator name to the reason why it stays in float on this target.
        share_ratio: a shared scale is split where the branches' ranges differ by more than this factor.
        mix_signs: whether non-negative and signed branches may share one scale. Where a runtime drops a ReLU only if the
            quantizer behind it has its zero at the lowest code, they may not.
    """

    name: str
    rules: tuple[OpRule, ...] = ()
    fixed_output: dict[str, tuple[float, float]] = field(default_factory=dict)
    keep_float: dict[str, str] = field(default_factory=dict)
    share_ratio: float = 4.0
    mix_signs: bool = True

    @property
    def bias(self) -> str:
        """What a layer that gets a bias is given: ``"int32"`` where any layer has such a one, else ``"float"``."""
        return "int32" if any(r.bias == "int32" for r in self.rules) else "float"

    def text(self) -> str:
        """The name, for a pass's text form."""
        return self.name

    def rule_for(self, op: str, rank: int) -> OpRule | None:
        """The rule for operator ``op`` whose first input has ``rank`` dimensions."""
        return next((r for r in self.rules if op in r.ops and r.min_rank <= rank <= r.max_rank), None)
