"""Strides and kernels that the Neural Engine has no good form for, written with those that it has."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from fxc.backends.coreml.engine_lint import KERNEL, leftover
from fxc.compiler.editor import Editor
from fxc.compiler.passbase import CLOSE, Promise
from fxc.compiler.rule import RewritePass, Rule

aten = torch.ops.aten


class _Unshuffle(Rule):
    """conv2d(x, w, stride=s) -> conv2d(pixel_unshuffle(pad(x), s), w', stride=1)"""

    name = "unshuffled_stride"
    anchors = (aten.conv2d.default,)

    def match(self, node: fx.Node, editor: Editor) -> Any:
        """A stride not made of 2 and 3, or a large kernel that a stride divides."""
        kernel, stride = _kernel(node), _pair(node, 3)
        odd = any(leftover(s, (2, 3)) > 1 for s in stride)
        return node if odd or (max(kernel) > KERNEL and max(stride) > 1) else None

    def check(self, match: fx.Node, editor: Editor) -> str | None:
        """What a pixel unshuffle can stand for."""
        stride = _pair(match, 3)
        if stride[0] != stride[1]:
            return f"its strides are {stride[0]} and {stride[1]}"
        return _not_plain(match)

    def rewrite(self, match: fx.Node, editor: Editor) -> None:
        """The kernel is filled up with zeros to a multiple of the stride; so is the image."""
        x, weight, bias, stride, padding, _, groups = match.args
        step, kernel, out = stride[0], _kernel(match), match.meta["val"].shape[2:]  # type: ignore[index]
        blocks = [-(-k // step) for k in kernel]
        with editor.before(match):
            lengths = [step * (int(n) - 1 + b) for n, b in zip(out, blocks)]
            fitted = _fitted(editor, match, x, padding, lengths)
            apart = editor.call(
                aten.pixel_unshuffle.default, (fitted, step), origins=(match,), suffix=".unshuffled"
            )
            turned = _unshuffled(editor.tensor(weight), step, blocks)  # type: ignore[arg-type]
            made = editor.constant(turned, f"{weight.target}.unshuffled", origins=(match,))  # type: ignore[union-attr]
        editor.retarget(match, match.target, (apart, made, bias, [1, 1], [0, 0], [1, 1], groups))


def _unshuffled(weight: Tensor, step: int, blocks: Sequence[int]) -> Tensor:
    """``[O, C, h, w]`` as ``[O, C * step * step, h / step, w / step]``."""
    o, c, h, w = weight.shape
    full = F.pad(weight.detach(), (0, blocks[1] * step - w, 0, blocks[0] * step - h))
    apart = full.reshape(o, c, blocks[0], step, blocks[1], step).permute(0, 1, 3, 5, 2, 4)
    return apart.reshape(o, c * step * step, *blocks).contiguous()


def _fitted(editor: Editor, node: fx.Node, x: Any, padding: Any, lengths: Sequence[int]) -> fx.Node:
    """The image with its padding, cut or padded to ``lengths``."""
    widths: list[int] = []
    for axis, (before, length) in enumerate(zip(padding, lengths), 2):
        given = int(x.meta["val"].shape[axis])
        kept = min(given, length - before)
        if kept < given:
            x = editor.call(aten.slice.Tensor, (x, axis, 0, kept, 1), origins=(node,), suffix=".cut")
        widths = [before, length - before - kept, *widths]
    if not any(widths):
        return x  # type: ignore[no-any-return]
    return editor.call(aten.pad.default, (x, widths, "constant", 0.0), origins=(node,), suffix=".padded")


class _Split(Rule):
    """conv2d(x, w) -> the sum of conv2d(x shifted, a part of w)"""

    name = "split_kernel"
    anchors = (aten.conv2d.default,)

    def match(self, node: fx.Node, editor: Editor) -> Any:
        """A large kernel that takes single steps."""
        return node if max(_kernel(node)) > KERNEL and max(_pair(node, 3)) == 1 else None

    def check(self, match: fx.Node, editor: Editor) -> str | None:
        """As for strides."""
        return _not_plain(match)

    def rewrite(self, match: fx.Node, editor: Editor) -> None:
        """The parts read what they would within the whole kernel."""
        x, _, bias, _, padding, _, groups = match.args
        kernel, out = _kernel(match), [int(n) for n in match.meta["val"].shape[2:]]
        with editor.before(match):
            whole = _fitted(editor, match, x, padding, [n + k - 1 for n, k in zip(out, kernel)])
            parts = [
                _part(editor, match, whole, at, groups) for at in itertools.product(*map(_chunks, kernel))
            ]
            first, *rest = parts
            first.args = (*first.args[:2], bias, *first.args[3:])
            total = reduce(lambda a, b: _sum(editor, match, a, b), rest[:-1], first)
        editor.retarget(match, aten.add.Tensor, (total, rest[-1]))


def _part(editor: Editor, node: fx.Node, whole: fx.Node, at: Any, groups: Any) -> fx.Node:
    weight: Any = node.args[1]
    rows, columns = at
    value, source = editor.tensor(weight).detach(), whole
    for axis, (start, end), size in ((2, rows, value.shape[2]), (3, columns, value.shape[3])):
        stop = int(whole.meta["val"].shape[axis]) - (size - end)
        source = editor.call(
            aten.slice.Tensor, (source, axis, start, stop, 1), origins=(node,), suffix=".cut"
        )
    piece = value[:, :, slice(*rows), slice(*columns)].contiguous()
    made = editor.constant(piece, f"{weight.target}.part", origins=(node,))
    args = (source, made, None, [1, 1], [0, 0], [1, 1], groups)
    return editor.call(node.target, args, origins=(node,), suffix=".part")


def _sum(editor: Editor, node: fx.Node, a: fx.Node, b: fx.Node) -> fx.Node:
    return editor.call(aten.add.Tensor, (a, b), origins=(node,), suffix=".sum")


def _chunks(length: int) -> list[tuple[int, int]]:
    """Parts of a side, as even as can be."""
    count = -(-length // KERNEL)
    edges = [length * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


class _Pools(Rule):
    """max_pool2d(x, k, s) -> max_pool2d(max_pool2d(x, k1, 1), k2, s), k1 + k2 - 1 = k"""

    name = "split_max_pool"
    anchors = (aten.max_pool2d.default,)

    def match(self, node: fx.Node, editor: Editor) -> Any:
        """A large window."""
        return node if max(_pair(node, 1)) > KERNEL else None

    def check(self, match: fx.Node, editor: Editor) -> str | None:
        """Where the two see the same numbers as the one."""
        first = [min(k, KERNEL) for k in _pair(match, 1)]
        if any(2 * p > k for p, k in zip(_pair(match, 3), first)):
            return "its padding is wider than half of a smaller window"
        if _pair(match, 4) != (1, 1) or match.args[5]:
            return "it is dilated, or rounds its size up"
        return None

    def rewrite(self, match: fx.Node, editor: Editor) -> None:
        """As often as it takes."""
        x, _, stride, padding, _, _ = match.args
        rest = list(_pair(match, 1))
        with editor.before(match):
            while max(rest) > KERNEL:
                first = [min(k, KERNEL) for k in rest]
                args = (x, first, [1, 1], padding, [1, 1], False)
                x = editor.call(match.target, args, origins=(match,), suffix=".part")
                rest, padding = [k - f + 1 for k, f in zip(rest, first)], [0, 0]
        editor.retarget(match, match.target, (x, rest, stride, padding, [1, 1], False))


def _not_plain(node: fx.Node) -> str | None:
    weight: Any = node.args[1]
    if weight.op != "get_attr":
        return "its weight is computed"
    if _pair(node, 5) != (1, 1):
        return "it is dilated"
    sizes = (*node.meta["val"].shape[2:], *node.args[0].meta["val"].shape[2:])  # type: ignore[union-attr]
    return None if all(isinstance(n, int) for n in sizes) else "its image has no fixed size"


def _kernel(node: fx.Node) -> tuple[int, ...]:
    weight: Any = node.args[1]
    return tuple(int(k) for k in weight.meta["val"].shape[2:])


def _pair(node: fx.Node, index: int) -> tuple[int, int]:
    value: Any = node.args[index]
    return (int(value[0]), int(value[-1])) if isinstance(value, (tuple, list)) else (value, value)


@dataclass(frozen=True)
class EngineWindows(RewritePass):
    """Write strides not made of 2 and 3 by a pixel unshuffle, and large windows by several small ones.

    Attributes:
        split: also take large kernels of single steps apart. Not where sums are quantized.
    """

    name: ClassVar[str] = "engine_windows"
    promise: ClassVar[Promise] = CLOSE
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    split: bool = True

    def rule_table(self) -> tuple[Rule, ...]:
        """Those that are asked for."""
        return (_Unshuffle(), _Pools(), *((_Split(),) if self.split else ()))
