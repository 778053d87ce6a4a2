"""What is on disk is what the wheel holds."""

from pathlib import Path

import pytest

from tests.house.sources import ROOMS, ROOT

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def folders_with_python() -> list[Path]:
    found = {f.parent for room in ROOMS for f in (ROOT / room).rglob("*.py") if "__pycache__" not in f.parts}
    return sorted(folder.relative_to(ROOT) for folder in found)


def package(folder: Path) -> str:
    parts = folder.parts[2:] if folder.parts[:2] == ("compiler", "_fxc") else folder.parts
    return ".".join(("fxc", *parts))


def test_every_folder_with_python_is_a_listed_package() -> None:
    assert sorted(SETTINGS["packages"]) == sorted(map(package, folders_with_python()))


def test_every_package_has_an_init_file() -> None:
    assert [f for f in folders_with_python() if not (ROOT / f / "__init__.py").is_file()] == []


def test_every_data_file_is_listed() -> None:
    """A template that is missing from package-data works in the editable install and fails in the wheel."""
    listed = {
        (folder, pattern.removeprefix("*"))
        for folder, patterns in SETTINGS["package-data"].items()
        for pattern in patterns
    }
    missing = [
        str(file.relative_to(ROOT))
        for folder in folders_with_python()
        for file in (ROOT / folder).iterdir()
        if file.suffix in (".html", ".css", ".js", ".json", ".yaml", ".txt", ".svg")
        and (package(folder), file.suffix) not in listed
    ]
    assert missing == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_explains_itself(room: str) -> None:
    assert (ROOT / room / "README.md").stat().st_size > 200


def test_every_backend_has_the_same_files() -> None:
    """After reading one backend a reader knows where to look in all of them; ``onnx`` and ``apple`` are what rooms share."""
    shared = ("onnx", "apple")
    rooms = [
        d for d in (ROOT / "backends").iterdir() if (d / "__init__.py").is_file() and d.name not in shared
    ]
    wanted = ("target.py", "legal.py", "passes.py", "emit.py", "run.py", "README.md")
    missing = [f"{room.name}/{name}" for room in rooms for name in wanted if not (room / name).is_file()]
    assert rooms
    assert missing == []
