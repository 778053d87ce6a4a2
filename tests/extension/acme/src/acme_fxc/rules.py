"""What Acme knows about its operators."""

import torch
from torch import fx

import acme_fxc.ops  # noqa: F401  registers the operators
from fxc.compiler.editor import Editor
from fxc.compiler.rule import Rule, producer, sole_user

FLIP = torch.ops.acme.flip_channels.default


class DoubleFlip(Rule):
    """flip_channels(flip_channels(x)) -> x"""

    name = "double_flip"
    anchors = (FLIP,)

    def match(self, node: fx.Node, editor: Editor) -> fx.Node | None:
        """The inner flip."""
        return node if producer(node.args[0], FLIP) is not None else None

    def check(self, match: fx.Node, editor: Editor) -> str | None:
        """Only where nothing else reads the inner flip: else it stays and nothing is saved."""
        inner = match.args[0]
        return None if sole_user(inner) is match else "the inner flip has another reader"

    def rewrite(self, match: fx.Node, editor: Editor) -> None:
        """Both go."""
        inner = match.args[0]
        editor.replace(match, inner.args[0])
        editor.erase(inner)


RULES = (DoubleFlip(),)
