"""Who is compared. Each path goes from an ``nn.Module`` and images to a file on disk. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxc import catalogue
from fxc.compiler.errors import FxcError, ToolchainError
from fxc.tools.bench.plan import DEFAULT

if TYPE_CHECKING:
    from fxc.tools.bench.subject import Subject

INSTALL = "pip install 'fxc[bench]'"


@dataclass(frozen=True)
class Built:
    """What a path left on disk.

    Attributes:
        file: the int8 model file.
        stages: seconds of the path's own steps, in order.
    """

    file: Path
    stages: Mapping[str, float] = field(default_factory=dict)


Build = Callable[["Subject", Path, Mapping[str, Any]], Built]


@dataclass(frozen=True)
class Contestant:
    """One path.

    Attributes:
        title: for people.
        build: ``"module:function"`` of the path.
        needs: packages that must be there.
        how: what it does, in one line.
    """

    title: str
    build: str
    needs: tuple[str, ...]
    how: str


CONTESTANTS = {
    DEFAULT: Contestant(
        "fxc", "fxc.tools.bench.path_fxc:build", ("openvino",),
        'fxc.compile(model, "cpu-int8"), its checks and report included, and artifact.save',
    ),
    "ort": Contestant(
        "ORT path", "fxc.tools.bench.path_ort:build", ("onnxruntime", "onnxscript"),
        "torch.onnx.export(dynamo=True), quant_pre_process, quantize_static (QDQ, per channel, u8 activations, s8 weights)",
    ),
    "nncf": Contestant(
        "NNCF", "fxc.tools.bench.path_nncf:build", ("openvino", "nncf"),
        "ov.convert_model, nncf.quantize of the OpenVINO model (model_type=TRANSFORMER where there is attention), ov.save_model",
    ),
}  # fmt: skip
"""NNCF quantizes the converted model, as its OpenVINO examples do; its torch backend first builds a C++ extension."""
PEERS = tuple(name for name in CONTESTANTS if name != DEFAULT)


def contestant(name: str) -> Contestant:
    """The path behind a name; ``fxc:<variant>`` is fxc's."""
    return CONTESTANTS[name.partition(":")[0]]


def title(name: str) -> str:
    """What a contestant is called in a table."""
    return name if ":" in name else CONTESTANTS[name].title


def missing(name: str) -> tuple[str, ...]:
    """Packages that a contestant needs and that are not installed."""
    return tuple(p for p in contestant(name).needs if find_spec(p) is None)


def build(name: str, subject: Subject, folder: Path, options: Mapping[str, Any]) -> Built:
    """Run one path from the model to a file in ``folder``.

    Raises:
        ToolchainError: the path is not installed, or failed; a peer's own error is the cause.
    """
    if absent := missing(name):
        raise ToolchainError(f"{', '.join(absent)} is not installed", fix=INSTALL)
    path: Build = catalogue.resolve(contestant(name).build)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return path(subject, folder, options)
    except FxcError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise ToolchainError(f"{type(error).__name__}: {lines[0][:120]}") from error
