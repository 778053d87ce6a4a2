"""MIL's end of a classifier."""

from __future__ import annotations

from torch import Tensor

from fxc.backends.coreml.mil.operator import Values


def classify(probabilities: Tensor, classes: Values) -> tuple[object, dict[object, float]]:
    """The likeliest class, and the number of every class."""
    scores = probabilities.flatten()
    return classes[int(scores.argmax())], dict(zip(classes, scores.tolist()))


OPERATORS = (classify,)
