"""A random model as plain data, and the module that runs it.

Values are numbered: the inputs first, then the results of the steps in order. The text of a :class:`Spec` is the Python
that makes it, so a failure can be pasted into a test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tests.random.op import Params
from tests.random.table import OPS

ROWS = 3
"""Samples that a model is judged on; other batches are cut from them."""


@dataclass(frozen=True)
class Input:
    """One input: its shape without the batch.

    Attributes:
        kind: ``"normal"``, ``"positive"`` (both float32) or ``"whole"`` (int64 from 0 to 9).
        layout: ``"contiguous"`` or ``"channels_last"``, of the tensor that the model is captured with.
    """

    shape: tuple[int, ...]
    kind: str = "normal"
    layout: str = "contiguous"


@dataclass(frozen=True)
class Step:
    """One operator.

    Attributes:
        key: names the step and seeds its weights; it stays the same when other steps are taken away.
        reads: numbers of the values it reads.
        shares: key of an earlier step whose module it uses.
        ties: key of an earlier step whose weight tensor it uses, beside a bias of its own.
    """

    key: int
    op: str
    reads: tuple[int, ...]
    params: Params = field(default_factory=dict)
    shares: int | None = None
    ties: int | None = None


@dataclass(frozen=True)
class Spec:
    """A random model.

    Attributes:
        outputs: numbers of the values it returns; more than one make a tuple.
        batch: samples it is captured with.
        dynamic: whether its batch is dynamic; if not, it runs with ``batch`` samples only.
        seed: of weights and inputs.
    """

    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    batch: int = 2
    dynamic: bool = True
    seed: int = 0

    def rows(self, first: int = 0, count: int = ROWS) -> tuple[Tensor, ...]:
        """``count`` samples of every input; the same ones on every call."""
        return tuple(self._rows(i)[first : first + count] for i in range(len(self.inputs)))

    def _rows(self, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        spec = self.inputs[index]
        shape = (2 * ROWS, *spec.shape)
        if spec.kind == "whole":
            return torch.randint(0, 10, shape, generator=generator)
        x = torch.randn(shape, generator=generator)
        x = x.abs() + 0.05 if spec.kind == "positive" else x
        last = spec.layout == "channels_last" and x.dim() == 4
        return x.contiguous(memory_format=torch.channels_last) if last else x

    def text(self) -> str:
        """Python that makes this."""
        return "\n".join(
            [
                "Spec(",
                f"    inputs=({', '.join(map(repr, self.inputs))},),",
                "    steps=(",
                *(f"        {_step_text(step)}," for step in self.steps),
                "    ),",
                f"    outputs={self.outputs},",
                f"    batch={self.batch}, dynamic={self.dynamic}, seed={self.seed},",
                ")",
            ]
        )


def _step_text(step: Step) -> str:
    extra = f", shares={step.shares}" if step.shares is not None else ""
    extra += f", ties={step.ties}" if step.ties is not None else ""
    params = f", {step.params}" if step.params else ""
    return f"Step({step.key}, {step.op!r}, {step.reads}{params}{extra})"


class Net(nn.Module):
    """Runs a spec."""

    def __init__(self, spec: Spec):
        super().__init__()
        self.spec = spec
        self.layers = nn.ModuleDict()
        for step in spec.steps:
            add_module(self.layers, step, spec.seed)
        self.eval()

    def forward(self, *inputs: Tensor) -> Any:
        values: list[Any] = list(inputs)
        for step in self.spec.steps:
            values.extend(run_step(self.layers, step, [values[i] for i in step.reads]))
        found = tuple(values[i] for i in self.spec.outputs)
        return found if len(found) > 1 else found[0]


def add_module(layers: nn.ModuleDict, step: Step, seed: int) -> None:
    """Give a step its module, if its operator has one; the global random state is left as it was."""
    make = OPS[step.op].make
    if make is None or step.shares is not None:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_number(f"{seed} {step.key}"))
        module = make(**step.params).eval()
        fill(module)
    if step.ties is not None:
        module.weight = layers[str(step.ties)].weight
    layers[str(step.key)] = module


def run_step(layers: nn.ModuleDict, step: Step, operands: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The results of one step."""
    op = OPS[step.op]
    key = step.key if step.shares is None else step.shares
    module = (layers[str(key)],) if op.make is not None else ()
    found = op.run(*module, *operands, **step.params)
    return (found,) if isinstance(found, Tensor) else tuple(found)


def fill(module: nn.Module) -> None:
    """Values of useful size: weights that keep the size of what they multiply, norms that do something."""
    for child in module.modules():
        for name, tensor in (*child.named_parameters(recurse=False), *child.named_buffers(recurse=False)):
            with torch.no_grad():
                _fill(child, name, tensor)


def _fill(module: nn.Module, name: str, tensor: Tensor) -> None:
    if name == "running_mean":
        tensor.normal_().mul_(0.4)
    elif name == "running_var":
        tensor.uniform_(0.5, 2.0)
    elif not tensor.is_floating_point():
        return
    elif tensor.dim() >= 2 and not name.startswith(("table", "bias")):
        per_output = tensor[0].numel() if not hasattr(module, "output_padding") else tensor[:, 0].numel()
        tensor.normal_().mul_(1.2 / max(1, per_output) ** 0.5)
    elif name.endswith("weight") or name == "gamma":
        tensor.uniform_(0.5, 1.5).mul_(torch.where(torch.rand(tensor.shape) < 0.15, -1.0, 1.0))
    else:
        tensor.normal_().mul_(0.3)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
