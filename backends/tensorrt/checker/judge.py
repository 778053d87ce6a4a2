"""All rules in one table, and the function that asks them."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from fxc.backends.tensorrt.checker import (
    codes,
    dla,
    dla_limits,
    file,
    placement,
    quantizers,
    types,
    weights,
    widths,
)
from fxc.backends.tensorrt.checker.graph import View
from fxc.backends.tensorrt.checker.rule import Finding, Rule, Setting
from fxc.compiler.errors import ArtifactError, UsageError

RULES: tuple[Rule, ...] = (
    *file.RULES,
    *quantizers.RULES,
    *codes.RULES,
    *weights.RULES,
    *placement.RULES,
    *widths.RULES,
    *types.RULES,
    *dla.RULES,
    *dla_limits.RULES,
)


def check_file(path: Path, *, tensorrt: str, dla: bool = False) -> list[Finding]:
    """Judge an ONNX file by TensorRT's rules of explicit quantization.

    Only the file is read; nothing of what made it is shared. The bodies of control-flow operators are not entered.

    Args:
        path: the ONNX file; external data beside it.
        tensorrt: the version that will build it, ``"8.5"``, ``"10.3"``, ``"11.4.1"``.
        dla: whether it is built for the deep learning accelerator of a Jetson.

    Returns:
        Every finding, errors first; empty for a file that TensorRT takes and runs as it is meant.

    Raises:
        UsageError: a version that is not one, or older than 8.0.
        ArtifactError: a file that cannot be read as ONNX.
    """
    setting = Setting(_version(tensorrt), dla)
    view = _view(Path(path))
    found = [finding for rule in RULES for finding in rule.findings(view, setting)]
    return sorted(found, key=lambda finding: finding.severity != "error")


def _version(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(\.\d+){1,3}", text) or int(text.split(".")[0]) < 8:
        raise UsageError(
            f"{text!r} is not a version of TensorRT that reads Q/DQ", fix="give one like 8.5, 10.3 or 11.4.1"
        )
    return tuple(map(int, text.split(".")))


def _view(path: Path) -> View:
    try:
        return View(onnx.load(path, load_external_data=False), path.parent)
    except (OSError, DecodeError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(
            "this file cannot be read as ONNX", where=str(path), why=str(error), fix="emit it again"
        ) from error
