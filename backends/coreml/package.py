"""An ``.mlpackage`` on disk: its manifest, its specification and where its weights are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxc.backends.coreml.toolchain import coremltools
from fxc.compiler.errors import ArtifactError

SUFFIX = ".mlpackage"
_AGAIN = "copy the whole .mlpackage folder again, or save the model again"


@dataclass(frozen=True)
class Package:
    """A Core ML model that was read, not checked further.

    Attributes:
        path: the ``.mlpackage`` folder.
        spec: coremltools' ``Model`` message.
        folder: what ``@model_path`` in the specification stands for.
    """

    path: Path
    spec: Any
    folder: Path

    @property
    def program(self) -> Any:
        """The ``Program`` message.

        Raises:
            ArtifactError: the model is of another kind.
        """
        kind = self.spec.WhichOneof("Type")
        if kind != "mlProgram":
            raise ArtifactError(
                f"{self.path} is no mlprogram but a model of the kind {kind or 'none'}",
                why="only mlprograms (iOS 15 and later) are made of MIL operators",
                fix='convert it with convert_to="mlprogram"',
            )
        return self.spec.mlProgram


def open_package(path: Path) -> Package:
    """Read an ``.mlpackage``.

    Raises:
        ArtifactError: it does not exist, or is none that can be read.
        ToolchainError: coremltools is not installed.
    """
    if not path.is_dir():
        raise ArtifactError(
            f"{path} is a file, and an .mlpackage is a folder"
            if path.exists()
            else f"there is no model {path}",
            fix="give the .mlpackage folder",
        )
    place = _model_file(path)
    message = coremltools("proto.Model_pb2").Model
    try:
        spec = message.FromString(place.read_bytes())
    except OSError as error:
        raise ArtifactError(f"cannot read {place}", why=error.strerror) from error
    except _decode_error() as error:
        raise ArtifactError(f"{place} is damaged", why=str(error), fix=_AGAIN) from error
    return Package(path, spec, place.parent)


def _decode_error() -> type[Exception]:
    from google.protobuf.message import DecodeError

    return DecodeError


def _model_file(path: Path) -> Path:
    """The specification that the manifest names as the root model."""
    manifest = path / "Manifest.json"
    try:
        document = json.loads(manifest.read_text())
        entry = document["itemInfoEntries"][document["rootModelIdentifier"]]["path"]
    except OSError as error:
        raise ArtifactError(
            f"{path} is no Core ML package", why=f"it has no Manifest.json: {error.strerror}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{manifest} is damaged", why=f"it names no root model ({error})", fix=_AGAIN
        ) from error
    data = path / "Data"
    found = data / str(entry)
    if data.resolve() not in found.resolve().parents:
        raise ArtifactError(
            f"{manifest} is damaged", why=f"the root model {entry!r} lies outside of the package"
        )
    if not found.is_file():
        raise ArtifactError(
            f"{path} has no file {entry}", why="its manifest names it as the root model", fix=_AGAIN
        )
    return found
