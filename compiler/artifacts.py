"""``Artifacts``: one model compiled for several targets, in memory and as a folder of bundles with one report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fxc.compiler import bundle
from fxc.compiler.artifact import Artifact, Host
from fxc.compiler.errors import ArtifactError
from fxc.compiler.files import read_json, reading, safe_relative, write_json, write_text
from fxc.compiler.folders import replacing_directory, steady

KIND = "fxc bundles"
FORMAT = 1
INDEX = "targets.json"
_OWN = frozenset({INDEX, bundle.REPORT, bundle.REPORT_HTML})


class Artifacts(Mapping[str, Artifact]):
    """Artifacts by target name, in the order in which the targets were given.

    Attributes:
        report: every target's numbers side by side.
    """

    def __init__(self, artifacts: Sequence[Artifact], report: Mapping[str, Any], report_html: str):
        self._artifacts = {str(a.manifest["target"]["name"]): a for a in artifacts}
        self.report, self._html = dict(report), report_html

    def __getitem__(self, target: str) -> Artifact:
        return self._artifacts[target]

    def __iter__(self) -> Iterator[str]:
        return iter(self._artifacts)

    def __len__(self) -> int:
        return len(self._artifacts)

    def __repr__(self) -> str:
        return f"Artifacts({', '.join(map(repr, self._artifacts.values()))})"

    @property
    def name(self) -> str:
        """The model's name."""
        return next(iter(self._artifacts.values())).name

    def save(self, path: Path | str, *, force: bool = False) -> Path:
        """Write a bundle for each target, ``path/<target>``, and one report over all, all or nothing.

        Each of the bundles can be used on its own.

        Raises:
            ArtifactError: the folder cannot be written, holds something, or the disk is full; it is as it was before.
        """
        destination = Path(path)
        with replacing_directory(destination, force=force, removable=is_index) as folder:
            for name, artifact in self._artifacts.items():
                artifact.copy_to(folder / name)
            write_json(folder / bundle.REPORT, self.report)
            write_text(folder / bundle.REPORT_HTML, self._html)
            # A list: the order is the user's, and JSON objects are written sorted.
            manifests = [[name, a.manifest[bundle.HASH]] for name, a in self._artifacts.items()]
            reports = bundle.hashes(folder, (bundle.REPORT, bundle.REPORT_HTML))
            write_json(
                folder / INDEX, {"kind": KIND, "format": FORMAT, "targets": manifests, "files": reports}
            )
        for name, artifact in self._artifacts.items():
            artifact.path = destination / name
        return destination

    @classmethod
    def load(cls, path: Path | str, *, host: Host | None = None) -> Artifacts:
        """Open what :meth:`save` wrote, after checking every hash. Nothing from it is executed.

        Raises:
            ArtifactError: missing, damaged, mixed with another compile's bundles, or of another format.
        """
        folder = Path(path)
        return steady(folder, lambda: cls._read(folder, host))

    @classmethod
    def _read(cls, folder: Path, host: Host | None) -> Artifacts:
        found = _read_index(folder)
        artifacts = []
        for name, manifest in found["targets"].items():
            artifact = Artifact.load(folder / name, host=host)
            if artifact.manifest[bundle.HASH] != manifest:
                raise ArtifactError(
                    f"the bundle {name} is not the one that {INDEX} lists",
                    where=str(folder / name),
                    why="it was replaced by another compile's",
                    fix=f"open it on its own, or compile again for {', '.join(found['targets'])}",
                )
            artifacts.append(artifact)
        for name, facts in found["files"].items():
            bundle.verify_file(folder / name, name, facts)
        html = (folder / bundle.REPORT_HTML).read_text(encoding="utf-8")
        return cls(artifacts, read_json(folder / bundle.REPORT), html)


def is_index(path: Path) -> bool:
    """Whether the folder holds bundles of several targets, as :meth:`Artifacts.save` writes them, and nothing else."""
    try:
        names = set(_read_index(path)["targets"])
        here = {entry.name for entry in path.iterdir()}
        return here <= names | _OWN and all(bundle.is_bundle(path / name) for name in names & here)
    except ArtifactError:
        return False


def has_index(path: Path) -> bool:
    """Whether the folder says that it holds bundles of several targets."""
    return (path / INDEX).is_file()


def _read_index(folder: Path) -> dict[str, Any]:
    file = folder / INDEX
    with reading(file):
        found = read_json(file)
        if not isinstance(found, dict) or found.get("kind") != KIND:
            raise ArtifactError(f"{INDEX} is no list of fxc bundles")
        if found.get("format") != FORMAT:
            raise ArtifactError(
                f"the list of bundles has format {str(found.get('format'))[:20]}, this fxc reads {FORMAT}",
                fix="install the fxc that wrote it, or compile again",
            )
        found["targets"] = dict(found["targets"])
        for name in (*found["targets"], *found["files"]):
            safe_relative(name)
        if not found["targets"] or set(found["files"]) != {bundle.REPORT, bundle.REPORT_HTML}:
            raise ArtifactError(f"{INDEX} is not whole")
        return found
