"""The user's words on quantization, from a YAML file and from flags; the flags win."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from fxc.compiler.config import QuantConfig
from fxc.compiler.quant import Observer


def quantization(
    file: Path | None,
    keep_float: Sequence[str] | None,
    observer: str | None,
    percentile: float | None,
    equalize: bool | None = None,
    bias_correction: str | None = None,
) -> QuantConfig:
    """One config of both.

    Raises:
        UsageError: an unreadable file, an unknown word or a value out of range.
    """
    flags = QuantConfig(
        observer=cast("Observer | None", observer),
        percentile=percentile,
        keep_float=tuple(keep_float or ()),
        equalize=equalize,
        bias_correction=bias_correction,
    )
    return QuantConfig.read(file).merged(flags) if file is not None else flags
