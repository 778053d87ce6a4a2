"""``Artifact``: a compiled model with its manifest, its report and its proof, in memory and as a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor

from fxc.compiler import bundle
from fxc.compiler.backend import Emitted, Runner
from fxc.compiler.device import TOLERANCE_DB, DeviceOutput, compare_outputs
from fxc.compiler.errors import ArtifactError, UsageError
from fxc.compiler.files import (
    read_json,
    regular_files,
    write_error,
    write_json,
    write_text,
)
from fxc.compiler.folders import ensure_writable, replacing_directory, steady
from fxc.compiler.golden import Golden, read_golden, write_golden
from fxc.compiler.program import Program
from fxc.compiler.serialize import load_program, write_program
from fxc.compiler.serialize_names import NAMESPACES
from fxc.compiler.target import Target


class Host(Protocol):
    """What this host knows of targets: the catalogue, with the extensions that the caller gave.

    Attributes:
        operators: operators of extensions that a program in a bundle may use.
    """

    @property
    def operators(self) -> frozenset[str]: ...

    def target(self, name: str) -> Target:
        """The target called ``name``."""
        ...

    def open_runner(self, model: Path, target: str, **options: Any) -> Runner:
        """Load ``model`` for a target; ``options`` are the room's own (``precision``, ``threads``)."""
        ...


