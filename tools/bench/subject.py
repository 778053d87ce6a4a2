"""The model that is measured, and the images that everyone gets."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxc.compiler.errors import UsageError
from fxc.tools.bench.plan import Plan
from fxc.tools.cli.models import load_model
from fxc.tools.cli.modelspec import parse_model
from fxc.tools.data.pyfile import call_user, load_attribute

_FACTORY = re.compile(r"(?P<path>.+\.py):(?P<name>\w+)(?:\((?P<argument>[\w./-]*)\))?")
_CALIBRATION_SEED, _HELD_OUT_SEED = 1, 2


@dataclass(frozen=True)
class Subject:
    """One model and its data.

    Attributes:
        name: without a file's path.
        model: in eval mode.
        example: [1, 3, resolution, resolution], float32.
        calibration, held_out: images of the same size, [n, 3, …].
        batch: how many images go through torch at once.
    """

    name: str
    model: nn.Module
    example: Tensor
    calibration: Tensor
    held_out: Tensor
    batch: int

    def batches(self) -> list[Tensor]:
        """The calibration images as a loader would give them."""
        return list(self.calibration.split(self.batch))

    @property
    def attention(self) -> bool:
        """Whether the model is a transformer, which NNCF wants to be told."""
        return any("attention" in type(m).__name__.lower() for m in self.model.modules())

    @property
    def weight_bytes(self) -> int:
        """Bytes of the float32 parameters."""
        return 4 * sum(p.numel() for p in self.model.parameters())


def subject(plan: Plan) -> Subject:
    """The plan's model and data; the global random state and number of threads are set by the plan.

    Raises:
        UsageError: an unknown model, a factory that fails, or a model that does not take one image.
    """
    torch.set_num_threads(plan.threads)
    torch.manual_seed(0)
    draw = _images(plan)
    calibration, held_out = draw(plan.images, _CALIBRATION_SEED), draw(plan.held_out, _HELD_OUT_SEED)
    name, model = _model(plan, calibration)
    return Subject(name, model, calibration[:1].clone(), calibration, held_out, plan.batch)


def images(n: int, resolution: int, seed: int = 0) -> Tensor:
    """Seeded images [n, 3, resolution, resolution], float32, each of mean 0 and deviation 1: shading and sensor noise."""
    rng = torch.Generator().manual_seed(seed)
    total = 0.15 * torch.randn(n, 3, resolution, resolution, generator=rng)
    for cells in (2, 4, 8, 16):
        coarse = torch.randn(n, 3, cells, cells, generator=rng)
        total += F.interpolate(coarse, (resolution, resolution), mode="bilinear") * (2.0 / cells)
    axes = (1, 2, 3)
    return (total - total.mean(axes, keepdim=True)) / total.std(axes, keepdim=True, correction=0)


def enliven(model: nn.Module, data: Tensor, batch: int, seed: int = 0) -> nn.Module:
    """Seeded values for every constant parameter, and batch-norm statistics of ``data``; in place, in eval mode.

    Fresh models are degenerate in places (zero heads, zero biases, identity norms, layer scales of 1e-6), where a wrong
    compile answers the same as a right one.
    """
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                if parameter.requires_grad and bool((parameter == parameter.flatten()[0]).all()):
                    _redraw(parameter, rng)
    measure_norms(model, data, batch)
    return model


def _redraw(parameter: nn.Parameter, rng: torch.Generator) -> None:
    noise = torch.randn(parameter.shape, generator=rng)
    if parameter.ndim >= 2 and float(parameter.flatten()[0]) == 0.0:
        parameter.copy_(noise * parameter[0].numel() ** -0.5)
    elif float(parameter.flatten()[0]) == 0.0:
        parameter.copy_(0.2 * noise)
    else:
        parameter.copy_((0.3 * noise).exp())


def measure_norms(model: nn.Module, data: Tensor, batch: int) -> None:
    """Set batch-norm statistics to plain averages over ``data``, in one pass; everything else runs in eval mode."""
    norms = [m for m in model.eval().modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    if norms:
        answers(model, data, batch)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()


def _images(plan: Plan) -> Callable[[int, int], Tensor]:
    if not plan.data:
        return lambda n, seed: images(n, plan.resolution, seed)
    path, name, _ = _taken_apart(plan.data)
    function = load_attribute(path, name)
    return lambda n, seed: cast(
        Tensor, call_user(path, name, lambda: function(n, plan.resolution, seed=seed)).float()
    )


def _model(plan: Plan, calibration: Tensor) -> tuple[str, nn.Module]:
    if not _FACTORY.fullmatch(plan.model):
        loaded = load_model(parse_model(f"torchvision:{plan.model.removeprefix('torchvision:')}"))
        return loaded.name, enliven(loaded.model, calibration, plan.batch)
    path, name, argument = _taken_apart(plan.model)
    factory = load_attribute(path, name)
    found = call_user(path, name, (lambda: factory(argument)) if argument else factory)
    model = found[0] if isinstance(found, tuple) else found
    if not isinstance(model, nn.Module):
        raise UsageError(f"{plan.model} gives a {type(model).__name__}, not an nn.Module")
    return argument or name, model.eval()


def _taken_apart(text: str) -> tuple[Path, str, str]:
    match = _FACTORY.fullmatch(text)
    if match is None or not Path(match["path"]).is_file():
        raise UsageError(
            f"{text!r} names no function in a file", fix="write file.py:name or file.py:name(argument)"
        )
    return Path(match["path"]), match["name"], match["argument"] or ""


def answers(model: Any, data: Tensor, batch: int) -> Tensor:
    """Outputs of the eager model over ``data``, [n, …]."""
    with torch.no_grad():
        return torch.cat([model(part) for part in data.split(batch)])
