"""Feeding a bundle: input files in, flat named outputs out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fxc.compiler.errors import ArtifactError, CalibrationError, InputError
from fxc.compiler.program import InputSpec
from fxc.passes.image_input import ImageInput
from fxc.tools.data import arrays, images
from fxc.tools.data.calibration import BATCH, static_batch
from fxc.tools.data.checks import check_batch
from fxc.tools.data.preprocess import Preprocessing, given
from fxc.tools.data.spec import IMAGE_SUFFIXES, parse_spec

if TYPE_CHECKING:
    from fxc.compiler.artifact import Artifact

Batch = tuple[Tensor, ...]
Named = tuple[list[str], Batch]
"""A batch with one name per sample; a fixed batch may be longer than its names."""


def one_bundle(path: Path) -> Artifact:
    """The bundle at ``path``.

    Raises:
        ArtifactError: no bundle, or the folder over the bundles of several targets.
    """
    import fxc

    found = fxc.load(path)
    if isinstance(found, fxc.Artifacts):
        raise ArtifactError(
            f"{path} holds the bundles of several targets",
            why=f"they are {', '.join(found)}",
            fix=f"give one of them: {path / next(iter(found))}",
        )
    return found


def input_specs(artifact: Artifact) -> tuple[InputSpec, ...]:
    """The tensor inputs of the model in a bundle."""
    return tuple(InputSpec(i["name"], tuple(i["shape"]), i["dtype"]) for i in artifact.manifest["inputs"])


def output_names(artifact: Artifact) -> list[str]:
    """The names of the flat outputs."""
    return [str(spec["name"]) for spec in artifact.manifest["outputs"]]


def preprocessing(artifact: Artifact) -> Preprocessing | None:
    """How images become inputs, if the manifest says it."""
    known = artifact.manifest.get("preprocessing")
    return Preprocessing.from_json(known) if known else None


def image_input(artifact: Artifact) -> ImageInput | None:
    """What makes bytes of a bundle's inputs, and the float model's inputs of them; ``None`` where both take the same."""
    how = preprocessing(artifact)
    return ImageInput(how.image_input, how.mean, how.std) if how is not None and how.image_input else None


def read_inputs(
    specs: tuple[InputSpec, ...],
    known: Preprocessing | None,
    files: Sequence[Path],
    size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Iterator[Named]:
    """Batches of a run: image files by the preprocessing that is known, arrays as they are; each sample with a name.

    Raises:
        InputError: a file that cannot be read or does not fit.
    """
    try:
        pictures = [path for path in files if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES]
        if pictures:
            if len(pictures) != len(files) or len(specs) != 1:
                raise InputError(
                    "images and arrays do not mix, and images feed one input", where=str(files[0])
                )
            how = given(size, mean, std, specs[0].shape, known)
            yield from _images([f for p in pictures for f in _files(p)], specs, how)
        else:
            for path in files:
                yield from _arrays(path, specs)
    except CalibrationError as error:
        raise InputError(error.what, where=error.where, why=error.why, fix=error.fix) from error


def _files(path: Path) -> list[Path]:
    return images.image_files(path) if path.is_dir() else [path]


def _images(files: Sequence[Path], specs: tuple[InputSpec, ...], how: Preprocessing) -> Iterator[Named]:
    """One image per batch where the model allows it: each gets an answer with its own name."""
    step = static_batch(specs) or 1
    for start in range(0, len(files), step):
        group = list(files[start : start + step])
        tensors = [how(_image(path)) for path in group]
        tensors += tensors[-1:] * (step - len(tensors))  # a fixed batch is filled up with its last image
        yield [str(path) for path in group], check_batch(torch.stack(tensors), specs, str(group[0]))


def _image(path: Path) -> images.Image.Image:
    try:
        return images.read_image(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read", why=str(error), fix="give an image file that opens"
        ) from error


def _arrays(path: Path, specs: tuple[InputSpec, ...]) -> Iterator[Named]:
    data = arrays.columns(parse_spec(str(path)), specs)
    count = arrays.samples(data, str(path))
    fixed = static_batch(specs)
    if fixed and count % fixed:
        raise InputError(
            f"{path} holds {count} samples, the model takes batches of {fixed}",
            fix=f"give a multiple of {fixed}",
        )
    step = fixed or BATCH
    for start in range(0, count, step):
        batch = tuple(column[start : start + step] for column in data)
        names = [f"{path}[{i}]" for i in range(start, min(start + step, count))]
        yield names, check_batch(batch, specs, f"{path}, from sample {start}")
