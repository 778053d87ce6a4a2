"""Scripts in another Python that behave as vendors' tools do: they crash, hang, flood, and leave half an answer."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxc.compiler.errors import ToolchainError
from fxc.compiler.toolchain import process, worker
from fxc.compiler.toolchain.environment import Environment
from fxc.compiler.toolchain.lock import changing
from fxc.compiler.toolchain.spec import Toolchain

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="toolkits that live apart run on Linux")

KIT = Toolchain("kit", "kit", "kit", ("kit",), variables={"KIT_QUIET": "yes"})
HERE = Environment(KIT, Path(sys.prefix))
"""Any Python will do."""

ANSWERING = """
import json, sys
request = json.load(open(sys.argv[1]))
def answer(value):
    open(sys.argv[2], "w").write(json.dumps(value))
"""
HANGING = (
    "import subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\nprint(child.pid)\ntime.sleep(600)"
)


def run(folder: Path, code: str, *, seconds: float = 60, request: Any = None, report: Any = None) -> Any:
    script = folder / "script.py"
    script.write_text(code)
    log = folder / "log.txt"
    return worker.run(HERE, script, request or {}, folder, seconds=seconds, log=log, report=report)


def failure(folder: Path, code: str, **options: Any) -> ToolchainError:
    with pytest.raises(ToolchainError) as caught:
        run(folder, code, **options)
    return caught.value


def gone(pid: int, seconds: float = 10) -> bool:
    """Whether a process ends soon; one that nobody has waited for yet counts as ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def test_a_request_and_arrays_come_back_in_an_answer(tmp_path: Path) -> None:
    code = ANSWERING + (
        "import numpy as np\n"
        "x = np.load(request['x'])\n"
        "np.save('y.npy', (x * request['by']).astype(np.float16))\n"
        "answer({'y': ['y.npy'], 'said': request['said']})\n"
    )
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    names = worker.save_arrays(tmp_path, {"x": x})
    answer = run(tmp_path, code, request={**names, "by": 3, "said": "größer ∞"})
    assert answer["said"] == "größer ∞"
    (y,) = worker.load_arrays(tmp_path, answer["y"])
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, x * 3)


def test_progress_is_told_and_the_rest_is_logged(tmp_path: Path) -> None:
    told: list[str] = []
    code = ANSWERING + "print('fxc: load')\nprint('chatter')\nprint('fxc: build')\nanswer({'ok': 1})"
    run(tmp_path, code, report=told.append)
    assert told == ["load", "build"]
    assert "chatter" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import os\nprint('about to abort', flush=True)\nos.abort()", r"crashed \(SIGABRT\)"),
        ("import ctypes\nprint('about to read 0')\nctypes.string_at(0)", r"crashed \(SIGSEGV\)"),
        ("import os, signal\nprint('big')\nos.kill(os.getpid(), signal.SIGKILL)", "memory runs out"),
        ("print('three')\nraise SystemExit(3)", "failed with exit code 3"),
        ("print('no')\nraise ValueError('a wrong thing')", "failed with exit code 1"),
        ("import os\nprint('quiet end')\nos._exit(0)", "left no complete answer"),
        ("import sys\nopen(sys.argv[2], 'w').write('{\"model\": \"m.rk')", "left no complete answer"),
        ("import sys\nopen(sys.argv[2], 'w').write('[1]')", "left no complete answer"),
        ("def broken(:", "failed with exit code 1"),
    ],
)
def test_every_bad_end_is_one_clear_error(code: str, what: str, tmp_path: Path) -> None:
    error = failure(tmp_path, code)
    assert re.search(what, error.what), error
    assert error.where == str(tmp_path / "log.txt")
    for said in ("about to", "big", "three", "quiet end", "a wrong thing"):
        if said in code:
            assert said in str(error.why)


def test_a_crash_after_a_good_answer_is_a_crash(tmp_path: Path) -> None:
    error = failure(tmp_path, ANSWERING + "answer({'ok': 1})\nimport os\nos.abort()")
    assert "SIGABRT" in error.what


def test_an_older_answer_is_not_taken_for_this_one(tmp_path: Path) -> None:
    run(tmp_path, ANSWERING + "answer({'ok': 1})")
    assert "no complete answer" in failure(tmp_path, "pass").what


