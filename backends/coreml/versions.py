"""What a model is made for: which iOS, which batches, the Neural Engine; and what its file says of it. Data; torch-free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from fxc.compiler.errors import UsageError
from fxc.compiler.target import Target

KNOWN = ("15", "16", "17", "18")
"""Versions whose operator sets coremltools writes, and that the evaluator was tested with."""

ABOUT = ("author", "license", "description", "version")
"""What a Core ML file says of its model."""

_REASONS = {
    "16": "compressed weights came with iOS 16",
    "17": "quantize and dequantize came with iOS 17",
    "18": "four-bit weights with scales of their own came with iOS 18",
}


class Batches(NamedTuple):
    """Batch sizes that a file takes.

    Attributes:
        usual: the one that it has if nothing is said.
        sizes: every one that it takes, or the least and the largest.
        ranged: which of the two.
    """

    usual: int
    sizes: tuple[int, ...]
    ranged: bool = False


def narrow(target: Target, given: Mapping[str, str]) -> Target:
    """``target`` for one iOS, the oldest that the file runs on; for given batches, for the Neural Engine; with labels and metadata.

    Raises:
        UsageError: a version that is not known, or that lacks what the target's precision needs; sizes that are none;
            too few labels, or one twice; metadata that the format has not.
    """
    if {"labels", "batches"} <= set(given):
        raise UsageError("a classifier has a batch of 1", fix="leave the labels or the batches out")
    checks = {"ios": _ios, "batches": _batches, "labels": _labels, "about": _about}
    for word, value in given.items():
        if word in checks:
            checks[word](target, value)
    said = ", ".join(_SAID[word].format(value) for word, value in given.items() if word in _SAID)
    return replace(
        target,
        options={**target.options, **given},
        made_for=said,
        notes=f"{target.notes}; made for {said}" if said else target.notes,
    )


_SAID = {"ios": "iOS {} and newer", "ane": "the Neural Engine", "batches": "batches of {}"}


def _ios(target: Target, ios: str) -> None:
    if ios not in KNOWN:
        raise UsageError(f"there is no operator set for iOS {ios!r}", fix=f"one of {', '.join(KNOWN)}")
    oldest = target.options["oldest"]
    if int(ios) < int(oldest):
        raise UsageError(
            f"{target.name} cannot be made for iOS {ios}",
            why=_REASONS.get(oldest),
            fix=f"--ios {oldest} or newer, or iphone-fp16",
        )


def _batches(target: Target, text: str) -> None:
    parsed_batches(text)


def parsed_batches(text: str) -> Batches:
    """``"1,4,8"`` or ``"1..8"``.

    Raises:
        UsageError: anything else, or sizes that are not positive and different.
    """
    ranged = ".." in text
    parts = text.split("..") if ranged else text.split(",")
    sizes = tuple(int(p) for p in parts if p.strip().isdecimal())
    good = len(sizes) == len(parts) and min(sizes) > 0 and len(set(sizes)) == len(sizes) > 1
    if not good or (ranged and (len(sizes) != 2 or sizes[0] > sizes[1])):
        raise UsageError(
            f"batches {text!r} are no sizes of a batch",
            fix="1,4,8 for some of which the first is the usual one; 1..8 for all between",
        )
    return Batches(sizes[0], sizes, ranged)


def _labels(target: Target, text: str) -> None:
    labels = json.loads(text)
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if len(labels) < 2 or twice:
        what = f"the label {twice[0]!r} is given twice" if twice else "a classifier has two classes or more"
        raise UsageError(what, fix="one name for each class, in the order of the scores")


def _about(target: Target, text: str) -> None:
    for word in json.loads(text):
        if word not in ABOUT:
            raise UsageError(f"about: a Core ML model has no {word!r}", fix=f"one of {', '.join(ABOUT)}")
