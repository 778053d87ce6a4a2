"""A program as an ordinary ``nn.Module``: trainable, with the model's parameter names."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn

from fxc.compiler.program import OWN_STATE, Program

_TRAINING_ARGUMENT = {
    torch.ops.aten.batch_norm.default: 5,
    torch.ops.aten.dropout.default: 2,
    torch.ops.aten.feature_dropout.default: 2,
    torch.ops.aten.alpha_dropout.default: 2,
}
"""Position of the literal that says whether the operator trains."""


class ProgramModule(nn.Module):
    """Runs a program's graph; ``train()`` and ``eval()`` switch its batch norms and dropouts.

    Parameters are shared with the program, and their names are the model's. Inputs and outputs have the model's own
    structure.
    """

    _runner: fx.GraphModule
    _program: Program

    def __init__(self, program: Program):
        super().__init__()
        self.__dict__["_program"] = program
        self._adopt(_live_training_flag(program.graph_module))
        self.training = False

    def _adopt(self, runner: fx.GraphModule) -> None:
        own = getattr(runner, OWN_STATE, None)
        if isinstance(own, nn.Module):
            own._non_persistent_buffers_set.update(own._buffers)
        # One set of dictionaries for both modules: what .to() or load_state_dict() changes here, the runner sees.
        self._parameters, self._buffers, self._modules = runner._parameters, runner._buffers, runner._modules
        self.__dict__["_runner"] = runner

    def __deepcopy__(self, memo: dict[int, Any]) -> ProgramModule:
        """A module with parameters of its own, to train apart from the program."""
        new = ProgramModule.__new__(ProgramModule)
        memo[id(self)] = new
        apart = ("_runner", "_program", "_parameters", "_buffers", "_modules")
        new.__dict__.update({k: copy.deepcopy(v, memo) for k, v in self.__dict__.items() if k not in apart})
        new.__dict__["_program"] = self._program
        new._adopt(copy.deepcopy(self._runner, memo))
        return new

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run on the model's own arguments.

        Raises:
            InputError: wrong structure, count, shape or dtype.
        """
        flat = self._program.flatten(args, kwargs)
        self._runner.training = self.training
        return self._program.unflatten(self._runner(*flat))


def _live_training_flag(graph_module: fx.GraphModule) -> fx.GraphModule:
    graph = fx.Graph()
    graph.output(graph.graph_copy(graph_module.graph, {}))
    nodes = [n for n in graph.nodes if n.op == "call_function" and _switches(n)]
    if nodes:
        with graph.inserting_before(next(iter(graph.nodes))):
            flag = graph.get_attr("training")
        for node in nodes:
            node.update_arg(_TRAINING_ARGUMENT[node.target], flag)
    return fx.GraphModule(graph_module, graph)


def _switches(node: fx.Node) -> bool:
    """Whether ``train()`` concerns the node: one that trains even in inference mode stays as the model has it."""
    place = _TRAINING_ARGUMENT.get(node.target)  # type: ignore[arg-type]
    return place is not None and node.args[place] is False