class Artifact:
    """A compiled model. Call it with the model's own arguments: the emitted file answers, on this host.

    Attributes:
        path: the folder it lives in: a temporary one until :meth:`save`.
        manifest: what ``manifest.json`` says: inputs, outputs, tools, hashes.
        report: what ``report.json`` says.
        timings: seconds by stage of the compile that made it; empty if they were not kept.
    """

    def __init__(
        self,
        path: Path,
        manifest: Mapping[str, Any],
        *,
        host: Host | None = None,
        work: tempfile.TemporaryDirectory[str] | None = None,
    ):
        self.path, self.manifest = path, dict(manifest)
        self.report: dict[str, Any] = read_json(path / bundle.REPORT)
        timings = path / bundle.TIMINGS
        self.timings: dict[str, Any] = read_json(timings) if timings.is_file() else {}
        self._host = host or _installed()
        # Holding it keeps the folder; when the artifact goes, so does the folder.
        self._work = work
        self._signature = bundle.signature_of(self.manifest)

    @classmethod
    def load(cls, path: Path | str, *, host: Host | None = None) -> Artifact:
        """Open a bundle, after checking every hash. Nothing from it is executed.

        Args:
            path: the folder.
            host: what is known of targets; fxc's own and those of installed extensions by default.

        Raises:
            ArtifactError: missing, cut short, changed, with files too many or too few, or of another format.
        """
        folder = Path(path)

        def read() -> Artifact:
            found = bundle.read_manifest(folder)
            bundle.verify(folder, found)
            return cls(folder, found, host=host)

        return steady(folder, read)

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.manifest["name"])

    @cached_property
    def target(self) -> Target:
        """The target it was compiled for.

        Raises:
            UsageError: neither this fxc nor an extension knows the target.
        """
        return self._host.target(str(self.manifest["target"]["name"]))

    @property
    def model(self) -> Path:
        """The main model file."""
        return self.path / str(self.manifest["model"])

    @cached_property
    def program(self) -> Program:
        """The quantized program that the file was made from, loaded when first asked for.

        Raises:
            ArtifactError: damaged, or with operators of other packages (see :meth:`load_program`).
        """
        return self.load_program()

    def load_program(self, *, namespaces: frozenset[str] = NAMESPACES) -> Program:
        """The quantized program, allowing operators of extensions and of further ``namespaces``.

        Raises:
            ArtifactError: damaged, or with operators that are not allowed.
        """
        with self._still_here():
            return load_program(
                self.path / bundle.PROGRAM, namespaces=namespaces, operators=self._host.operators
            )

    @cached_property
    def golden(self) -> Golden:
        """Recorded inputs and outputs.

        Raises:
            ArtifactError: damaged.
        """
        with self._still_here():
            return read_golden(
                self.path / bundle.GOLDEN, self._signature.tensor_inputs, self._signature.outputs
            )

    def compare_device(
        self, folder: Path | str, *, tolerance_db: float = TOLERANCE_DB
    ) -> tuple[DeviceOutput, ...]:
        """Compare what a device answered to the recorded inputs with what was recorded: float, simulated, device.

        Args:
            folder: what the runner in the bundle wrote there: ``NAME.npy`` for each output, or one per sample.
            tolerance_db: how much further from float than the file on the host a device may be.

        Raises:
            ArtifactError: the folder or a file in it cannot be what a device answered; it names the file.
            UsageError: a tolerance below zero.
        """
        names = [spec.name for spec in self._signature.outputs]
        return compare_outputs(self.golden, names, folder, report=self.report, tolerance_db=tolerance_db)

    def runner(self, *, file: str | None = None, **options: Any) -> Runner:
        """A model file loaded by its room's runtime.

        Args:
            file: another model file of the bundle, ``"model.rknn"``; the main one if left out.
            options: the room's own, such as ``precision`` and ``threads``.

        Raises:
            UsageError: the bundle has no such file.
            ToolchainError: the runtime is not installed, or cannot load the file.
        """
        model = self.model if file is None else self._file(file)
        with self._still_here():
            return self._host.open_runner(model, str(self.manifest["target"]["name"]), **options)

    def _file(self, name: str) -> Path:
        if name not in self.manifest["files"]:
            models = [n for n in self.manifest["files"] if n.startswith("model")]
            raise UsageError(f"the bundle has no file {name!r}", fix=f"one of {', '.join(models)}")
        return self.path / name

    @contextmanager
    def _still_here(self) -> Iterator[None]:
        """For files read later than the manifest: they must not be those of a bundle that took this one's place."""
        try:
            yield
        finally:
            found = read_json(self.path / bundle.MANIFEST)
            if not isinstance(found, dict) or found.get(bundle.HASH) != self.manifest[bundle.HASH]:
                raise ArtifactError(
                    "the bundle was replaced by another one after it was opened",
                    where=str(self.path),
                    fix="open it again with fxc.load",
                )

    @cached_property
    def _default_runner(self) -> Runner:
        return self.runner()

    def run_flat(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the model file on flat tensors, without checking them; outputs in the dtypes of the model."""
        arrays = self._default_runner([x.detach().cpu().contiguous().numpy() for x in inputs])
        specs = self._signature.outputs
        if len(arrays) != len(specs):
            raise ArtifactError(
                f"the model file gave {len(arrays)} outputs, the manifest lists {len(specs)}",
                where=str(self.model),
            )
        return tuple(torch.from_numpy(a).to(getattr(torch, s.dtype)) for a, s in zip(arrays, specs))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model file on the model's own arguments; the result has the model's own structure.

        Raises:
            InputError: wrong structure, count, shape or dtype.
            ToolchainError: the runtime is not installed, or cannot load the file.
        """
        return self._signature.unflatten(self.run_flat(*self._signature.flatten(args, kwargs)))

    def verify_hashes(self) -> None:
        """Check every file again.

        Raises:
            ArtifactError: naming the first file that is missing, too much, or changed.
        """
        bundle.verify(self.path, self.manifest)

    def save(self, path: Path | str, *, force: bool = False) -> Path:
        """Write the bundle to the folder ``path``, all or nothing; from then on the artifact lives there.

        Args:
            path: a folder that does not exist, is empty, or, with ``force``, holds another bundle.
            force: replace an existing bundle. A folder with other files in it is never replaced.

        Raises:
            ArtifactError: the folder cannot be written, holds something, or the disk is full; it is as it was before.
        """
        destination = Path(path)
        with suppress(OSError, ValueError):  # one of them is not there, which the copy tells better
            if destination.samefile(self.path):
                return destination
        with replacing_directory(destination, force=force, removable=bundle.is_bundle) as folder:
            self.copy_to(folder)
        self.path = destination
        return destination

    def copy_to(self, folder: Path) -> None:
        """Copy the bundle's files into ``folder`` and check the copies; not atomic, :meth:`save` is.

        Raises:
            ArtifactError: a file was damaged.
        """
        for name in regular_files(self.path):
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path / name, copy)
        bundle.verify(folder, self.manifest)

    def __repr__(self) -> str:
        return f"Artifact({self.name!r}, target={self.manifest['target']['name']!r}, path={str(self.path)!r})"


