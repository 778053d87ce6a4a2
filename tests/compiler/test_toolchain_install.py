"""Environments made by uv and by pip, interrupted at every step, two at once, on full and closed disks, without network."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fxc.compiler.errors import ToolchainError
from fxc.compiler.toolchain.environment import STAMP, environment, require, size, status
from fxc.compiler.toolchain.install import install
from fxc.compiler.toolchain.installer import Installer, Pip, Uv, find_installer
from fxc.compiler.toolchain.spec import Toolchain
from tests.compiler.tiny_kit import TINY, wheel, without_network

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="toolkits that live apart run on Linux")
needs_uv = pytest.mark.skipif(not isinstance(find_installer(), Uv), reason="uv is not installed")
DRIVER = [sys.executable, str(Path(__file__).with_name("tiny_kit.py"))]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and wheels of the tiny kit that uv and pip find without network."""
    monkeypatch.setenv("FXC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    wheel(tmp_path / "wheels")
    without_network(tmp_path / "wheels", monkeypatch)
    return tmp_path / "cache"


def failure(toolchain: Toolchain, installer: Installer | None = None) -> ToolchainError:
    with pytest.raises(ToolchainError) as caught:
        install(toolchain, lambda text: None, installer)
    assert caught.value.fix
    return caught.value


def imported(toolchain: Toolchain) -> bool:
    """Whether the environment works, seen from outside."""
    python = str(require(toolchain).python)
    return subprocess.run([python, "-I", "-c", f"import {toolchain.module}"], check=False).returncode == 0


@pytest.mark.parametrize(
    "installer", [pytest.param(find_installer(), marks=needs_uv), Pip()], ids=["uv", "pip"]
)
def test_an_environment_is_made_once(installer: Installer, cache: Path) -> None:
    told: list[str] = []
    with pytest.raises(ToolchainError, match="is not installed") as missing:
        require(TINY)
    assert missing.value.fix == "fxc toolchain install tiny"
    env = install(TINY, told.append, installer)
    assert env.folder == cache / "toolchains" / "tiny"
    assert (status(env).state, status(env).version) == ("ready", "1.0")
    assert 0 <= size(env.folder) - status(env).size < 1000
    assert [line for line in told if "tiny-kit 1.0 imports" in line]
    assert imported(TINY)
    again: list[str] = []
    before = (env.folder / STAMP).stat().st_mtime_ns
    install(TINY, again.append, installer)
    assert (env.folder / STAMP).stat().st_mtime_ns == before
    assert again[-1] == "tiny-kit 1.0 imports"


def test_it_sees_no_package_of_ours(cache: Path) -> None:
    env = install(TINY, lambda text: None)
    done = subprocess.run(
        [env.python, "-I", "-c", "import fxc"], env=env.variables(), capture_output=True, check=False
    )
    assert b"No module named 'fxc'" in done.stderr


def test_killed_at_every_line_of_progress_it_is_known_not_to_be_ready_and_goes_on(cache: Path) -> None:
    for after in range(1, 30):
        done = subprocess.run([*DRIVER, str(after)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        killed_last = "imports" in done.stdout.splitlines()[-1]
        assert status(environment(TINY)).state in (
            ("missing", "incomplete") if not killed_last else ("incomplete",)
        )
        with pytest.raises(ToolchainError, match="not installed"):
            require(TINY)
        if after == 2:
            assert install(TINY, lambda text: None)
            assert imported(TINY)
            shutil.rmtree(cache)
    assert after > 4
    assert imported(TINY)
    assert sorted(p.name for p in (cache / "toolchains").iterdir()) == ["tiny", "tiny.lock", "tiny.log"]


def test_of_two_at_once_one_works_and_both_succeed(cache: Path) -> None:
    both = [subprocess.Popen([*DRIVER, "0"], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = "".join(process.communicate()[0] for process in both)
    assert [process.returncode for process in both] == [0, 0, 0]
    assert told.count("environment: ") == 1
    assert imported(TINY)


def test_a_version_that_is_not_there(cache: Path) -> None:
    error = failure(Toolchain("tiny", "tiny-kit", "tiny_kit.api", ("tiny-kit==2.0",)))
    assert "no versions that fit together" in error.what
    assert "tiny-kit" in str(error.why)
    assert error.where == str(cache / "toolchains" / "tiny.log")
    assert status(environment(TINY)).state == "incomplete"
    assert imported(install(TINY, lambda text: None).toolchain)


def test_other_pins_than_the_installed_ones_are_installed_anew(cache: Path, tmp_path: Path) -> None:
    install(TINY, lambda text: None)
    wheel(tmp_path / "wheels", version="1.1")
    newer = Toolchain("tiny", "tiny-kit", "tiny_kit.api", ("tiny-kit==1.1",))
    with pytest.raises(ToolchainError, match="is not installed completely") as caught:
        require(newer)
    assert "other versions" in str(caught.value.why)
    assert status(install(newer, lambda text: None)).version == "1.1"


def test_constraints_bound_what_comes_along(cache: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", version="0.9")
    loose = Toolchain("loose", "tiny-kit", "tiny_kit.api", ("tiny-kit",), ("tiny-kit<1.0",))
    assert status(install(loose, lambda text: None)).version == "0.9"


@needs_uv
def test_no_network(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wheels" / "tiny_kit-1.0-py3-none-any.whl").unlink()
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    error = failure(TINY)
    assert "index cannot be reached" in error.what, error
    assert "HTTPS_PROXY" in str(error.fix)


@pytest.mark.slow
def test_no_network_for_pip(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wheels" / "tiny_kit-1.0-py3-none-any.whl").unlink()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "index cannot be reached" in failure(TINY, Pip()).what


def test_a_toolkit_that_does_not_import_is_not_ready(cache: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", code="import os\nprint('libcudart is gone', flush=True)\nos.abort()")
    error = failure(TINY)
    assert "cannot import tiny_kit.api: Python crashed (SIGABRT)" in error.what
    assert "libcudart is gone" in str(error.why)
    assert status(environment(TINY)).state == "incomplete"


def test_a_toolkit_that_stopped_importing_is_said_to_be_damaged(cache: Path) -> None:
    env = install(TINY, lambda text: None)
    for file in env.folder.glob("lib/*/site-packages/tiny_kit/api.py"):
        file.unlink()
    assert "damaged" in failure(TINY).what


def test_an_interpreter_that_vanished_is_noticed(cache: Path) -> None:
    env = install(TINY, lambda text: None)
    env.python.unlink()
    assert status(env).why == "its Python interpreter is gone"
    assert imported(install(TINY, lambda text: None).toolchain)


def test_a_machine_without_wheels_is_refused_first(cache: Path) -> None:
    error = failure(Toolchain("tiny", "tiny-kit", "t", ("tiny-kit",), machines=("linux-z80",)))
    assert "linux-z80" in str(error.why)
    assert not cache.exists()


def test_pip_without_a_python_that_fits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cache))
    error = failure(Toolchain("tiny", "tiny-kit", "t", ("tiny-kit==1.0",), pythons=("3.6", "3.7")), Pip())
    assert "wheels for Python 3.6, 3.7" in str(error.why)
    assert "uv" in str(error.fix)


@needs_uv
def test_uv_without_a_python_that_fits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    error = failure(Toolchain("tiny", "tiny-kit", "t", ("tiny-kit==1.0",), pythons=("3.6",)))
    assert "no Python" in error.what


def test_too_little_space_is_told_before_the_download(cache: Path) -> None:
    error = failure(Toolchain("tiny", "tiny-kit", "t", ("tiny-kit",), space=1 << 60))
    assert "too little space" in error.what
    assert re.search(r"it takes .* GiB, and .* GiB are free", str(error.why))
    assert not (cache / "toolchains" / "tiny").exists()


@pytest.mark.parametrize("place", ["/proc/fxc", "/dev/null/fxc", "/sys/fxc"])
def test_a_cache_that_cannot_be_written(place: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXC_CACHE", place)
    error = failure(TINY)
    assert place.rpartition("/")[0] in str(error.where)
    assert "FXC_CACHE" in str(error.fix)


def mounted(options: str, folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a mount namespace of its own, with a small file system at ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = f'mount -t tmpfs -o {options} none {folder} && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh", *command],
        capture_output=True,
        text=True,
        check=False,
    )


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return mounted("size=1m", Path(folder) / "m", ["true"]).returncode == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="this system lets us mount nothing")


@needs_mount
@pytest.mark.parametrize("size_kib", [8, 24, 40])
def test_a_disk_that_is_full(size_kib: int, cache: Path) -> None:
    done = mounted(f"size={size_kib}k", cache, [*DRIVER, "0"])
    assert done.returncode == 1
    assert "ToolchainError" in done.stderr
    assert re.search("disk is full|No space left", done.stderr), done.stderr
    assert "on another disk" in done.stderr
    assert not any(cache.iterdir())


@needs_mount
def test_a_disk_that_is_read_only(cache: Path) -> None:
    done = mounted("ro", cache, [*DRIVER, "0"])
    assert done.returncode == 1
    assert "ToolchainError: the toolchain tiny cannot be installed: Read-only file system" in done.stderr
    assert "FXC_CACHE" in done.stderr


@needs_mount
def test_a_ready_environment_on_a_read_only_disk_serves(cache: Path) -> None:
    env = install(TINY, lambda text: None)
    folder = str(cache)
    remount = f'mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && exec "$@"'
    code = "from fxc.compiler.toolchain import worker, environment as e\nfrom pathlib import Path\nimport tempfile\n"
    code += "from tests.compiler.tiny_kit import TINY\nd = Path(tempfile.mkdtemp())\n"
    code += "(d / 's.py').write_text(\"import sys; open(sys.argv[2], 'w').write('{\\\"ok\\\": 1}')\")\n"
    code += "print(worker.run(e.require(TINY), d / 's.py', {}, d, seconds=60, log=d / 'log'))"
    for command in ([*DRIVER, "0"], [sys.executable, "-c", code]):
        done = subprocess.run(
            ["unshare", "--mount", "--map-root-user", "sh", "-c", remount, "sh", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "{'ok': 1}" in done.stdout
    assert os.access(env.folder, os.W_OK)
