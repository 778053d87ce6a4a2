"""The process whose forks the fault tests kill: ``python -m tests.e2e.fault_jobs SOCKET``."""

import atexit
import gc
import importlib
import json
import os
import socket
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

from tests.e2e import fault_calls, fault_net


def main() -> int:
    """Answer questions until the other side has gone; in a child, run what was asked and return its exit code."""
    line = socket.socket(fileno=int(sys.argv[1]))
    warm_up()
    while question := json.loads(line.recv(1 << 16) or b"null"):
        if "words" in question and os.fork() == 0:
            prepare(question, line)
            leave(run(question["words"]))
        if "wait" in question:
            _, status = os.waitpid(question["wait"], 0)
            line.send(json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode())
        if "ready" in question:
            # A fork has one thread: what others hold would be held for ever in a child.
            line.send(json.dumps({"ready": len(os.listdir("/proc/self/task")) == 1}).encode())
    return 0


def warm_up() -> None:
    """Import, and go once through what is slow the first time and starts no thread: no runtime, no gradient."""
    from fxc.tools.cli.main import main as fxc

    for name in ("onnx", "onnx_graphsurgeon", "fxc.tools.report", "torchvision"):
        importlib.import_module(name)
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        fxc(["lint", *fault_net.words("old", "")[1:-2]])
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    gc.collect()
    gc.freeze()
    # Of all that libraries want done at the end only this concerns us: it removes temporary folders.
    atexit._clear()
    atexit.register(weakref.finalize._exitfunc)


def prepare(question: dict[str, Any], line: socket.socket) -> None:
    """Become a process of its own: output, folders, and the listener on our calls."""
    said = os.open(question["said"], os.O_WRONLY | os.O_CREAT)
    for handle in (1, 2):
        os.dup2(said, handle)
    tempfile.tempdir = question["temporary"]
    os.chdir(question["cwd"])
    handles = [fault_calls.listen()] if question["listen"] else []
    socket.send_fds(line, [json.dumps({"pid": os.getpid()}).encode()], handles)
    for handle in handles:
        os.close(handle)


def run(words: list[str]) -> int:
    """``fxc words``, or ``save FROM TO [--force] [TIMES]``: what a compile does at its end."""
    from fxc.tools.cli.main import main as fxc

    return save(*words[1:]) if words[0] == "save" else fxc(words)


def save(source: str, destination: str, *more: str) -> int:
    """Save a bundle or statistics anew, some times over, whatever comes of it; before each time the folder ``round`` is made."""
    from fxc import load
    from fxc.compiler.errors import ArtifactError
    from fxc.passes.quantize.statistics import Statistics

    statistics = Path(source, "statistics.json").exists()
    saved: Any = Statistics.load(source) if statistics else load(source)
    code = 0
    for _ in range(next((int(word) for word in more if word.isdigit()), 1)):
        os.makedirs("round", exist_ok=True)
        os.rmdir("round")
        code = 0
        if not statistics:
            saved.path = Path(source)
        try:
            saved.save(destination, force="--force" in more)
        except ArtifactError as error:
            print(f"error: {error}", flush=True)
            code = 1
    return code


def leave(code: int) -> None:
    """End as Python does, without the time that freeing every module takes."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
