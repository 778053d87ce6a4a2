"""The pass ``low_rank``: a wide layer as two narrow ones, by singular values, where that saves work."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor
from fxc.compiler.errors import UsageError
from fxc.compiler.macs import LINEAR
from fxc.compiler.origin import label_of
from fxc.compiler.passbase import LOSSY, Pass, PassResult, Promise
from fxc.compiler.program import Program

aten = torch.ops.aten
_STRIDE, _PADDING, _DILATION, _GROUPS = 3, 4, 5, 6


@dataclass(frozen=True)
class LowRank(Pass):
    """Split linear layers and convolutions by a truncated singular value decomposition of their weight ``[out, in·kernel]``.

    linear(in -> out)  ->  linear(in -> rank), linear(rank -> out)
    conv(k×k, in -> out)  ->  conv(k×k, in -> rank), conv(1×1, rank -> out)

    Attributes:
        energy: share of the squared singular values that is kept, in (0, 1]; the rank follows.
        saves: the share of the multiply-accumulates that a split must save, in (0, 1); else the layer stays whole.
        protect: patterns of layers that stay whole.
    """

    name: ClassVar[str] = "low_rank"
    promise: ClassVar[Promise] = LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    energy: float = 0.9
    saves: float = 0.1
    protect: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 < self.energy <= 1.0:
            raise UsageError(
                f"energy must lie in (0, 1], got {self.energy!r}", why="it is the share that is kept"
            )
        if not 0.0 < self.saves < 1.0:
            raise UsageError(f"saves must lie in (0, 1), got {self.saves!r}")

    def apply(self, program: Program) -> PassResult:
        """Split what is worth it; each weight is decomposed once."""
        editor = Editor(program, self.name)
        for node in list(editor.graph.nodes):
            if self._fits(editor, node):
                self._split(editor, node)
        if not editor.modified:
            return PassResult(program, modified=False, notes=tuple(editor.notes))
        return PassResult(editor.finish(), modified=True, notes=tuple(editor.notes))

    def _fits(self, editor: Editor, node: fx.Node) -> bool:
        if node.target not in (*LINEAR, aten.conv2d.default) or any(
            fnmatchcase(label_of(node), p) for p in self.protect
        ):
            return False
        weight = node.args[1]
        if node.target is aten.conv2d.default and node.args[_GROUPS] != 1:
            return False
        return weight.op == "get_attr" and len(weight.users) == 1 and editor.tensor(weight).dim() > 1

    def _split(self, editor: Editor, node: fx.Node) -> None:
        weight = editor.tensor(node.args[1]).detach()
        rows = weight.flatten(1).double()
        u, s, v = torch.linalg.svd(rows, full_matrices=False)
        rank = int((s.square().cumsum(0) < self.energy * s.square().sum()).sum()) + 1
        cost = rank * sum(rows.shape) / rows.numel()
        if cost > 1.0 - self.saves:
            editor.note(f"stays whole: rank {rank} would cost {cost:.2f} of it", node=node)
            return
        root = s[:rank].sqrt()
        first = (root[:, None] * v[:rank]).to(weight.dtype).reshape(rank, *weight.shape[1:])
        second = (u[:, :rank] * root).to(weight.dtype).reshape(-1, rank, *(1 for _ in weight.shape[2:]))
        editor.note(f"split at rank {rank} of {min(rows.shape)}: {cost:.2f} of its cost", node=node)
        _rewrite(editor, node, first, second)


def _rewrite(editor: Editor, node: fx.Node, first: Tensor, second: Tensor) -> None:
    x, _, bias, *rest = node.args
    label = label_of(node)
    with editor.before(node):
        narrow = editor.constant(torch.nn.Parameter(first), f"{label}.first", origins=(node,))
        inner = editor.call(node.target, (x, narrow, None, *rest), origins=(node,), suffix=".first")
        wide = editor.constant(torch.nn.Parameter(second), f"{label}.second", origins=(node,))
        outer = editor.call(
            node.target, (inner, wide, bias, *_plain(node, rest)), origins=(node,), suffix=".second"
        )
    editor.replace(node, outer)


def _plain(node: fx.Node, rest: list[Any]) -> list[Any]:
    """The further arguments of a 1×1 convolution; a linear layer has none."""
    return [] if node.target in LINEAR else [[1, 1], [0, 0], [1, 1], 1]
