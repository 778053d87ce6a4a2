"""The stranger's package built, installed into a folder, and found there by its entry point, in processes of their own."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).with_name("acme")
BUILD = "import sys\nfrom setuptools import build_meta\nbuild_meta.build_wheel(sys.argv[1])"

COMPILE = """
import sys, torch, fxc
from acme_fxc.ops import AcmeNet
torch.manual_seed(0)
net = AcmeNet().eval()
image = torch.randn(2, 3, 16, 16)
with torch.no_grad():
    wanted = net(image)
targets = ["ort-fp32", "acme-fp32", "acme-int8"]
artifacts = fxc.compile(net, targets, example_inputs=image, calibration_data=[image])
loaded = fxc.load(artifacts.save(sys.argv[1]))
for target in targets:
    artifact = artifacts[target]
    error = (artifact(image) - wanted).norm() / wanted.norm()
    assert error < (0.1 if target == "acme-int8" else 1e-5), (target, error)
    assert "extension{of=acme,tolerance=0.0}" in str(artifact.report["passes"])
    assert artifact.manifest["tools"]["acme"] == "0.3.0"
    assert torch.equal(loaded[target](image), artifact(image))
    assert torch.equal(loaded[target].program(image), artifact.program(image))
assert sum(kernel.integer for kernel in loaded["acme-int8"].runner().kernels()) == 3

# Given and installed at once, it counts once, and the given one counts.
from acme_fxc import EXTENSION
again = fxc.compile(net, "ort-fp32", example_inputs=image, extensions=[EXTENSION])
assert [p["pass"] for p in again.report["passes"]].count("extension{of=acme,tolerance=0.0}") == 1
assert "acme" not in again.manifest["tools"]
"""

PLAIN = """
import torch, fxc
from torch import nn
x = torch.randn(2, 3, 8, 8)
artifact = fxc.compile(nn.Conv2d(3, 4, 3).eval(), "ort-fp32", example_inputs=x)
print([note["text"] for note in artifact.report["notes"] if note["kind"] == "warning"])
"""

TARGETS = "from fxc.tools.cli.main import main\nimport sys\ncode = main(sys.argv[1:])\n"


def python(code: str, *arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in it as an installer leaves it; built without network and without isolation."""
    pytest.importorskip("setuptools", minversion="77", reason="needed to build the package")
    folder = tmp_path_factory.mktemp("acme")
    copy = folder / "project"
    for file in sorted(PROJECT.rglob("*")):
        if file.is_file() and file.suffix in (".py", ".toml", ".md"):
            (copy / file.relative_to(PROJECT)).parent.mkdir(parents=True, exist_ok=True)
            (copy / file.relative_to(PROJECT)).write_bytes(file.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder with four packages whose extensions cannot be used, each for another reason."""
    codes = {
        "raises": "raise RuntimeError('no chip found')",
        "another": "EXTENSION = 'not an extension'",
        "clashing": "from dataclasses import replace\nfrom fxc import Extension\nfrom fxc.backends.ort.target import ORT_FP32\n"
        "EXTENSION = Extension('clashing', targets=(ORT_FP32,))",
        "dangling": "from fxc import Extension\nEXTENSION = Extension('dangling', rules='dangling.rules:RULES')",
    }
    for name, code in codes.items():
        (tmp_path / f"{name}.py").write_text(code)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[fxc.extensions]\n{name} = {name}:EXTENSION\n")
    return tmp_path


def test_an_installed_extension_compiles_and_runs(site: Path, tmp_path: Path) -> None:
    done = python(COMPILE, str(tmp_path / "all"), path=site)
    assert done.returncode == 0, done.stderr
    # Where the package is not installed, the bundle says what it needs.
    code = f"import fxc\nfxc.load({str(tmp_path / 'all' / 'acme-fp32')!r}).runner()"
    bare = python(code, path=tmp_path)
    assert "unknown target 'acme-fp32'" in bare.stderr
    assert "extensions=[…]" in bare.stderr


def test_its_targets_are_listed_without_torch(site: Path) -> None:
    done = python(
        TARGETS + "assert 'torch' not in sys.modules\nassert code == 0", "targets", "--json", path=site
    )
    assert done.returncode == 0, done.stderr
    listed = [target["name"] for target in json.loads(done.stdout)["targets"]]
    assert listed[:1] == ["cpu-int8"]
    assert listed[-2:] == ["acme-int8", "acme-fp32"]
    assert done.stderr == ""


def test_a_broken_package_is_a_warning_of_the_listing(broken: Path) -> None:
    done = python(TARGETS + "assert code == 0", "targets", "--json", path=broken)
    assert done.returncode == 0, done.stderr
    assert "cpu-int8" in done.stdout
    said = done.stderr.splitlines()
    assert len(said) == 3
    assert "extension another of package another (another:EXTENSION) cannot be used: it is a str" in said[0]
    assert (
        "extension raises of package raises (raises:EXTENSION) cannot be used: RuntimeError: no chip found"
        in said[1]
    )
    assert "clashing of package clashing" in said[2]
    assert "cannot be used: target 'ort-fp32' is in use (fxc has it)" in said[2]


def test_a_broken_package_leaves_other_compiles_alone(broken: Path) -> None:
    done = python(PLAIN, path=broken)
    assert done.returncode == 0, done.stderr
    for words in (
        "no chip found",
        "it is a str",
        "'ort-fp32' is in use",
        "dangling.rules:RULES cannot be loaded",
    ):
        assert words in done.stdout


def test_an_unknown_target_names_the_broken_packages(broken: Path) -> None:
    done = python("import fxc\nfxc.lint(None, 'raising-int8')", path=broken)
    assert "UsageError: unknown target 'raising-int8'" in done.stderr
    assert "no chip found" in done.stderr


def test_a_target_of_fxc_looks_for_no_package(broken: Path) -> None:
    code = "from fxc import catalogue\nimport sys\ncatalogue.target('cpu-int8')\nassert 'raises' not in sys.modules\n"
    done = python(f"{code}assert 'importlib.metadata' not in sys.modules", path=broken)
    assert done.returncode == 0, done.stderr
