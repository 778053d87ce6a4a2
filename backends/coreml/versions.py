"""Which iOS a model is for. Data, and the one function that reads it; torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fxc.compiler.errors import UsageError
from fxc.compiler.target import Target

KNOWN = ("15", "16", "17", "18")
"""Versions whose operator sets coremltools writes, and that the evaluator was tested with."""

_REASONS = {
    "16": "compressed weights came with iOS 16",
    "17": "quantize and dequantize came with iOS 17",
    "18": "four-bit weights with scales of their own came with iOS 18",
}


def narrow(target: Target, given: Mapping[str, str]) -> Target:
    """``target`` for one iOS: the oldest that the file runs on.

    Raises:
        UsageError: a version that is not known, or that lacks what the target's precision needs.
    """
    ios = given["ios"]
    if ios not in KNOWN:
        raise UsageError(f"there is no operator set for iOS {ios!r}", fix=f"one of {', '.join(KNOWN)}")
    oldest = target.options["oldest"]
    if int(ios) < int(oldest):
        raise UsageError(
            f"{target.name} cannot be made for iOS {ios}",
            why=_REASONS.get(oldest),
            fix=f"--ios {oldest} or newer, or iphone-fp16",
        )
    said = f"iOS {ios} and newer"
    return replace(
        target,
        options={**target.options, "ios": ios},
        made_for=said,
        notes=f"{target.notes}; made for {said}",
    )
