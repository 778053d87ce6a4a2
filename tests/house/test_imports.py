"""What importing costs and leaves behind, seen from a fresh interpreter."""

import json
import subprocess
import sys

import pytest

import fxc
from tests.house.sources import ROOMS, sources

HEAVY = ("torch", "torchvision", "onnx", "openvino", "onnxruntime", "PIL")


def modules_after(code: str) -> set[str]:
    """Names in ``sys.modules`` after a fresh interpreter ran ``code``."""
    script = f"{code}\nimport sys, json\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


COMMAND = "from fxc.tools.cli.main import main\nassert main({words!r}) == 0"


@pytest.mark.parametrize(
    "code",
    [
        "import fxc",
        "import fxc\nfxc.targets()",
        COMMAND.format(words=["--help"]),
        COMMAND.format(words=["compile", "--help"]),
        COMMAND.format(words=["targets"]),
        COMMAND.format(words=["targets", "--json"]),
    ],
)
def test_what_must_be_instant_imports_nothing_heavy(code: str) -> None:
    assert modules_after(code).isdisjoint(HEAVY)


def test_every_target_file_is_free_of_torch() -> None:
    names = [s.module for s in sources() if s.module.endswith(".target")]
    assert len(names) >= 3
    assert "torch" not in modules_after("\n".join(f"import {name}" for name in names))


def test_no_module_is_imported_twice_under_a_bare_name() -> None:
    names = [s.module for s in sources() if not s.module.endswith("__main__")]
    loaded = modules_after("\n".join(f"import {name}" for name in names))
    assert {name for name in loaded if name.split(".")[0] in ROOMS} == set()
    assert set(names) <= loaded


def test_the_face_offers_what_it_lists() -> None:
    assert {"capture", "compile", "lint", "load", "targets", "Artifact", "FxcError", "QuantConfig"} <= set(
        fxc.__all__
    )
    assert [name for name in fxc.__all__ if not hasattr(fxc, name)] == []
    assert set(fxc.__all__) <= set(dir(fxc))
    with pytest.raises(AttributeError, match="no attribute 'complie'"):
        fxc.complie  # noqa: B018
