"""Read a ``.pt2`` that somebody else wrote without running anything from it.

``torch.export.load`` unpickles weights marked ``use_pickle``, pickled constants, sample inputs that its safe loader
rejects, loads compiled libraries, and evaluates shape expressions (``torch/export/pt2_archive/_package.py``,
``torch/_export/serde/serialize.py``; its documentation says never to load untrusted files). So the archive is scanned
as a plain zip of JSON and raw tensor bytes, and PyTorch is given a new archive made of what passed the scan: it never
sees the original, so two zip readers cannot disagree about what is in it.
"""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fxc.compiler.capture.pt2_document import cleaned
from fxc.compiler.errors import ArtifactError
from fxc.compiler.scratch import WorkFolder

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLES = "data/sample_inputs/model.pt"
_PAYLOAD = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_MARKS = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id")
_DOCUMENT_LIMIT = 512 << 20


@dataclass(frozen=True)
class _Content:
    """What passed: documents to write again, raw tensor members to copy, and the sample inputs' bytes."""

    root: str
    documents: Mapping[str, Any]
    payloads: tuple[str, ...]
    samples: Any


def scan(path: Path | str) -> list[str]:
    """Everything in a ``.pt2`` that could run code or that a genuine file would not hold; empty if it is clean.

    Nothing is unpickled, evaluated or executed, whatever the file holds.

    Raises:
        ArtifactError: the file cannot be read, is cut short, or is not a ``.pt2`` at all.
    """
    findings: list[str] = []
    with _opened(Path(path)) as archive:
        _content(archive, findings)
    return findings


def load(path: Path | str, *, trust: bool = False) -> torch.export.ExportedProgram:
    """The exported program in a ``.pt2``.

    Args:
        path: the file.
        trust: hand the file to ``torch.export.load`` as it is if the scan found something. Code in it will run.

    Raises:
        ArtifactError: the file cannot be read, or the scan found something; the message lists it.
    """
    path, findings = Path(path), list[str]()
    with _opened(path) as archive:
        content = _content(archive, findings)
        if not findings:
            return _load_clean(path, archive, content)
    if not trust:
        raise _refused(path, findings)
    warnings.warn(
        f"{path}: loading a .pt2 that can run code, because it was asked for. Found: {'; '.join(findings[:8])}",
        stacklevel=2,
    )
    return _read_with_torch(path, path)


def _refused(path: Path, findings: list[str]) -> ArtifactError:
    shown = "; ".join(findings[:8]) + (f"; and {len(findings) - 8} more" if len(findings) > 8 else "")
    return ArtifactError(
        f"{path.name} is refused: loading it could run code",
        where=str(path),
        why=shown,
        fix="export the model again from its source, or, if you trust who made the file, pass trust=True (--trust)",
    )


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise ArtifactError(f"cannot read {path.name}: {error.strerror}", where=str(path)) from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ArtifactError(
            f"{path.name} is not a .pt2 file, or was cut short: {error}",
            where=str(path),
            fix="copy it again, or write it with torch.export.save",
        ) from error


def _content(archive: zipfile.ZipFile, findings: list[str]) -> _Content:
    root = _check_members(archive, findings)
    names = {name.removeprefix(root) for name in archive.namelist()}
    if MODEL not in names:
        raise ArtifactError(
            f"{Path(str(archive.filename)).name} is not a .pt2 in the present format, or was cut short",
            where=str(archive.filename),
            fix="write it with torch.export.save of PyTorch 2.8 or newer",
        )
    if "byteorder" in names and _read(archive, root, "byteorder") != b"little":
        findings.append("byteorder: only little-endian files are read")
    documents = {name: _document(archive, root, name, findings) for name in (MODEL, WEIGHTS, CONSTANTS)}
    payloads: set[str] = set()
    for name, folder in ((WEIGHTS, "data/weights"), (CONSTANTS, "data/constants")):
        payloads |= _check_payloads(archive, root, folder, documents[name], findings)
    samples = _samples(archive, root, findings) if SAMPLES in names else None
    return _Content(root, documents, tuple(sorted(payloads)), samples)


