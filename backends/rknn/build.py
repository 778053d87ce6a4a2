"""RKNN-Toolkit2 at work on a bundle's files, in its own environment and process."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fxc.backends.rknn.image import Normalisation
from fxc.backends.rknn.names import LOG, RANGES, REQUEST, RKNN, SAMPLE, source
from fxc.backends.rknn.toolchain import RKNN as TOOLCHAIN
from fxc.compiler.errors import ArtifactError, ToolchainError
from fxc.compiler.files import read_json
from fxc.compiler.scratch import WorkFolder
from fxc.compiler.target import Target
from fxc.compiler.toolchain import worker
from fxc.compiler.toolchain.environment import environment, require, status
from fxc.compiler.toolchain.limit import SECONDS, seconds

Array = np.ndarray[Any, Any]

_SCRIPT = Path(__file__).with_name("worker.py")
_REST = "float16"
"""What a layer computes in whose range is not known."""
_DISABLED = (
    # They write into arrays that the onnx package hands out read-only, and fail; the second one also counts padding wrongly.
    "fuse_pad_into_conv",
    "fuse_pad_into_avgpool",
    # Fails on attention whose queries are scaled before the first product.
    "fuse_exmatmul_add_mul_exsoftmax13_exmatmul_to_sdpa",
)
"""Rewrites of version 2.5.0 that break a build, or a result; without them it keeps the operators as the file has them."""
_FAILED = "rknn-failed.log"
_LEVEL = 2
"""``optimization_level``: 3, the toolkit's default, changes what a Q/DQ file says."""


def installed() -> bool:
    """Whether the toolkit's environment is ready.

    Raises:
        ToolchainError: its folder cannot be looked at.
    """
    return status(environment(TOOLCHAIN)).state == "ready"


def missing() -> str:
    """The note of a bundle that was made without it."""
    return (
        f"{RKNN} was not built and not simulated: RKNN-Toolkit2 is not installed here. "
        f"{TOOLCHAIN.command}, and compile again; or run build_rknn.py where it is"
    )


def recipe(directory: Path, target: Target, image: Normalisation | None) -> dict[str, Any]:
    """What the worker is asked: ``build_rknn.json`` of a bundle.

    Raises:
        ArtifactError: the ranges of an int16 file are missing or damaged.
    """
    config: dict[str, Any] = {
        "target_platform": target.options["platform"],
        "optimization_level": _LEVEL,
        "disable_rules": list(_DISABLED),
    }
    if image is not None:
        config |= {"mean_values": [list(image.mean)], "std_values": [list(image.std)]}
    whole: dict[str, Any] = {"action": "build", "model": source(directory), "output": RKNN, "config": config}
    whole |= {"dataset": None, "hybrid": None, "inputs": [], "layout": "nchw"}
    if dtype := target.options.get("dtype"):
        config["quantized_dtype"] = dtype
        samples = sorted(path.name for path in directory.glob(SAMPLE.format("*")))
        ranges = read_json(directory / RANGES)
        whole |= {"dataset": [samples], "hybrid": {"layers": {}, "ranges": ranges, "rest": _REST}}
    return whole


def _written_image(directory: Path) -> Normalisation | None:
    """The normalisation that a bundle's request asks for.

    Raises:
        ArtifactError: the request is missing or damaged.
    """
    config = read_json(directory / REQUEST).get("config")
    if not isinstance(config, dict):
        raise ArtifactError(f"{directory / REQUEST} is damaged: it has no config")
    columns = [config.get(word) for word in ("mean_values", "std_values")]
    if columns == [None, None]:
        return None
    try:
        mean, std = (tuple(map(float, rows[0])) for rows in columns)  # type: ignore[index]
    except (TypeError, ValueError, LookupError) as error:
        raise ArtifactError(f"{directory / REQUEST} is damaged: {error}") from error
    return Normalisation(mean, std)


def build(directory: Path, target: Target) -> dict[str, Any]:
    """Build ``model.rknn`` in ``directory`` from the ONNX file there; the toolkit's words go to ``rknn.log``.

    Raises:
        ToolchainError: not installed, refused, crashed, or over the time limit.
    """
    with WorkFolder("rknn") as folder:
        work = Path(folder)
        answer = _ask(directory, work, target)
        for name in (RKNN, LOG):
            shutil.move(work / name, directory / name)
    return answer


def simulate(directory: Path, target: Target, samples: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """What the toolkit's simulator answers; it cannot load a ``.rknn`` file, so the build is done again.

    Args:
        directory: with the ONNX file.
        samples: the arrays of each sample, in the file's order and layout.

    Returns:
        For each sample its outputs, float32, in the file's order and layout.

    Raises:
        ToolchainError: not installed, refused, crashed, or over the time limit.
    """
    with WorkFolder("rknn") as folder:
        work = Path(folder)
        names = [
            list(worker.save_arrays(work, {f"input_{i}_{j}": x for j, x in enumerate(arrays)}).values())
            for i, arrays in enumerate(samples)
        ]
        answer = _ask(directory, work, target, inputs=names)
        return [worker.load_arrays(work, outputs) for outputs in answer["outputs"]]


def _ask(directory: Path, work: Path, target: Target, **more: Any) -> dict[str, Any]:
    request = recipe(directory, target, _written_image(directory))
    # The file, its weights if they lie beside it, and the sample.
    for path in (*directory.glob(f"{source(directory)}*"), *directory.glob(SAMPLE.format("*"))):
        shutil.copyfile(path, work / path.name)
    environment = require(TOOLCHAIN)
    try:
        return worker.run(environment, _SCRIPT, {**request, **more}, work, seconds=seconds(), log=work / LOG)
    except ToolchainError as error:
        error.where = _kept(work / LOG, environment.log.with_name(_FAILED))
        error.fix = error.fix and f"{error.fix}: {SECONDS}"
        raise


def _kept(log: Path, place: Path) -> str | None:
    """A copy of a failed run's log that outlives the temporary folder: of the last failure, beside the toolchain."""
    try:
        shutil.copyfile(log, place)
    except OSError:
        # A full or read-only cache must not hide what failed: the message has the log's last lines.
        return None
    return str(place)
