"""Calibration images without data: drawn to match the statistics that the model's batch norms remember.

Each batch norm knows mean and variance of its input over the training set. Images are optimised so that, in the float
model, every norm sees those statistics (Cai et al., "ZeroQ", CVPR 2020). A model without batch norms gets seeded
images with the spectrum of natural ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from fxc.compiler.program import InputSpec, Program

aten = torch.ops.aten
IMAGES = 8
STEPS = 12
_LEARNING_RATE = 0.2


def synthesize(
    program: Program, *, images: int = IMAGES, steps: int = STEPS, seed: int = 0
) -> tuple[list[Any], str]:
    """Calibration batches made from the model itself.

    Args:
        program: canonical, with its batch norms still in the graph.
        images: number of samples.
        steps: optimisation steps on the batch-norm loss.
        seed: of the starting images.

    Returns:
        Batches of flat inputs (tuples), and the sentence that the report shows.
    """
    # The caller may compile under no_grad or inference_mode; the loss needs gradients of the images.
    with torch.inference_mode(False), torch.enable_grad():
        return _synthesized(program, images, steps, seed)


def _synthesized(program: Program, images: int, steps: int, seed: int) -> tuple[list[Any], str]:
    start = _seeded(program, images, seed)
    count = images if _dynamic(program) else len(start)
    norms = sum(_remembers(n) for n in program.graph.nodes)
    floats = [x for batch in start for x in batch if x.is_floating_point()]
    why = "the model has no batch norms" if not norms else "its inputs are not floating point"
    if norms and floats and steps > 0:
        if _optimised(program, start, floats, steps):
            return [tuple(x.detach() for x in batch) for batch in start], (
                f"no calibration data given: ranges come from {count} images synthesised to match the statistics of "
                f"{norms} batch norms"
            )
        start = _seeded(program, images, seed)
        why = "its batch norms cannot be matched by moving its inputs"
    return start, f"no calibration data given and {why}: ranges come from {count} seeded images"


def _seeded(program: Program, images: int, seed: int) -> list[Any]:
    """One batch where the batch size is free; else as many calls as hold ``images`` samples together."""
    calls = 1
    if not _dynamic(program):
        shape = program.tensor_inputs[0].shape if program.tensor_inputs else ()
        calls = max(1, math.ceil(images / max(1, int(shape[0]) if shape else 1)))
    inputs = program.tensor_inputs
    return [
        tuple(
            seeded_input(spec, _count(spec, images), seed + i + call * len(inputs))
            for i, spec in enumerate(inputs)
        )
        for call in range(calls)
    ]


def _dynamic(program: Program) -> bool:
    return any(isinstance(d, str) for spec in program.tensor_inputs for d in spec.shape[:1])


def _optimised(program: Program, start: list[Any], floats: list[Tensor], steps: int) -> bool:
    """Move ``floats``, in place, towards the norms' statistics; whether that could be done."""
    for x in floats:
        x.requires_grad_(True)
    optimizer = torch.optim.Adam(floats, lr=_LEARNING_RATE)
    loss_of = _NormLoss(program.graph_module)
    for _ in range(steps):
        loss = loss_of(start)
        if not loss.requires_grad:
            return False
        # An input that no batch norm sees has no gradient, and stays the seeded image that it is.
        for x, gradient in zip(floats, torch.autograd.grad(loss, floats, allow_unused=True)):
            x.grad = gradient
        optimizer.step()
    return all(bool(torch.isfinite(x.detach()).all()) for x in floats)


def seeded_input(spec: InputSpec, count: int, seed: int) -> Tensor:
    """A seeded input that fits ``spec``; a 4-D float input gets image-like content, mean 0 and deviation 1.

    Natural images have an amplitude spectrum that falls as 1/f (Field 1987); white noise has none of their smooth
    areas, and ranges found with it are too small.
    """
    shape = [
        count if i == 0 and isinstance(d, str) else (d if isinstance(d, int) else 1)
        for i, d in enumerate(spec.shape)
    ]
    rng = np.random.default_rng(seed)
    dtype = getattr(torch, spec.dtype)
    if not dtype.is_floating_point:
        return torch.from_numpy(rng.integers(0, 2, shape)).to(dtype)
    noise = rng.standard_normal(shape)
    if len(shape) == 4 and min(shape[2:]) > 1:
        noise = _natural(noise)
    return torch.from_numpy(noise).to(dtype)


def _natural(noise: np.ndarray) -> np.ndarray:
    height, width = noise.shape[-2:]
    fy, fx_ = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.maximum(np.sqrt(fy**2 + fx_**2), 1.0 / max(height, width))
    image = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=(height, width))
    axes = (1, 2, 3)
    return (image - image.mean(axes, keepdims=True)) / (image.std(axes, keepdims=True) + 1e-12)


def _count(spec: InputSpec, images: int) -> int:
    return images if spec.shape and isinstance(spec.shape[0], str) else 1


def _remembers(node: fx.Node) -> bool:
    """Whether ``node`` is a batch norm with statistics of its own (``track_running_stats``)."""
    return node.op == "call_function" and node.target is aten.batch_norm.default and node.args[3] is not None


class _NormLoss(fx.Interpreter):
    """Squared distance between each norm's remembered statistics and those of its present inputs."""

    def __init__(self, graph_module: fx.GraphModule):
        super().__init__(graph_module)
        self.seen: list[_Seen] = []

    def __call__(self, batches: list[tuple[Tensor, ...]]) -> Tensor:
        """The loss over all ``batches`` together: a batch of one alone has no variance to match."""
        runs = [self._run(batch) for batch in batches]
        return torch.stack([term for norm in zip(*runs) for term in _terms(norm)]).sum()

    def _run(self, batch: tuple[Tensor, ...]) -> list[_Seen]:
        self.seen = []
        self.run(*batch, enable_io_processing=False)
        return self.seen

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Detached: the user's parameters take no part in the backward pass and get no gradients.
        value = super().get_attr(target, args, kwargs)
        return value.clone() if value.is_inference() else value.detach()

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is aten.batch_norm.default and args[3] is not None:
            x, mean, var = args[0], args[3], args[4]
            axes = [i for i in range(x.dim()) if i != 1]
            self.seen.append(_Seen(x.mean(axes), x.var(axes, unbiased=False), mean, (var + 1e-5).sqrt()))
        return super().call_function(target, args, kwargs)


@dataclass(frozen=True)
class _Seen:
    """One norm in one run: mean and variance of its input, and the mean and deviation that it remembers."""

    mean: Tensor
    var: Tensor
    wanted_mean: Tensor
    wanted_deviation: Tensor


def _terms(norm: tuple[_Seen, ...]) -> tuple[Tensor, Tensor]:
    """Relative errors of mean and deviation, from runs of equal size (the law of total variance)."""
    means = torch.stack([seen.mean for seen in norm])
    var = torch.stack([seen.var for seen in norm]).mean(0) + means.var(0, unbiased=False)
    mean, deviation = norm[0].wanted_mean, norm[0].wanted_deviation
    return (
        (((means.mean(0) - mean) / deviation) ** 2).mean(),
        (((var + 1e-8).sqrt() / deviation - 1.0) ** 2).mean(),
    )
