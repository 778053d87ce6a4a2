"""Example inputs: the user's, the model's own, or a guess from the first layer; and the batch axis they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, TensorArgument
from torch.utils import _pytree as pytree

from fxc.compiler.errors import CaptureError, InputError
from fxc.compiler.program import Note

_IMAGE_SIDE = 224
_SIZE_ATTRIBUTES = ("image_size", "img_size", "input_size")
_CONV_CLASSES = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.LazyConv1d, nn.LazyConv2d, nn.LazyConv3d)


@dataclass(frozen=True)
class Example:
    """Arguments of one call of the model, and where they come from.

    Attributes:
        args, kwargs: the call.
        notes: what the report must say about them.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    notes: tuple[Note, ...] = ()

    def leaves(self) -> list[Any]:
        """Every flat argument, tensors or not, in the order of the program's inputs."""
        return pytree.tree_leaves((self.args, self.kwargs))

    def tensors(self) -> tuple[Tensor, ...]:
        """The flat tensor arguments."""
        return tuple(leaf for leaf in self.leaves() if isinstance(leaf, Tensor))

    def batch(self) -> int | None:
        """Size of the leading axis that the inputs share, or ``None``: that of the first tensor with an axis."""
        sizes = [leaf.shape[0] for leaf in self.tensors() if leaf.dim() > 0]
        return sizes[0] if sizes else None

    def batched(self) -> tuple[Tensor, ...]:
        """The tensors whose leading axis has the size of the batch."""
        size = self.batch()
        return tuple(leaf for leaf in self.tensors() if leaf.dim() > 0 and leaf.shape[0] == size)

    def with_batch(self, size: int) -> Example:
        """The same call with ``size`` samples: the leading axis of the batched tensors cut or repeated."""
        have = self.batch()

        def resize(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor) or leaf.dim() == 0 or leaf.shape[0] != have:
                return leaf
            rows = torch.arange(size, device=leaf.device) % leaf.shape[0]
            return leaf.detach().index_select(0, rows)

        args, kwargs = pytree.tree_map(resize, (self.args, self.kwargs))
        return Example(args, kwargs, self.notes)


def example_of(model: nn.Module, inputs: Any, kwargs: Mapping[str, Any] | None) -> Example:
    """The example to capture with: explicit, ``model.example_input_array``, or guessed from the first layer.

    Args:
        inputs: a tensor, a sequence of positional arguments, a dictionary of keyword arguments, or ``None``.
        kwargs: further keyword arguments.

    Raises:
        CaptureError: nothing was given and nothing could be guessed.
        InputError: an input without samples.
    """
    own = getattr(model, "example_input_array", None)
    if inputs is not None or kwargs:
        example = _explicit(inputs, kwargs)
    elif own is not None:
        note = Note("info", "example inputs: the model's own example_input_array", by="capture")
        example = _explicit(own, None, (note,))
    else:
        example = _guessed(model)
    if example.batch() == 0:
        raise InputError("the example inputs hold no sample", why="the leading axis has size 0")
    return example


def exported_example(exported: ExportedProgram, inputs: Any, kwargs: Mapping[str, Any] | None) -> Example:
    """The example of an exported program: explicit, its own, or seeded numbers of the shapes that it was traced with."""
    if inputs is not None or kwargs:
        return _explicit(inputs, kwargs)
    if exported.example_inputs is not None:
        args, named = exported.example_inputs
        return Example(tuple(args), dict(named))
    values = {n.name: n.meta.get("val") for n in exported.graph.nodes if n.op == "placeholder"}
    leaves = [
        _numbers_like(values[spec.arg.name]) if isinstance(spec.arg, TensorArgument) else spec.arg.value  # type: ignore[union-attr]
        for spec in exported.graph_signature.input_specs
        if spec.kind is InputKind.USER_INPUT
    ]
    args, named = pytree.tree_unflatten(leaves, exported.call_spec.in_spec)  # type: ignore[arg-type]
    return Example(tuple(args), dict(named))


def _numbers_like(value: Any) -> Tensor:
    shape = [size if isinstance(size, int) else size.node.hint for size in value.shape]
    generator = torch.Generator().manual_seed(0)
    if value.dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(value.device, value.dtype)
    return torch.zeros(shape, dtype=value.dtype, device=value.device)


def _explicit(inputs: Any, kwargs: Mapping[str, Any] | None, notes: tuple[Note, ...] = ()) -> Example:
    named = dict(kwargs or {})
    if inputs is None:
        return Example((), named, notes)
    if isinstance(inputs, Mapping):
        return Example((), {**inputs, **named}, notes)
    args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    return Example(args, named, notes)


def _guessed(model: nn.Module) -> Example:
    for path, layer in model.named_modules():
        if isinstance(layer, (*_CONV_CLASSES, nn.Linear)):
            shape, why = _shape_for(model, layer)
            weight = layer.weight
            generator = torch.Generator().manual_seed(0)
            image = torch.randn(shape, generator=generator).to(weight.device, weight.dtype)
            kind = type(layer).__name__
            text = (
                f"example input guessed: {list(shape)} from the first {kind} ({path or 'the model'}), {why}"
            )
            return Example((image,), {}, (Note("warning", text, layer=path or None, by="capture"),))
    raise CaptureError(
        "no example inputs, and none could be guessed",
        why="the model has no convolution and no linear layer to read the input's channels from",
        fix="pass example_inputs=(tensor, …), or set model.example_input_array",
    )


def _shape_for(model: nn.Module, layer: nn.Module) -> tuple[tuple[int, ...], str]:
    if isinstance(layer, nn.Linear):
        return (1, layer.in_features), "one vector"
    channels = int(layer.in_channels)  # type: ignore[arg-type]
    if isinstance(layer, nn.Conv1d):
        return (1, channels, 1024), "1024 steps by default"
    side, why = _image_side(model)
    if isinstance(layer, nn.Conv3d):
        return (1, channels, 16, *side), f"16 frames, {why}"
    return (1, channels, *side), why


def _image_side(model: nn.Module) -> tuple[tuple[int, int], str]:
    for name in _SIZE_ATTRIBUTES:
        match getattr(model, name, None):
            case int(size):
                return (size, size), f"size from model.{name}"
            case (int(height), int(width)) | (_, int(height), int(width)):
                return (height, width), f"size from model.{name}"
    return (_IMAGE_SIDE, _IMAGE_SIDE), f"{_IMAGE_SIDE}x{_IMAGE_SIDE} by default"
