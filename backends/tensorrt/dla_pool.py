"""Global pooling as a pool with a window, which the deep learning accelerator has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from fxc.backends.tensorrt.dla_legal import MAX_WINDOW
from fxc.compiler.editor import Editor
from fxc.compiler.passbase import CLOSE, Promise
from fxc.compiler.rule import RewritePass, Rule

aten = torch.ops.aten


class _Window(Rule):
    """adaptive_avg_pool2d(x[.., h, w], [1, 1]) -> avg_pool2d(x, [h, w], [h, w])"""

    name = "global_pool_window"
    anchors = (aten.adaptive_avg_pool2d.default,)

    def match(self, node: fx.Node, editor: Editor) -> Any:
        """Where all becomes one value and the sizes are known."""
        sizes = _sizes(node)
        return node if list(node.args[1]) == [1, 1] and all(isinstance(s, int) for s in sizes) else None  # type: ignore[arg-type]

    def check(self, match: fx.Node, editor: Editor) -> str | None:
        """The accelerator's largest window."""
        if max(_sizes(match)) > MAX_WINDOW:
            return f"the window is larger than {MAX_WINDOW} by {MAX_WINDOW}"
        return None

    def rewrite(self, match: fx.Node, editor: Editor) -> None:
        """The same node with another operator."""
        window = list(_sizes(match))
        editor.retarget(
            match, aten.avg_pool2d.default, (match.args[0], window, window, [0, 0], False, True, None)
        )


def _sizes(node: fx.Node) -> tuple[int, ...]:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return tuple(source.meta["val"].shape[-2:])


@dataclass(frozen=True)
class DlaPool(RewritePass):
    """Write global average pooling over small images as a pool with a window."""

    name: ClassVar[str] = "dla_pool"
    promise: ClassVar[Promise] = CLOSE
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    rules: ClassVar[tuple[Rule, ...]] = (_Window(),)
