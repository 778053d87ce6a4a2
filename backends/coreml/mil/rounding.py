"""In what precision results are: float32 throughout, or rounded to float16 where the program says float16."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fxc.backends.coreml.values import HELD

F16_MAX = 65504.0


@dataclass
class Rounding:
    """What is done to every result.

    Attributes:
        half: round results of type float16 to it, as a device that computes in float16 stores them.
        overflows: name of each operator whose result left float16's range, to how many of its numbers did.
    """

    half: bool = False
    overflows: dict[str, int] = field(default_factory=dict)

    def __call__(self, value: Any, dtype: str, name: str) -> Any:
        """``value`` as what the program calls ``dtype`` is held."""
        if not isinstance(value, Tensor) or dtype not in HELD:
            return value
        wanted = HELD[dtype]
        held = value if value.dtype is wanted else value.to(wanted)
        return self._rounded(held, name) if self.half and dtype == "float16" else held

    def _rounded(self, value: Tensor, name: str) -> Tensor:
        rounded = value.half().float()
        if not torch.isfinite(rounded).all():
            over = int((rounded.isinf() & value.isfinite()).sum())
            if over:
                self.overflows[name] = self.overflows.get(name, 0) + over
        return rounded
