"""What a bundle was checked with when it was made: a few inputs, and the answers of float, graph and file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from fxc.compiler.files import reading


@dataclass(frozen=True)
class Golden:
    """What the bundle was checked with when it was made; every tuple is flat, in the order of the specs.

    Attributes:
        inputs: one batch.
        outputs: what the model file answered on the host that made the bundle.
        graph_outputs: what the quantized graph answered in PyTorch.
        float_outputs: what the float program answered.
        intermediates: a few inner tensors of the quantized graph, by layer.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    graph_outputs: tuple[Tensor, ...]
    float_outputs: tuple[Tensor, ...]
    intermediates: Mapping[str, Tensor] = field(default_factory=dict)


def write_golden(folder: Path, golden: Golden, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Write the new folder ``folder``: a ``.safetensors`` for each attribute, its keys the names of the flat specs.

    Raises:
        OSError, SafetensorError: no space.
    """
    folder.mkdir()
    ins, outs = _keys(inputs), _keys(outputs)
    tables = {
        "inputs": zip(ins, golden.inputs, strict=True),
        "outputs": zip(outs, golden.outputs, strict=True),
        "graph_outputs": zip(outs, golden.graph_outputs, strict=True),
        "float_outputs": zip(outs, golden.float_outputs, strict=True),
        "intermediates": golden.intermediates.items(),
    }
    for kind, pairs in tables.items():
        # Two outputs may be one tensor; the file format has no shared memory.
        tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in sorted(pairs)}
        save_file(tensors, _file(folder, kind))


def read_golden(folder: Path, inputs: Sequence[Any], outputs: Sequence[Any]) -> Golden:
    """What :func:`write_golden` wrote.

    Raises:
        ArtifactError: damaged.
    """
    ins, outs = _keys(inputs), _keys(outputs)
    return Golden(
        _tensors(folder, "inputs", ins),
        _tensors(folder, "outputs", outs),
        _tensors(folder, "graph_outputs", outs),
        _tensors(folder, "float_outputs", outs),
        _read_tensors(_file(folder, "intermediates")),
    )


def _file(folder: Path, kind: str) -> Path:
    return folder / f"{kind}.safetensors"


def _tensors(folder: Path, kind: str, keys: Sequence[str]) -> tuple[Tensor, ...]:
    file = _file(folder, kind)
    found = _read_tensors(file)
    with reading(file):
        return tuple(found[key] for key in keys)


def _read_tensors(file: Path) -> dict[str, Tensor]:
    with reading(file):
        return {name: tensor.clone() for name, tensor in load_file(file).items()}


def _keys(specs: Sequence[Any]) -> list[str]:
    """A key for each spec: its name, with the position in front where names repeat."""
    names = [spec.name for spec in specs]
    return [f"{i}.{name}" if names.count(name) > 1 else name for i, name in enumerate(names)]
