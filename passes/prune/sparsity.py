"""Single weights at zero: by magnitude, at random, in blocks, or n of every m along the input channels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxc.compiler.errors import UsageError
from fxc.compiler.macs import CONVOLUTIONS, LINEAR
from fxc.compiler.origin import label_of
from fxc.compiler.program import Program
from fxc.passes.prune.masks import with_masks, without_masks

_GROUPS = 6


@dataclass(frozen=True)
class Pattern:
    """Which weights go.

    Attributes:
        ratio: share of the weights of every layer, in [0, 1); not read where ``of`` is given.
        keep, of: of every ``of`` weights that follow each other along the input channels, ``keep`` stay: 2 and 4 for the sparse
            kernels of NVIDIA's Ampere and later (structured sparsity, TensorRT developer guide).
        block: outputs and inputs that go together.
        criterion: ``magnitude`` or ``random``.
        seed: of the random criterion.
    """

    ratio: float = 0.5
    keep: int = 0
    of: int = 0
    block: tuple[int, int] = (1, 1)
    criterion: str = "magnitude"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.ratio < 1.0:
            raise UsageError(f"ratio must lie in [0, 1), got {self.ratio!r}")
        if self.of and not 0 < self.keep < self.of:
            raise UsageError(f"{self.keep}:{self.of} is no pattern", fix="2:4 keeps two of every four")
        if self.of and self.block != (1, 1):
            raise UsageError("a pattern n:m has no blocks", fix="leave block out")
        if not _is_block(self.block):
            raise UsageError(f"block takes two positive integers, got {self.block!r}", fix="block=(4, 1)")
        if self.criterion not in ("magnitude", "random"):
            raise UsageError(f"unknown criterion {self.criterion!r}", fix="magnitude or random")

    @staticmethod
    def parse(given: float | str, **options: Any) -> Pattern:
        """``0.7`` or ``"2:4"`` as a pattern.

        Raises:
            UsageError: neither.
        """
        if isinstance(given, str) and (match := re.fullmatch(r"(\d+):(\d+)", given)):
            return Pattern(keep=int(match[1]), of=int(match[2]), **options)
        if isinstance(given, (int, float)) and not isinstance(given, bool):
            return Pattern(ratio=float(given), **options)
        raise UsageError(f"{given!r} is no pattern", fix='a ratio such as 0.7, or "2:4"')

    def mask(self, weight: Tensor) -> Tensor | str:
        """Which entries of ``weight`` ``[out, in, …]`` stay, ``bool``; or why it has none."""
        if self.of:
            return self._n_of_m(weight)
        rows, columns = self.block
        if weight.shape[0] % rows or weight.shape[1] % columns:
            return f"{weight.shape[0]} x {weight.shape[1]} channels do not divide into blocks of {rows} x {columns}"
        scores = self._scores(weight)
        blocks = scores.unflatten(1, (-1, columns)).unflatten(0, (-1, rows)).sum((1, 3))
        stays = _largest(blocks.flatten(), blocks.numel() - int(blocks.numel() * self.ratio)).reshape(
            blocks.shape
        )
        return stays.repeat_interleave(rows, 0).repeat_interleave(columns, 1)

    def _n_of_m(self, weight: Tensor) -> Tensor | str:
        if weight.shape[1] % self.of:
            return f"{weight.shape[1]} input channels are no multiple of {self.of}"
        parts = self._scores(weight).unflatten(1, (-1, self.of))
        best = parts.topk(self.keep, dim=2).indices
        return torch.zeros_like(parts, dtype=torch.bool).scatter_(2, best, True).flatten(1, 2)

    def _scores(self, weight: Tensor) -> Tensor:
        if self.criterion == "magnitude":
            return weight.detach().abs()
        return torch.rand(weight.shape, generator=torch.Generator().manual_seed(self.seed))


def _largest(values: Tensor, count: int) -> Tensor:
    stays = torch.zeros(values.shape, dtype=torch.bool)
    stays[values.argsort(descending=True, stable=True)[:count]] = True
    return stays


@dataclass(frozen=True)
class Sparse:
    """A program some of whose weights are hidden by masks.

    Attributes:
        program: the masked one, with parameters of its own; trained, its masks hold.
        masks: by parameter, ``bool``.
        left: layers without a mask, with the reason.
    """

    program: Program
    masks: dict[str, Tensor]
    left: dict[str, str]

    def module(self) -> nn.Module:
        """The masked program as an ordinary module, to be trained."""
        return self.program.module()

    def finish(self) -> Program:
        """The program with its hidden weights at zero and no masks: what is compiled."""
        return without_masks(self.program)

    def density(self) -> dict[str, float]:
        """By parameter the share of weights that are not zero, as they are now."""
        finished = self.finish()
        return {name: float(finished.tensor(name).detach().ne(0).double().mean()) for name in self.masks}


def sparsified(program: Program, pattern: Pattern, protect: Sequence[str] = ()) -> Sparse:
    """Hide weights of every convolution and linear layer.

    Args:
        program: left as it is.
        pattern: which weights go.
        protect: layer patterns that keep all.

    Raises:
        UsageError: a pattern matches no layer.
    """
    known = [label_of(node) for node, _ in weighted(program)]
    for name in protect:
        if not any(fnmatchcase(label, name) for label in known):
            raise UsageError(f"no layer with weights matches {name!r}", fix='protect=["head*"]')
    masks: dict[str, Tensor] = {}
    left: dict[str, str] = {}
    for node, weight in weighted(program):
        found = (
            "protected"
            if any(fnmatchcase(label_of(node), p) for p in protect)
            else _mask_of(program, node, pattern)
        )
        if isinstance(found, str):
            left[label_of(node)] = found
        else:
            masks[str(weight.target)] = found
    return Sparse(with_masks(program, masks), masks, left)


def _is_block(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and all(isinstance(n, int) and n > 0 for n in given)


def _mask_of(program: Program, node: fx.Node, pattern: Pattern) -> Tensor | str:
    if node.target in CONVOLUTIONS and node.args[_GROUPS] != 1 and pattern.of:
        return "a grouped convolution has no sparse kernel"
    return pattern.mask(program.tensor(str(node.args[1].target)))  # type: ignore[union-attr]


def weighted(program: Program) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Every convolution and linear layer whose weight is a parameter with two or more axes, and that parameter."""
    for node in program.graph.nodes:
        if node.target in (*CONVOLUTIONS, *LINEAR):
            weight = node.args[1]
            if isinstance(weight, fx.Node) and weight.op == "get_attr" and weight.meta["val"].dim() > 1:
                yield node, weight


def illegal(program: Program, keep: int = 2, of: int = 4) -> dict[str, str]:
    """Layers whose weights do not fit the pattern, with the reason: empty for a program that a sparse kernel takes whole."""
    found: dict[str, str] = {}
    for node, weight in weighted(program):
        values = program.tensor(str(weight.target)).detach()
        if values.shape[1] % of:
            found[label_of(node)] = f"{values.shape[1]} input channels are no multiple of {of}"
        elif int((worst := values.unflatten(1, (-1, of)).ne(0).sum(2)).max()) > keep:
            share = float((worst > keep).double().mean())
            found[label_of(node)] = f"{share:.1%} of its groups of {of} have more than {keep} weights"
    return found
