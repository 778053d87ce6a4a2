"""The kit as files of a bundle."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

_SCRIPTS = ("build_engine.py", "run_engine.py")
_COMMANDS = "trtexec.txt"


def copy_kit(
    directory: Path, *, quantized: bool, dynamic: dict[str, tuple[int | str, ...]]
) -> tuple[str, ...]:
    """Write the scripts, and the ``trtexec`` lines that do the same, into ``directory``.

    Args:
        dynamic: shapes of the inputs that have a dynamic batch, by tensor name.

    Returns:
        The files' names.
    """
    for name in _SCRIPTS:
        source = files("fxc.backends.tensorrt.kit") / name
        (directory / name).write_bytes(source.read_bytes())
    (directory / _COMMANDS).write_text(_commands(quantized=quantized, dynamic=dynamic), encoding="utf-8")
    return (*_SCRIPTS, _COMMANDS)


def _commands(*, quantized: bool, dynamic: dict[str, tuple[int | str, ...]]) -> str:
    shapes = (
        "".join(f" --{which}Shapes={_shapes(dynamic, n)}" for which, n in _BATCHES.items()) if dynamic else ""
    )
    flags = " --fp16 --int8" if quantized else " --fp16"
    tail = f"{shapes} --saveEngine=model.engine --timingCacheFile=timing.cache --profilingVerbosity=detailed"
    return (
        "# On the device, TensorRT 8.x and 10.x:\n"
        f"trtexec --onnx=model.onnx{flags}{tail}\n"
        "# TensorRT 11 (from 11.4.1 on JetPack 7.2.2), which computes in the types that the file names:\n"
        f"trtexec --onnx=model.typed.onnx{tail}\n"
    )


_BATCHES = {"min": 1, "opt": 1, "max": 8}


def _shapes(dynamic: dict[str, tuple[int | str, ...]], batch: int) -> str:
    return ",".join(
        f"{name}:{'x'.join(str(d if isinstance(d, int) else batch) for d in shape)}"
        for name, shape in dynamic.items()
    )
