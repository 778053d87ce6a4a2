"""The kit as files of a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

_SCRIPTS = ("build_engine.py", "run_engine.py")
_COMMANDS = "trtexec.txt"
_PLAN = "build.json"


@dataclass(frozen=True)
class ForVersions:
    """A model file, and the versions of TensorRT that build from it: ``first`` and newer, older than ``below``.

    Attributes:
        title: the versions in words.
        typed: whether the file names the types that are computed in, so that no flag does.
    """

    name: str
    first: tuple[int, ...]
    below: tuple[int, ...] | None
    title: str
    typed: bool = False


@dataclass(frozen=True)
class Accelerator:
    """What up to 10.x the deep learning accelerator needs beside the model: files of scales and of layers' precisions.

    Attributes:
        cache, layers: their names, if there are any.
        fp16: whether any layer is in the second one.
    """

    cache: str = ""
    layers: str = ""
    fp16: bool = False


@dataclass(frozen=True)
class Plan:
    """What a bundle's engines are built from.

    Attributes:
        quantized: whether int8 is asked for.
        models: the model files, each for other versions.
        dynamic: shapes of the inputs that have a dynamic batch, by tensor name.
        dla: for the accelerator, ``None`` for the GPU.
        made_for: the version that the bundle was narrowed to, in words.
    """

    quantized: bool
    models: tuple[ForVersions, ...]
    dynamic: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    dla: Accelerator | None = None
    made_for: str = ""


def copy_kit(directory: Path, plan: Plan) -> tuple[str, ...]:
    """Write the scripts, what they read, and the ``trtexec`` lines that do the same, into ``directory``.

    Returns:
        The files' names.
    """
    for name in _SCRIPTS:
        source = files("fxc.backends.tensorrt.kit") / name
        (directory / name).write_bytes(source.read_bytes())
    (directory / _PLAN).write_text(json.dumps(_facts(plan), indent=1) + "\n", encoding="utf-8")
    commands = [f"# Made for {plan.made_for}.\n"] if plan.made_for else []
    commands += [_command(plan, model) for model in plan.models]
    (directory / _COMMANDS).write_text("".join(commands), encoding="utf-8")
    return (*_SCRIPTS, _PLAN, _COMMANDS)


def _facts(plan: Plan) -> dict[str, Any]:
    models = [{"onnx": m.name, "from": m.first, "below": m.below} for m in plan.models]
    dla = {"cache": plan.dla.cache, "layers": plan.dla.layers} if plan.dla else None
    return {"made_for": plan.made_for, "int8": plan.quantized, "files": models, "dla": dla}


def _command(plan: Plan, model: ForVersions) -> str:
    words = [f"--onnx={model.name}"]
    if not model.typed:
        words += ["--fp16", "--int8"] if plan.quantized else ["--fp16"]
    if plan.dla is not None:
        words += ["--useDLACore=0", "--allowGPUFallback"]
        words += [] if model.typed else _scales(plan.dla)
    if plan.dynamic:
        words += [f"--{which}Shapes={_shapes(plan.dynamic, n)}" for which, n in _BATCHES.items()]
    words += [
        "--saveEngine=../model.engine",
        "--timingCacheFile=../timing.cache",
        "--profilingVerbosity=detailed",
    ]
    return f"# {model.title}:\ntrtexec {' '.join(words)}\n"


def _scales(dla: Accelerator) -> list[str]:
    words = [f"--calib={dla.cache}"]
    if dla.fp16:
        words += ["--precisionConstraints=prefer", f'--layerPrecisions="$(cat {dla.layers})"']
    return words


_BATCHES = {"min": 1, "opt": 1, "max": 8}


def _shapes(dynamic: Mapping[str, tuple[int | str, ...]], batch: int) -> str:
    return ",".join(
        f"{name}:{'x'.join(str(d if isinstance(d, int) else batch) for d in shape)}"
        for name, shape in dynamic.items()
    )
