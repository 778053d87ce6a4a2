"""Labelled samples for top-1: a folder with one folder per class, or an ``.npz`` or ``.pt`` with ``x`` and ``y``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from fxc.compiler.errors import CalibrationError
from fxc.compiler.program import InputSpec
from fxc.tools.data import arrays, images
from fxc.tools.data.calibration import BATCH, Batch, image_batches, static_batch
from fxc.tools.data.checks import check_batch
from fxc.tools.data.preprocess import Preprocessing, given
from fxc.tools.data.spec import DataSpec, parse_spec

LABELS = ("y", "label", "labels", "target", "targets")


@dataclass(frozen=True)
class LabelledData:
    """Batches with the class index of each sample.

    Attributes:
        said: what is used, in words.
        labels: int64 ``[samples]``, in the order of the batches.
        warnings: what was left out, and how folder names became class indices.
        make: starts a fresh iteration over the inputs.
    """

    said: str
    labels: np.ndarray[tuple[int], np.dtype[np.int64]]
    make: Callable[[], Iterator[Batch]] = field(repr=False)
    warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Batch]:
        """Batches of inputs; their samples in order are those of :attr:`labels`."""
        return self.make()


def load_labelled(
    spec: str | DataSpec,
    *,
    inputs: Sequence[InputSpec],
    size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preprocessing: Preprocessing | None = None,
    limit: int | None = None,
) -> LabelledData:
    """Labelled data for a model with one image or tensor input.

    Class folders whose names are all numbers give those numbers; others are numbered in sorted order, as
    torchvision's ``ImageFolder`` does. The words on images are those of ``load_calibration``.

    Raises:
        CalibrationError: no labels, or data that does not fit.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    if len(inputs) != 1:
        raise CalibrationError(f"labelled data feeds one input, the model takes {len(inputs)}")
    if spec.kind == "images":
        return _folder(spec, inputs, given(size, mean, std, inputs[0].shape, preprocessing), limit)
    if spec.kind in ("npz", "pt"):
        return _arrays(spec, inputs, limit)
    raise CalibrationError(
        f"{spec} has no labels", fix="give a folder of class folders, or an .npz or .pt with x and y"
    )


def class_indices(names: Sequence[str]) -> dict[str, int]:
    """Class index by folder name: the number itself where all are numbers, else the place in sorted order."""
    if all(name.isdecimal() for name in names):
        return {name: int(name) for name in names}
    return {name: index for index, name in enumerate(sorted(names))}


def _folder(
    spec: DataSpec, inputs: Sequence[InputSpec], preprocessing: Preprocessing, limit: int | None
) -> LabelledData:
    folders = [p.name for p in spec.path.iterdir() if p.is_dir() and not p.name.startswith(".")]
    if len(folders) < 2:
        raise CalibrationError(
            f"{spec} has no class folders", fix="put each class's images into a folder of its own"
        )
    index = class_indices(folders)
    in_class = [p for p in images.image_files(spec.path) if p.parent != spec.path]
    warnings: list[str] = []
    files = images.readable(images.spread(in_class, limit), warnings.append)
    files = files[: len(files) - len(files) % (static_batch(inputs) or 1)]
    labels = np.array([index[p.relative_to(spec.path).parts[0]] for p in files], dtype=np.int64)
    how = "by their numbers" if all(n.isdecimal() for n in folders) else "in sorted order"
    warnings.append(f"{len(folders)} class folders, indexed {how}")
    return LabelledData(
        f"{len(files)} labelled images from {spec}",
        labels,
        lambda: image_batches(files, inputs, preprocessing, str(spec)),
        tuple(warnings),
    )


def _arrays(spec: DataSpec, inputs: Sequence[InputSpec], limit: int | None) -> LabelledData:
    content = arrays.read_arrays(spec)
    found = [content[name] for name in LABELS if name in content] if isinstance(content, Mapping) else []
    if not found:
        raise CalibrationError(
            f"{spec} has no labels", fix="save the samples as x and their class indices as y"
        )
    names = [name for name in content if name not in LABELS]
    values = content[inputs[0].name if inputs[0].name in content else "x" if "x" in content else names[0]]
    labels = _class_numbers(found[0], arrays.samples((values,), str(spec)), spec.path)
    step = static_batch(inputs) or BATCH
    rows = images.spread(range(len(labels)), limit)
    if static_batch(inputs):
        rows = rows[: len(rows) - len(rows) % step]

    def make() -> Iterator[Batch]:
        for start in range(0, len(rows), step):
            picked = rows[start : start + step]
            yield check_batch((values[picked],), inputs, f"{spec}, samples {picked[0]} to {picked[-1]}")

    return LabelledData(f"{len(rows)} labelled samples from {spec}", labels[rows], make)


def _class_numbers(labels: object, count: int, path: Path) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    array = labels.numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise CalibrationError(
            f"{path}: labels of shape {list(array.shape)} and dtype {array.dtype}",
            why=f"one class index is expected for each of {count} samples: integers of shape [{count}]",
        )
    return array.astype(np.int64)