def test_the_last_lines_are_of_this_run_and_readable(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("of another run\n")
    code = "print('\\x1b[1;33mW\\x1b[0m warned')\nprint('0%\\r50%\\r100% done')\nprint('read: 100%|#####| 4/4')\nprint('\\x07', end='\\n\\n')\nraise SystemExit(1)"
    error = failure(tmp_path, code)
    assert error.why is not None
    assert error.why.splitlines()[1:] == [" " * 9 + "W warned", " " * 9 + "100% done"]


def test_a_refusal_says_what_the_script_says(tmp_path: Path) -> None:
    error = failure(
        tmp_path, ANSWERING + "answer({'error': {'what': 'no such chip', 'why': 'w', 'fix': 'f'}})"
    )
    assert (error.what, error.why, error.fix) == ("the toolchain kit: no such chip", "w", "f")


def test_a_hang_ends_in_time_with_all_its_children(tmp_path: Path) -> None:
    start = time.monotonic()
    error = failure(tmp_path, HANGING, seconds=1)
    assert time.monotonic() - start < 30
    assert "did not end within 1 s" in error.what
    assert gone(int((tmp_path / "log.txt").read_text()))


def test_children_do_not_outlive_a_good_end(tmp_path: Path) -> None:
    code = ANSWERING + "import subprocess\nanswer({'pid': subprocess.Popen(['sleep', '600']).pid})"
    assert gone(run(tmp_path, code)["pid"])


def test_much_output_is_no_harm(tmp_path: Path) -> None:
    code = ANSWERING + "for i in range(20000): print('x' * 200)\nanswer({'ok': 1})"
    assert run(tmp_path, code, report=lambda text: None) == {"ok": 1}
    assert (tmp_path / "log.txt").stat().st_size == 20000 * 201


def test_endless_output_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOG_LIMIT", 2 << 20)
    error = failure(tmp_path, "while True: print('x' * 200)")
    assert "after 2 MiB of messages" in error.what


def test_our_own_python_does_not_leak_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise ImportError('the wrong json')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    monkeypatch.setenv("VIRTUAL_ENV", "x")
    monkeypatch.setenv("KEPT", "here")
    answer = run(tmp_path, ANSWERING + "import os\nanswer(dict(os.environ))")
    assert (answer["KIT_QUIET"], answer["KEPT"], answer["PYTHONNOUSERSITE"]) == ("yes", "here", "1")
    assert not {"PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV"} & set(answer)


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.compiler.test_toolchain_worker import HANGING, run
run(Path({folder!r}), HANGING)
"""


@pytest.mark.parametrize(
    ("number", "whole_group"), [(signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGINT, True)]
)
def test_the_script_ends_with_the_one_that_asked(number: int, whole_group: bool, tmp_path: Path) -> None:
    code = DRIVER.format(tests=str(Path(__file__).parents[2]), folder=str(tmp_path))
    driver = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    log = tmp_path / "log.txt"
    while not (log.is_file() and log.read_text().endswith("\n")):
        assert driver.poll() is None
        time.sleep(0.02)
    grandchild = int(log.read_text())
    stat = Path(f"/proc/{grandchild}/stat").read_text().rpartition(")")[2].split()
    worker_pid = int(stat[1])
    try:
        driver.send_signal(number)
        driver.wait(20)
        assert gone(worker_pid)
        assert not whole_group or gone(grandchild)
    finally:
        if not gone(grandchild, 0.1):
            os.kill(grandchild, signal.SIGKILL)


def test_nothing_runs_while_the_toolchain_changes(tmp_path: Path) -> None:
    env = Environment(KIT, tmp_path / "kit")
    env.python.parent.mkdir(parents=True)
    env.python.symlink_to(sys.executable)
    (tmp_path / "script.py").write_text(ANSWERING + "answer({'ok': 1})")
    words: dict[str, Any] = {"seconds": 60, "log": tmp_path / "log.txt"}
    with changing(env.lock, pytest.fail), pytest.raises(ToolchainError, match="being installed or removed"):
        worker.run(env, tmp_path / "script.py", {}, tmp_path, **words)
    assert worker.run(env, tmp_path / "script.py", {}, tmp_path, **words) == {"ok": 1}
    env.python.unlink()
    with pytest.raises(ToolchainError, match="cannot be run: No such file"):
        worker.run(env, tmp_path / "script.py", {}, tmp_path, **words)


def test_arrays_of_an_answer_are_not_trusted(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    (tmp_path / "short.npy").write_bytes(b"\x93NUMPY\x01\x00")
    for name in ("../x.npy", "/etc/passwd", "gone.npy", "objects.npy", "short.npy"):
        with pytest.raises(ToolchainError, match="an array of the answer"):
            worker.load_arrays(tmp_path, [name])
