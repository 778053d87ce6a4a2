"""``image_input``: the model takes the bytes of an image, and its graph normalises them itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from fxc.compiler.editor import Editor
from fxc.compiler.errors import CalibrationError, UsageError
from fxc.compiler.passbase import LOSSY, Pass, PassResult, Promise
from fxc.compiler.program import InputSpec, Program

aten = torch.ops.aten

CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}
"""Orders in which a camera or a decoder hands out the channels of an image, and how many there are."""
_WHITE = 255.0
_ORDER = "image_order:"


def order_of(program: Program) -> str | None:
    """The order of channels in which the program takes an image, where :class:`ImageInput` made it take one."""
    return next((f.removeprefix(_ORDER) for f in sorted(program.facts) if f.startswith(_ORDER)), None)


@dataclass(frozen=True)
class ImageInput(Pass):
    """Take a uint8 image ``[N, C, H, W]`` where the model takes a normalised float32 one, in RGB for three channels.

    Before::

        %x: f32[N, 3, H, W]
        %conv1 = conv2d(%x, conv1.weight, …)

    After, for ``order="bgr"``::

        %x: u8[N, 3, H, W]
        %float = to(%x, float32)
        %centred = sub(%float, 255 * mean)
        %normalised = mul(%centred, 1 / (255 * std))
        %conv1 = conv2d(%normalised, _fxc.conv1_weight_bgr, …)

    The order of the channels goes into the weights of the convolutions that read the image; where anything else reads it
    too, a ``flip`` over the channels stays in the graph.

    Options:
        order: ``"rgb"``, ``"bgr"`` or ``"gray"``.
        mean, std: of the normalisation ``(x - mean) / std`` of values from 0 to 1, in the *model's* order.
    """

    name: ClassVar[str] = "image_input"
    promise: ClassVar[Promise] = LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    order: str = "rgb"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.order not in CHANNELS:
            raise UsageError(
                f"image_input takes {', '.join(map(repr, CHANNELS))}; got {self.order!r}",
                why="it is the order of the channels in which the device gets an image",
            )
        count = CHANNELS[self.order]
        if len(self.mean) != count or len(self.std) != count:
            raise UsageError(
                f"a {self.order} image has {count} channel(s), mean has {len(self.mean)} and std {len(self.std)}"
            )
        if not all(s > 0 for s in self.std):
            raise UsageError(f"std must be positive, got {list(self.std)}")

    def apply(self, program: Program) -> PassResult:
        """Rewrite the input, its spec and the example.

        Raises:
            UsageError: the program does not take exactly one float32 image of as many channels.
        """
        if order_of(program) is not None:
            return PassResult(program, modified=False)
        spec = self._checked(program)
        editor = Editor(program, self.name)
        image = next(n for n in editor.graph.nodes if n.op == "placeholder" and n.meta.get("val") is not None)
        readers = [reader for reader in image.users if isinstance(reader.meta.get("val"), Tensor)]
        normalised = self._head(editor, image)
        for reader in readers:
            reader.replace_input_with(image, normalised)
        if self.order == "bgr":
            _reverse_readers(editor, normalised, readers)
        inputs = tuple(replace(s, dtype="uint8") if s is spec else s for s in program.inputs)
        examples = tuple(self.encode(x) for x in program.example_inputs)
        facts = program.facts | {f"{_ORDER}{self.order}"}
        made = editor.finish(inputs=inputs, example_inputs=examples, facts=facts)
        return PassResult(made, modified=True)

    def _checked(self, program: Program) -> InputSpec:
        specs, count = program.tensor_inputs, CHANNELS[self.order]
        fits = len(specs) == 1 and len(specs[0].shape) == 4 and specs[0].shape[1] == count
        if not fits or specs[0].dtype != "float32":
            raise UsageError(
                f"image_input={self.order!r} needs a model with one input, float32 [N, {count}, H, W]",
                where=f"{program.name} takes {'; '.join(map(str, specs)) or 'nothing'}",
                fix="leave image_input out"
                if len(specs) != 1
                else "choose the order that has the model's channels",
            )
        return specs[0]

    def _head(self, editor: Editor, image: fx.Node) -> fx.Node:
        """The normalisation, in the order in which the channels arrive."""
        value, cast = image.meta["val"], (image, torch.float32, False, False, None)
        image.meta["val"] = editor.like(image, torch.uint8)
        shift = [_WHITE * mean for mean in self._arriving(self.mean)]
        scale = [1 / (_WHITE * std) for std in self._arriving(self.std)]
        # What stands behind the only input: new nodes go in front of it, one after the other.
        with editor.before(image.next):
            node = editor.call(aten.to.dtype, cast, origins=(image,), suffix=".float", val=value)
            for target, values, word in (
                (aten.sub.Tensor, shift, "centred"),
                (aten.mul.Tensor, scale, "normalised"),
            ):
                column = torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
                constant = editor.constant(column, f"{image.name}.{word}_by", origins=(image,))
                args = (node, constant)
                node = editor.call(target, args, origins=(image,), suffix=f".{word}", val=value)
        return node

    def _arriving(self, values: tuple[float, ...]) -> tuple[float, ...]:
        return values[::-1] if self.order == "bgr" else values

    def encode(self, x: Tensor) -> Tensor:
        """The uint8 image ``[N, C, H, W]`` that the head turns into ``x``, to the nearest byte; uint8 is one already.

        Args:
            x: float32, normalised, in the model's order of channels.
        """
        if not x.is_floating_point():
            return x
        mean, std = self._columns(x)
        image = ((x * std + mean) * _WHITE).round().clamp(0, _WHITE).to(torch.uint8)
        return image.flip(1).contiguous() if self.order == "bgr" else image

    def decode(self, data: Any) -> Any:
        """Calibration data as the model itself takes it: every uint8 image in a batch normalised, in the model's order.

        Raises:
            CalibrationError: uint8 values of another shape.
        """
        return pytree.tree_map_only(Tensor, self._decoded, data)

    def _decoded(self, x: Tensor) -> Tensor:
        if x.dtype != torch.uint8:
            return x
        count = CHANNELS[self.order]
        if x.dim() != 4 or x.shape[1] != count:
            raise CalibrationError(
                f"a {self.order} image of bytes has the shape [N, {count}, H, W], got {list(x.shape)}"
            )
        mean, std = self._columns(x)
        image = x.flip(1) if self.order == "bgr" else x
        return (image.to(torch.float32) / _WHITE - mean) / std

    def _columns(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(torch.tensor(v).reshape(1, -1, 1, 1) for v in (self.mean, self.std))  # type: ignore[return-value]


def _reverse_readers(editor: Editor, image: fx.Node, readers: list[fx.Node]) -> None:
    """conv2d(flip(x, [1]), w) -> conv2d(x, flip(w, [1]))"""
    if all(_takes_weight(reader, image) for reader in readers):
        for reader in readers:
            weight: Any = reader.args[1]
            with editor.before(reader):
                flipped = editor.constant(
                    editor.tensor(weight).detach().flip(1), f"{weight.name}.bgr", origins=(weight,)
                )
            reader.replace_input_with(weight, flipped)
        return
    with editor.after(image):
        turned = editor.call(
            aten.flip.default, (image, [1]), origins=(image,), suffix=".rgb", val=image.meta["val"]
        )
    for reader in readers:
        reader.replace_input_with(image, turned)


def _takes_weight(reader: fx.Node, image: fx.Node) -> bool:
    """A convolution of one group over the image and nothing else, with a weight of its own."""
    if reader.target is not aten.conv2d.default or reader.args[0] is not image or reader.args[6] != 1:
        return False
    weight: Any = reader.args[1]
    return isinstance(weight, fx.Node) and weight.op == "get_attr"