def check_output(path: Path | str, *, force: bool = False) -> None:
    """Check, before a long compile, that a bundle can be saved at ``path``.

    Raises:
        ArtifactError: not writable, or holds something that must stay.
    """
    ensure_writable(Path(path), force=force, removable=bundle.is_bundle)


def build_artifact(
    *,
    program: Program,
    target: Target,
    emitted: Emitted,
    work: tempfile.TemporaryDirectory[str],
    report: Mapping[str, Any],
    report_html: str,
    golden: Golden | Mapping[str, Any],
    preprocessing: Mapping[str, Any] | None = None,
    timings: Mapping[str, Any] | None = None,
    io: Mapping[str, Mapping[str, Any]] | None = None,
    host: Host | None = None,
    written: bool = False,
) -> Artifact:
    """Complete the bundle around the files that an emitter wrote into ``work``.

    Args:
        program: the quantized program that was emitted.
        emitted: what the emitter returned; its files lie in ``work``.
        work: temporary folder; it belongs to the artifact from here on, and other files in it are removed.
        report, report_html: content of ``report.json`` and ``report.html``.
        golden: inputs and outputs of the check; a mapping has the attribute names of :class:`Golden`.
        preprocessing: how an image becomes an input (mean, std, size, layout, …).
        timings: seconds by stage; kept unhashed.
        io: for an input or output by name, what differs in the file: ``layout``, ``dtype``, ``scale``, ``zero_point``.
        host: what is known of targets; fxc's own and those of installed extensions by default.
        written: whether :func:`keep_program` has put ``program`` into ``work`` already.

    Raises:
        ArtifactError: no space, or a name that the emitter must not use.
    """
    folder = Path(work.name)
    golden = golden if isinstance(golden, Golden) else Golden(**golden)
    reserved = {bundle.REPORT, bundle.REPORT_HTML, *bundle.UNHASHED}
    if clash := reserved & set(emitted.files):
        raise UsageError(f"the emitter wrote {sorted(clash)[0]}, which is the bundle's own")
    for name in set(regular_files(folder)) - set(emitted.files):
        if not (written and name.startswith(f"{bundle.PROGRAM}/")):
            (folder / name).unlink()
    try:
        if not written:
            keep_program(program, folder)
        write_golden(folder / bundle.GOLDEN, golden, program.tensor_inputs, program.outputs)
        write_json(folder / bundle.REPORT, dict(report))
        write_text(folder / bundle.REPORT_HTML, report_html)
        hashed = bundle.hashes(folder, set(regular_files(folder)))
        content = bundle.manifest(
            program,
            target,
            emitted,
            hashed,
            preprocessing=preprocessing,
            io=io or {},
        )
        write_json(folder / bundle.MANIFEST, content)
        write_json(folder / bundle.TIMINGS, dict(timings or {}))
    except (OSError, SafetensorError) as error:
        raise write_error(folder, error) from error
    # Read back, so that a fresh artifact and a loaded one cannot differ.
    return Artifact(folder, bundle.read_manifest(folder), host=host, work=work)


def keep_program(program: Program, folder: Path) -> None:
    """Write the quantized program into the temporary folder of a bundle.

    Raises:
        ArtifactError: no space.
    """
    try:
        (folder / bundle.PROGRAM).mkdir()
        write_program(program, folder / bundle.PROGRAM)
    except (OSError, SafetensorError) as error:
        raise write_error(folder, error) from error


def _installed() -> Host:
    # The one import of the face: only it knows the rooms.
    from fxc import catalogue

    host: Host = catalogue.INSTALLED
    return host
