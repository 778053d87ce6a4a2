"""A toolkit of three files, as a wheel in a folder, so that installations need no network."""

import base64
import hashlib
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fxc.compiler.toolchain.install import install
from fxc.compiler.toolchain.spec import Toolchain

TINY = Toolchain("tiny", "tiny-kit", "tiny_kit.api", ("tiny-kit==1.0",), variables={"TINY_QUIET": "1"})
"""Written out below as a wheel."""


def wheel(folder: Path, *, name: str = "tiny_kit", version: str = "1.0", code: str = "") -> Path:
    """A pure-Python wheel with one package, whose module ``api`` is ``code``."""
    files = {
        f"{name}/__init__.py": "",
        f"{name}/api.py": code,
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-{version}.dist-info/RECORD"
    files[record] = "".join(f"{path},{_hash(text)},{len(text)}\n" for path, text in files.items())
    files[record] += f"{record},,\n"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


def without_network(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uv and pip know only what is in ``wheels``."""
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "UV_INDEX", "UV_DEFAULT_INDEX", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def _hash(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return "sha256=" + digest.rstrip(b"=").decode()


def _dying(after: int) -> Callable[[str], None]:
    left = after

    def report(text: str) -> None:
        nonlocal left
        print(text, flush=True)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)

    return report


if __name__ == "__main__":
    # ``tiny_kit.py N``: install, and die without any clean-up at the Nth line of progress; 0 for never.
    install(TINY, _dying(int(sys.argv[1])))
