"""Give a randomly initialised model weights that matter.

Fresh models are degenerate in places: torchvision zeroes the head of ViT and gives ConvNeXt a layer scale of 1e-6, biases are
zero, batch norms are identities. A compiler that drops such a part would pass every comparison. `liven` replaces what is
constant by seeded random values of useful size and measures batch-norm statistics on data.

Independent weights also make deep batch-normalised nets chaotic: rounding noise grows from layer to layer until the output
hardly depends on the image. Trained nets are not like that, so spatial kernels are made smoother and batch norms shift
their outputs a little to the positive side, where ReLUs are linear.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from tests.models.metrics import flat

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_NEGLIGIBLE_BIAS = 1e-3
_WEAK_GAIN, _STRONG_GAIN = 0.5, 2.0
_WEAK_TOKEN = 0.1

Batch = tuple[torch.Tensor, ...]


def liven(
    model: nn.Module, batches: Sequence[Batch], seed: int = 0, *, branch_gain: float = 1.0
) -> nn.Module:
    """Make every parameter of `model` matter, in place, and return it in eval mode.

    Args:
        model: any module; parameters that do not require a gradient (a detector's fixed bins) are left alone.
        batches: positional arguments for `forward`, one tuple per batch; batch-norm statistics average over all of them.
        seed: of the values drawn. Two calls on equal models give equal models.
        branch_gain: see `scale_branches`.

    Raises:
        AssertionError: the model, once alive, answers NaN or infinity.
    """
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad:
                    _liven_parameter(module, name, parameter, rng)
    scale_branches(model, branch_gain)
    measure_batch_norm(model, batches)
    with torch.no_grad():
        flat(model(*(argument[:1] for argument in batches[0])))
    return model


def residual_blocks(model: nn.Module) -> list[nn.Module]:
    """The inverted-residual blocks of torchvision's that add their input to their branch."""
    return [m for m in model.modules() if getattr(m, "use_res_connect", False) and hasattr(m, "block")]


def scale_branches(model: nn.Module, gain: float) -> None:
    """Multiply what each of `residual_blocks` adds to its input by `gain`, through its last batch norm's weight.

    Branches of unit size make each block amplify rounding noise a little. Over the 48 blocks of EfficientNet-B7, with a
    gate in each, that makes 800 times the relative noise at the input: no two ways of computing it agree. Training with
    stochastic depth leaves branches small; with 1 / sqrt(blocks) all of them together are of unit size.
    """
    if gain == 1.0:
        return
    for block in residual_blocks(model):
        norms = [m for m in block.get_submodule("block").modules() if isinstance(m, _BatchNorm)]
        with torch.no_grad():
            norms[-1].weight.mul_(gain)


def measure_batch_norm(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Set each batch norm's statistics to their plain average over `batches`; everything else stays in eval mode."""
    model.eval()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for batch in batches:
            model(*batch)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()


def _liven_parameter(module: nn.Module, name: str, p: nn.Parameter, rng: torch.Generator) -> None:
    if isinstance(module, _NORMS) and name == "weight":
        _liven_gain(p, rng)
    elif name.endswith("bias") and p.ndim == 1:
        _liven_bias(p, 0.3 if isinstance(module, _BatchNorm) else 0.0, rng)
    elif name.endswith("weight") and p.ndim >= 2:
        if isinstance(module, _ConvNd):
            _smooth_kernels(p)
        _liven_weight(p, _fan_in(module, p), rng)
    else:
        _liven_free(name, p, 1.0 if name.endswith("table") else 0.5, rng)


def _normal(p: torch.Tensor, std: float, rng: torch.Generator) -> torch.Tensor:
    return std * torch.randn(p.shape, generator=rng)


def _uniform(p: torch.Tensor, low: float, high: float, rng: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(p.shape, generator=rng)


def _is_constant(p: torch.Tensor) -> bool:
    return bool((p == p.flatten()[0]).all())


def _fan_in(module: nn.Module, weight: torch.Tensor) -> int:
    if isinstance(module, _ConvTransposeNd):
        return weight[:, 0].numel() // module.groups
    return weight[0].numel()


def _liven_gain(p: nn.Parameter, rng: torch.Generator) -> None:
    """Norm gains are log-normal around 1, as in trained nets: the widest channels reach the clamp of a ReLU6."""
    if _is_constant(p):
        p.copy_(_normal(p, 0.3, rng).exp())


def _liven_bias(p: nn.Parameter, mean: float, rng: torch.Generator) -> None:
    if _is_constant(p) or float(p.abs().max()) < _NEGLIGIBLE_BIAS:
        p.copy_(mean + _normal(p, 0.2, rng))


def _smooth_kernels(p: nn.Parameter) -> None:
    """Raise each spatial kernel's answer to a flat patch to about three times that to noise; the size stays."""
    dims = tuple(range(2, p.ndim))
    taps = p[0, 0].numel()
    if taps == 1:
        return
    rms = p.square().mean().sqrt()
    p.add_(p.sum(dims, keepdim=True).sign() * rms * 3.0 / taps**0.5)
    p.mul_(rms / p.square().mean().sqrt().clamp_min(1e-12))


def _liven_weight(p: nn.Parameter, fan_in: int, rng: torch.Generator) -> None:
    """Constant weights are drawn anew; a weight whose gain is far from 1 is scaled to gain 1.

    Without that, the attention of a fresh Swin (0.02-normal) is uniform and its GELUs see only their linear part, and the
    squeeze-excite gates of a fresh EfficientNet (fan-out start) swing so far that a bright image explodes.
    """
    if _is_constant(p):
        p.copy_(_normal(p, fan_in**-0.5, rng))
        return
    gain = float(p.square().mean().sqrt()) * fan_in**0.5
    if not _WEAK_GAIN <= gain <= _STRONG_GAIN:
        p.div_(gain)


def _liven_free(name: str, p: nn.Parameter, std: float, rng: torch.Generator) -> None:
    """Layer scales (a constant that is not zero), class tokens, position embeddings, relative position tables.

    A table is added to attention logits, whose deviation is about 1. A cosine attention's scale is a logarithm: its
    queries and keys count only if it stays around the log(10) at which it starts.
    """
    if name == "logit_scale":
        p.add_(_uniform(p, -0.7, 0.7, rng))
    elif _is_constant(p) and float(p.flatten()[0]) != 0.0:
        p.copy_(_uniform(p, 0.1, 1.0, rng))
    elif float(p.square().mean().sqrt()) < _WEAK_TOKEN:
        p.copy_(_normal(p, std, rng))
