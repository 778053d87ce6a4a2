"""Small programs made by hand for the dump's tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from fxc.compiler.origin import Origin, set_origin
from fxc.compiler.program import InputSpec, OutputSpec, Program

aten = torch.ops.aten


class Maker:
    """Builds a program node by node; names are given, values are computed on fake tensors."""

    def __init__(self, tensors: dict[str, torch.Tensor] | None = None, name: str = "hand") -> None:
        self.graph, self.name, self.tensors = fx.Graph(), name, tensors or {}
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.x = self.graph.placeholder("x")
        self.x.meta["val"] = self._fake(torch.empty(1, 4, 8, 8))

    def _fake(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.mode.from_tensor(tensor.detach())

    def tensor(self, path: str) -> fx.Node:
        """A ``get_attr`` node."""
        node = self.graph.create_node("get_attr", path, name=path.replace(".", "_"))
        node.meta["val"] = self._fake(self.tensors[path])
        return node

    def call(
        self, target: Any, *args: Any, name: str, layer: str | None = None, source: str | None = None
    ) -> fx.Node:
        """A ``call_function`` node with its value and origin."""
        node = self.graph.create_node("call_function", target, args, {}, name=name)
        values = fx.map_arg(args, lambda n: n.meta["val"])
        with self.mode:
            node.meta["val"] = target(*values)
        set_origin(node, Origin(layer or name, (layer,) if layer else (), source))
        return node

    def done(self, *outputs: fx.Node) -> Program:
        """The program with these outputs."""
        self.graph.output(outputs)
        module = fx.GraphModule(self.tensors, self.graph)
        shapes = [(o.name, tuple(o.meta["val"].shape)) for o in outputs]
        return Program(
            module,
            (InputSpec("x", (1, 4, 8, 8), "float32"),),
            tuple(OutputSpec(name, shape, "float32") for name, shape in shapes),
            pytree.tree_structure(((0,), {})),
            pytree.tree_structure(0),
            name=self.name,
            example_inputs=(torch.zeros(1, 4, 8, 8),),
        )


def conv_bn_relu(tensors: dict[str, torch.Tensor], *, norm: bool, relu: Any = aten.relu.default) -> Program:
    """conv -> [batch norm] -> relu over shared tensors."""
    make = Maker({k: v for k, v in tensors.items() if norm or not k.startswith("bn")})
    y = make.call(
        aten.conv2d.default,
        make.x,
        make.tensor("block.conv.weight"),
        None,
        [1, 1],
        [1, 1],
        name="conv",
        layer="block.conv",
    )
    if norm:
        held = [make.tensor(f"bn.{n}") for n in ("weight", "bias", "mean", "var")]
        y = make.call(
            aten.batch_norm.default, y, *held, False, 0.1, 1e-5, True, name="norm", layer="block.bn"
        )
    return make.done(make.call(relu, y, name="act", layer="block.act", source="net.py:7  y = self.act(y)"))


def conv_tensors() -> dict[str, torch.Tensor]:
    """What :func:`conv_bn_relu` reads."""
    held = {f"bn.{n}": torch.ones(4) for n in ("weight", "bias", "mean", "var")}
    return {"block.conv.weight": torch.randn(4, 4, 3, 3), **held}