def _check_members(archive: zipfile.ZipFile, findings: list[str]) -> str:
    """Check names and sizes before any content; return the archive's root folder with its slash."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    root = names[0].split("/")[0] + "/" if names else ""
    size = Path(str(archive.filename)).stat().st_size
    if len(set(names)) != len(names):
        findings.append("a member name is there twice")
    # A genuine file stores its members as they are, so together they cannot be larger than the file.
    if sum(info.file_size for info in infos) > size or any(info.compress_type for info in infos):
        findings.append("members are compressed or overlap: this is how a small file fills a disk")
    for info in infos:
        reason = _member_reason(info, root)
        if reason:
            findings.append(f"{info.filename}: {reason}")
    return root


def _member_reason(info: zipfile.ZipInfo, root: str) -> str | None:
    name = info.filename.removeprefix(root)
    if not info.filename.startswith(root) or {"", ".", ".."} & set(info.filename.split("/")) or "\\" in name:
        return "not a plain name below the archive's own folder"
    if name in (MODEL, WEIGHTS, CONSTANTS, SAMPLES, *_MARKS) or _PAYLOAD.fullmatch(name):
        return None
    if name.startswith("extra/"):
        return None
    if name.startswith("data/aotinductor/"):
        return "a compiled library, which loading would execute"
    if re.search(r"(custom|opaque)_obj_\d+$|\.(pt|pkl|pickle)$", name):
        return "a pickled object, which loading would execute"
    return "a genuine file has no such member"


def _read(archive: zipfile.ZipFile, root: str, name: str) -> bytes:
    try:
        if archive.getinfo(root + name).file_size > _DOCUMENT_LIMIT:
            raise ArtifactError(f"{name} is too large", where=str(archive.filename))
        return archive.read(root + name)
    except (KeyError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ArtifactError(
            f"{name} in {Path(str(archive.filename)).name} is missing or damaged: {error}",
            where=str(archive.filename),
            fix="copy the file again, or write it with torch.export.save",
        ) from error


def _document(archive: zipfile.ZipFile, root: str, name: str, findings: list[str]) -> Any:
    try:
        parsed = json.loads(_read(archive, root, name).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{name} in {Path(str(archive.filename)).name} is not JSON: {error}", where=str(archive.filename)
        ) from error
    if not isinstance(parsed, dict):
        raise ArtifactError(f"{name} is not a JSON object", where=str(archive.filename))
    found: list[str] = []
    document = cleaned(parsed, found)
    findings += [f"{name}: {text}" for text in found]
    return document


def _check_payloads(
    archive: zipfile.ZipFile, root: str, folder: str, document: Any, findings: list[str]
) -> set[str]:
    """Members that a payload table names; a table that promises more than its bytes hold is a finding."""
    used: set[str] = set()
    for name, meta in dict(document.get("config") or {}).items():
        member = f"{folder}/{meta.get('path_name')}" if isinstance(meta, dict) else ""
        if not _PAYLOAD.fullmatch(member) or root + member not in archive.NameToInfo:
            findings.append(f"{folder}: {name} has no tensor bytes in the archive")
        elif meta.get("use_pickle") is not False:
            findings.append(f"{folder}: {name} is pickled, which loading would execute")
        elif not _fits(meta.get("tensor_meta"), archive.NameToInfo[root + member].file_size):
            findings.append(f"{folder}: {name} is larger than its bytes")
        else:
            used.add(member)
    return used


def _fits(meta: Any, stored: int) -> bool:
    try:
        sizes = [size["as_int"] for size in meta["sizes"]]
        return all(size >= 0 for size in sizes) and (stored > 0 or math.prod(sizes) == 0)
    except (KeyError, TypeError):
        return False


def _samples(archive: zipfile.ZipFile, root: str, findings: list[str]) -> Any:
    """Sample inputs, read by the loader that builds tensors and plain containers and calls nothing else."""
    data = _read(archive, root, SAMPLES)
    if not data:
        return None
    try:
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except MemoryError as error:
        raise ArtifactError(f"{SAMPLES} does not fit in memory", where=str(archive.filename)) from error
    # Any other failure means the same: this member is not a plain set of tensors. PyTorch's own words would
    # tell the user to load it unsafely.
    except Exception:  # noqa: BLE001
        findings.append(f"{SAMPLES}: a pickle of more than tensors, which loading would execute")
        return None


def _load_clean(path: Path, archive: zipfile.ZipFile, content: _Content) -> torch.export.ExportedProgram:
    with WorkFolder("pt2") as folder:
        copy = Path(folder, "model.pt2")
        try:
            _write_clean(copy, archive, content)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise ArtifactError(f"{path.name} is damaged: {error}", where=str(path)) from error
        return _read_with_torch(copy, path)


def _write_clean(copy: Path, archive: zipfile.ZipFile, content: _Content) -> None:
    samples = io.BytesIO()
    if content.samples is not None:
        torch.save(content.samples, samples)
    marks = {"archive_format": "pt2", "archive_version": "0", "byteorder": "little", ".data/version": "3\n"}
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as new:
        for name, text in marks.items():
            new.writestr(f"model/{name}", text)
        for name, document in content.documents.items():
            new.writestr(f"model/{name}", json.dumps(document))
        new.writestr(f"model/{SAMPLES}", samples.getvalue())
        for name in content.payloads:
            info = zipfile.ZipInfo(f"model/{name}")
            # The size decides whether the writer needs 64-bit fields.
            info.file_size = archive.getinfo(content.root + name).file_size
            with archive.open(content.root + name) as source, new.open(info, "w") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def _read_with_torch(file: Path, path: Path) -> torch.export.ExportedProgram:
    try:
        return torch.export.load(file)
    # PyTorch's reader fails in many ways on a file of another version.
    except Exception as error:
        text = str(error).strip().rpartition("\n")[2]
        raise ArtifactError(
            f"PyTorch {torch.__version__} cannot read {path.name}: {text[:300]}",
            where=str(path),
            fix="write the file with torch.export.save of this PyTorch",
        ) from error
