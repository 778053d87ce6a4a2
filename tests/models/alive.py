"""The guard of the test models: each weight must matter to the output, or a broken compile of it would pass unseen."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tests.models.metrics import assert_not_vanishing, flat

MIN_MOVE = 1e-3


def assert_alive(model: nn.Module, x: Any, *, min_move: float = MIN_MOVE) -> None:
    """Fail where the output vanishes, or where zeroing one weight moves it by less than `min_move`, relative in L2.

    Args:
        model: in eval mode. Each weight costs one forward, so keep the batch at 1 and the image small.
        x: the input tensor, or a tuple of positional arguments.

    Raises:
        AssertionError: with the name of each dead layer and how far it moved the output.
    """
    dead = dead_layers(model, x, min_move=min_move)
    lines = [f"  {name}: zeroing it moves the output by {move:.2e}" for name, move in dead.items()]
    assert not dead, "\n".join([f"{len(dead)} weights matter less than {min_move:g}:", *lines])


def dead_layers(model: nn.Module, x: Any, *, min_move: float = MIN_MOVE) -> dict[str, float]:
    """The weights whose zeroing moves the output by less than `min_move`, with that move. Raises as `moves` does."""
    return {name: move for name, move in moves(model, x).items() if move < min_move}


def moves(model: nn.Module, x: Any, count: int | None = None) -> dict[str, float]:
    """For each weight, or for `count` of them spread evenly, ‖f₀−f‖₂/‖f‖₂ where f₀ is the output with it zeroed.

    Raises:
        VanishingOutput: the output of the intact model is numerically zero.
        AssertionError: the model is in training mode, has no weight, or answers NaN or infinity.
    """
    assert not any(module.training for module in model.modules()), "put the model in eval mode first"
    args = x if isinstance(x, tuple) else (x,)
    with torch.no_grad():
        output = model(*args)
        assert_not_vanishing(output)
        reference = flat(output)
        chosen = _spread(list(weights(model)), count)
        found = {name: _move(model, args, weight, reference) for name, weight in chosen}
    assert found, "the model has no weight to test"
    return found


def least_move(model: nn.Module, x: Any, count: int) -> float:
    """The smallest of `moves` over `count` weights spread evenly from the first to the last. Raises as `moves` does."""
    return min(moves(model, x, count).values())


def weights(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Each parameter of two or more dimensions; a packed query-key-value projection as its three parts.

    Beyond conv and linear weights this takes in layer scales, class tokens and position tables.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or not parameter.is_floating_point():
            continue
        if name.endswith(("in_proj_weight", "qkv.weight")):
            yield from zip((f"{name}[{part}]" for part in "qkv"), parameter.detach().chunk(3))
        else:
            yield name, parameter.detach()


def _spread(found: list[tuple[str, torch.Tensor]], count: int | None) -> list[tuple[str, torch.Tensor]]:
    if count is None or len(found) <= count:
        return found
    return [found[i * (len(found) - 1) // (count - 1)] for i in range(count)]


def _move(model: nn.Module, args: tuple[Any, ...], weight: torch.Tensor, reference: torch.Tensor) -> float:
    kept = weight.clone()
    weight.zero_()
    try:
        changed = flat(model(*args))
    finally:
        weight.copy_(kept)
    return float((changed - reference).norm() / reference.norm())
