"""What pruning must know about Acme's operators: which channels of what they make are which of what they read."""

import torch
from torch import fx

import acme_fxc.ops  # noqa: F401  registers the operators
from fxc.passes.prune.atoms import Dims
from fxc.passes.prune.flow import Flow, Rule, same, tensor_argument


def flip_channels(flow: Flow, node: fx.Node) -> Dims:
    """Dimension 1 from its end to its start."""
    dims = flow.of(tensor_argument(node))
    flipped = None if dims[1] is None else dims[1][::-1]
    return (dims[0], flipped, *dims[2:])


PRUNING = {
    torch.ops.acme.soft_gate.default: Rule(same),
    torch.ops.acme.flip_channels.default: Rule(flip_channels),
}
