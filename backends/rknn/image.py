"""The normalisation of a uint8 image at a graph's input, taken out of the graph: the toolkit does it on the board."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor
from fxc.compiler.program import Program

aten = torch.ops.aten
Column = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Normalisation:
    """``(x - mean) / std`` of bytes from 0 to 255, one number per channel: ``RKNN.config``'s ``mean_values`` and ``std_values``."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def detached(program: Program) -> tuple[Program, Normalisation | None]:
    """The program from behind the normalisation on: its input is float32 then.

    Before::

        %x: u8[1, 3, H, W]
        %float = to(%x, float32)
        %centred = sub(%float, constant)
        %normalised = mul(%centred, constant)
        %conv1 = conv2d(%normalised, …)

    After::

        %x: f32[1, 3, H, W]
        %conv1 = conv2d(%x, …)

    A program without such an input comes back as it is, with ``None``.
    """
    editor = Editor(program, "rknn_image")
    images = [n for n in editor.graph.nodes if n.op == "placeholder" and n.meta.get("val") is not None]
    if len(images) != 1 or (found := _normalisation(editor, images[0])) is None:
        return program, None
    last, normalisation = found
    image, kept = images[0], last
    value = last.meta["val"]
    while kept is not image:
        source: Any = kept.args[0]
        editor.replace(kept, image) if kept is last else editor.erase(kept)
        kept = source
    image.meta["val"] = value
    inputs = tuple(s if s.is_constant else replace(s, dtype="float32") for s in program.inputs)
    return editor.finish(inputs=inputs, example_inputs=()), normalisation


def _normalisation(editor: Editor, image: fx.Node) -> tuple[fx.Node, Normalisation] | None:
    """The last node of the chain ``image -> float32 -> scale and shift per channel``, and what the chain computes."""
    if image.meta["val"].dtype != torch.uint8 or image.meta["val"].dim() != 4:
        return None
    channels = int(image.meta["val"].shape[1])
    (node,) = image.users if len(image.users) == 1 else (None,)
    if node is None or node.target is not aten.to.dtype or node.meta["val"].dtype != torch.float32:
        return None
    scale, shift = np.ones(channels), np.zeros(channels)
    while (step := _step(editor, node, channels)) is not None:
        target, column = step
        if target is aten.mul.Tensor:
            scale, shift = scale * column, shift * column
        else:
            shift = shift + (column if target is aten.add.Tensor else -column)
        (node,) = node.users
    if not scale.all():
        return None
    return node, Normalisation(tuple((-shift / scale).tolist()), tuple((1 / scale).tolist()))


def _step(editor: Editor, node: fx.Node, channels: int) -> tuple[Any, Column] | None:
    """The only reader of ``node``, if it scales or shifts each channel by a constant: its operator and the constants."""
    reader = next(iter(node.users), None)
    if len(node.users) != 1 or reader is None or reader.target not in _STEPS or reader.args[0] is not node:
        return None
    constant: Any = reader.args[1]
    if not isinstance(constant, fx.Node) or constant.op != "get_attr" or reader.kwargs.get("alpha", 1) != 1:
        return None
    column = editor.tensor(constant)
    return (reader.target, _per_channel(column, channels)) if _fits(column, channels) else None


_STEPS = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor)


def _fits(column: Tensor, channels: int) -> bool:
    return tuple(column.shape) == (1, channels, 1, 1) or column.numel() == 1


def _per_channel(column: Tensor, channels: int) -> Column:
    return np.broadcast_to(column.detach().double().numpy().reshape(-1), (channels,))
