"""Which TensorRT a device has, and what of a bundle it takes. Data, and the one function that reads it; torch-free.

Sources: release notes and support matrices of TensorRT and JetPack. TensorRT 8.0 and 8.2 read ONNX up to opset 13, 8.4 on up to
17; from 11.0 on every network is strongly typed; 11.4.1 is the first 11.x for Jetson (JetPack 7.2.2). The deep learning
accelerator was in TensorRT up to 10.7 and is again from 11.4.1 on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from fxc.compiler.errors import UsageError
from fxc.compiler.target import Target

Version = tuple[int, ...]


class Span(NamedTuple):
    """From the first version up to the last, each with whatever follows its own numbers: 10.7 is every 10.7.x."""

    first: Version
    last: Version

    def meets(self, other: Span) -> bool:
        """Whether some version is in both."""
        return self.first <= _end(other.last) and other.first <= _end(self.last)

    def __str__(self) -> str:
        first, last = (".".join(map(str, version)) for version in self)
        return first if first == last else f"{first} to {last}"


class Line(NamedTuple):
    """A kind of device: the versions that take ``model.onnx`` and those that take ``model.typed.onnx``.

    Attributes:
        why: what holds for versions outside of both.
    """

    plain: Span
    typed: Span
    why: str


RELEASES: Mapping[int, Sequence[int]] = MappingProxyType({8: (0, 2, 4, 5, 6), 10: range(17), 11: range(6)})
"""Major versions of TensorRT to their minor ones."""

_KNOWN = "8.0, 8.2, 8.4, 8.5, 8.6, 10.0 to 10.16, 11.0 to 11.5"

NEWEST = (11, 5)

JETPACKS: Mapping[str, Span] = MappingProxyType(
    {
        "4.6": Span((8, 0), (8, 2)),
        "5.0": Span((8, 4), (8, 4)),
        "5.1": Span((8, 5), (8, 5)),
        "6.0": Span((8, 6), (8, 6)),
        "6.1": Span((10, 3), (10, 16)),
        "6.2": Span((10, 3), (10, 16)),
        "7.0": Span((10, 13), (10, 16)),
        "7.2": Span((10, 13), NEWEST),
    }
)
"""JetPack to the TensorRT that comes with it, up to the newest that may be put on it."""

_JETSON = "the first TensorRT 11 for Jetson is 11.4.1, for JetPack 7.2.2"
_DLA = (
    "for the accelerator there are files for TensorRT 8.4 to 10.7 (JetPack 5.0 to 6.2) and from 11.4.1 on (JetPack 7.2.2); "
    "between them TensorRT has none, and Thor has none"
)

LINES: Mapping[str, Line] = MappingProxyType(
    {
        "gpu": Line(Span((8, 0), (10, 16)), Span((11, 0), NEWEST), ""),
        "jetson": Line(Span((8, 0), (10, 16)), Span((11, 4, 1), NEWEST), _JETSON),
        "dla": Line(Span((8, 4), (10, 7)), Span((11, 4, 1), NEWEST), _DLA),
    }
)
"""By what a target's ``options["line"]`` says."""

_OPSET_17 = (8, 4)
_NO_INT8 = "4.6"


def narrow(target: Target, given: Mapping[str, str]) -> Target:
    """``target`` for one JetPack or TensorRT: which files are made, and their opset.

    Args:
        given: ``jetpack`` or ``tensorrt`` or both, to a version in text; digits behind the second are taken too.

    Raises:
        UsageError: a version that does not exist, two that contradict each other, or one that the target is not for.
    """
    span, line = _span(given), LINES[target.options["line"]]
    said = ", ".join(f"{_NAMES[word]} {version}" for word, version in given.items())
    if target.quantized and target.options["line"] == "jetson" and _short(given) == _NO_INT8:
        raise _without_int8(target)
    forms = [form for form, takes in (("plain", line.plain), ("typed", line.typed)) if span.meets(takes)]
    if not forms:
        raise UsageError(f"{target.name} cannot be made for {said}", why=line.why, fix=_way_out(target))
    opset = (
        (17 if span.first >= _OPSET_17 else 13) if "plain" in forms else int(target.options["typed_opset"])
    )
    return replace(
        target,
        opset=opset,
        options={**target.options, "files": " ".join(forms), "oldest": _oldest(span, line, forms)},
        made_for=said,
        notes=f"{target.notes}; made for {said}",
    )


def _oldest(span: Span, line: Line, forms: Sequence[str]) -> str:
    """Of the versions that take a file of the bundle."""
    first = line.plain.first if "plain" in forms else line.typed.first
    return ".".join(map(str, max(span.first, first)[:2]))


_NAMES = {"jetpack": "JetPack", "tensorrt": "TensorRT"}


def _span(given: Mapping[str, str]) -> Span:
    device = _jetpack(given["jetpack"]) if "jetpack" in given else None
    wanted = _tensorrt(given["tensorrt"]) if "tensorrt" in given else None
    if device is None or wanted is None:
        found = device or wanted
        assert found is not None
        return found
    if not (device.first <= wanted.first and wanted.first <= _end(device.last)):
        raise UsageError(
            f"JetPack {given['jetpack']} has no TensorRT {given['tensorrt']}",
            why=f"on JetPack {_short(given)} it is TensorRT {device}",
            fix="give one of the two",
        )
    return wanted


def _jetpack(text: str) -> Span:
    numbers = _numbers(text)
    found = JETPACKS.get(".".join(map(str, numbers[:2]))) if len(numbers) in (2, 3) else None
    if found is None:
        raise UsageError(f"there is no JetPack {text!r}", fix=f"known: {', '.join(JETPACKS)}")
    return found


def _tensorrt(text: str) -> Span:
    numbers = _numbers(text)
    if not (2 <= len(numbers) <= 4 and numbers[1] in RELEASES.get(numbers[0], ())):
        raise UsageError(f"there is no TensorRT {text!r}", fix=f"known: {_KNOWN}")
    return Span(numbers, numbers)


_NUMBER = r"(0|[1-9][0-9]{0,3})"


def _numbers(text: str) -> Version:
    return tuple(map(int, text.split("."))) if re.fullmatch(rf"{_NUMBER}(\.{_NUMBER})*", text) else ()


def _short(given: Mapping[str, str]) -> str:
    """Of the JetPack, the two numbers that it goes by."""
    return ".".join(given.get("jetpack", "").split(".")[:2])


def _without_int8(target: Target) -> UsageError:
    return UsageError(
        f"{target.name} cannot be made for JetPack {_NO_INT8}",
        why="it is the last JetPack of TX2 and Nano, whose GPUs have no int8",
        fix=f"{target.name.removesuffix('int8')}fp16; for a Xavier, which has int8: tensorrt 8.2 instead of jetpack {_NO_INT8}",
    )


def _way_out(target: Target) -> str:
    if target.options["line"] == "dla":
        return f"{target.name.removesuffix('-dla')}, which runs on the GPU"
    return "another version, or none: then the bundle has the files for all"


def _end(version: Version) -> Version:
    """Above everything that begins with ``version``."""
    return (*version, 10**6)
