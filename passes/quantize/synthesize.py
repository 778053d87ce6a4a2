"""Calibration images without data: drawn to match the statistics that the model's batch norms remember.

Each batch norm knows mean and variance of its input over the training set. Images are optimised so that, in the float
model, every norm sees those statistics (Cai et al., "ZeroQ", CVPR 2020). A model without batch norms gets seeded
images with the spectrum of natural ones.
"""

from __future__ import annotations

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
    start = [
        seeded_input(spec, _count(spec, images), seed + i) for i, spec in enumerate(program.tensor_inputs)
    ]
    norms = [
        n for n in program.graph.nodes if n.op == "call_function" and n.target is aten.batch_norm.default
    ]
    floats = [x for x in start if x.is_floating_point()]
    if not norms or not floats or steps == 0:
        why = "the model has no batch norms" if not norms else "its inputs are not floating point"
        return [tuple(start)], f"no calibration data given and {why}: ranges come from {images} seeded images"
    for x in floats:
        x.requires_grad_(True)
    optimizer = torch.optim.Adam(floats, lr=_LEARNING_RATE)
    loss_of = _NormLoss(program.graph_module)
    for _ in range(steps):
        for x, gradient in zip(floats, torch.autograd.grad(loss_of(start), floats)):
            x.grad = gradient
        optimizer.step()
    done = tuple(x.detach() for x in start)
    if not all(bool(torch.isfinite(x).all()) for x in done if x.is_floating_point()):
        done = tuple(
            seeded_input(s, _count(s, images), seed + i) for i, s in enumerate(program.tensor_inputs)
        )
    return [done], (
        f"no calibration data given: ranges come from {images} images synthesised to match the statistics of "
        f"{len(norms)} batch norms"
    )


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


class _NormLoss(fx.Interpreter):
    """Squared distance between each norm's remembered statistics and those of its present input."""

    def __init__(self, graph_module: fx.GraphModule):
        super().__init__(graph_module)
        self.terms: list[Tensor] = []

    def __call__(self, inputs: list[Tensor]) -> Tensor:
        self.terms = []
        self.run(*inputs, enable_io_processing=False)
        return torch.stack(self.terms).sum()

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Detached: the user's parameters take no part in the backward pass and get no gradients.
        value = super().get_attr(target, args, kwargs)
        return value.clone() if value.is_inference() else value.detach()

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is aten.batch_norm.default:
            x, mean, var = args[0], args[3], args[4]
            axes = [i for i in range(x.dim()) if i != 1]
            deviation = (var + 1e-5).sqrt()
            self.terms.append((((x.mean(axes) - mean) / deviation) ** 2).mean())
            self.terms.append(((x.var(axes, unbiased=False).add(1e-8).sqrt() / deviation - 1.0) ** 2).mean())
        return super().call_function(target, args, kwargs)
