"""What a rule is: an id, a severity, and a function that finds the places which break it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from fxc.backends.tensorrt.checker.graph import Node, View

Severity = Literal["error", "slow"]
"""``error``: TensorRT refuses the file or computes something else. ``slow``: a layer falls to float or a fusion is lost."""


@dataclass(frozen=True)
class Finding:
    """One place that breaks one rule.

    Attributes:
        rule: the rule's id, ``"zero-point-value"``.
        node: name of the node (its first output where the file names no node), ``""`` for the whole file.
        tensor: the tensor it is about, ``""`` where it is about none.
        text: what is wrong there, and what TensorRT makes of it.
        severity: ``"error"`` or ``"slow"``.
    """

    rule: str
    node: str
    tensor: str
    text: str
    severity: Severity


@dataclass(frozen=True)
class Setting:
    """What the file is built with.

    Attributes:
        version: TensorRT's version, ``(10, 3)``.
        dla: whether it is built for the deep learning accelerator of a Jetson rather than for the GPU.
    """

    version: tuple[int, ...]
    dla: bool = False

    @property
    def strong(self) -> bool:
        """Whether every network is strongly typed: float parts run in the type written in the file."""
        return self.version >= (11,)


@dataclass(frozen=True)
class Place:
    """Where a rule is broken: the node (``None`` for the file), the tensor and the words."""

    node: Node | None
    tensor: str
    text: str


@dataclass(frozen=True)
class Rule:
    """One rule; its function's docstring names the source."""

    id: str
    severity: Severity
    find: Callable[[View, Setting], Iterator[Place]]
    when: Callable[[Setting], bool] = lambda setting: True

    def findings(self, view: View, setting: Setting) -> Iterator[Finding]:
        """Every place in the file that breaks this rule."""
        if not self.when(setting):
            return
        for place in self.find(view, setting):
            name = place.node.name if place.node else ""
            yield Finding(self.id, name, place.tensor, place.text, self.severity)


def on_gpu(setting: Setting) -> bool:
    """Rules about the GPU's kernels and fusions."""
    return not setting.dla


def on_dla(setting: Setting) -> bool:
    """Rules about the deep learning accelerator."""
    return setting.dla


def strongly_typed(setting: Setting) -> bool:
    """Rules about the types of float tensors, from TensorRT 11."""
    return setting.strong
