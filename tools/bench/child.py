"""One measurement in a process of its own: a peer that crashes or chatters touches neither the table nor the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxc import catalogue
from fxc.compiler.errors import FxcError
from fxc.tools.bench.plan import Plan

LIMIT = 3 * 3600
"""Seconds after which a child is given up."""

QUIET = {
    # ONNX Runtime's Linux wheels, OpenVINO's converter and NNCF report their use over the network unless told not to:
    # the first by its own variable, the second where it sees a CI job (openvino_telemetry's opt_in_checker), NNCF by
    # either. TF_BUILD is the mark of a CI job that torch does not read.
    "ORT_DISABLE_TELEMETRY": "1",
    "TF_BUILD": "1",
    "NNCF_CI": "1",
}


def environment(threads: int) -> dict[str, str]:
    """A child's environment: no telemetry, and one number of threads for every OpenMP team."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return {**os.environ, **QUIET, **counts}


def measure(job: str, plan: Plan, log: Path, **more: str) -> dict[str, Any]:
    """Run ``job`` (``"module:function"``) on ``plan`` in a fresh process, its output appended to ``log``.

    Returns:
        What the job returned, or ``{"failed": reason}``.
    """
    with tempfile.TemporaryDirectory(prefix="fxc-bench-") as folder, log.open("ab") as out:
        answer = Path(folder) / "answer.json"
        request = json.dumps({"job": job, "plan": plan.text(), "folder": folder, "more": more})
        out.write(f"\n== {job} {plan.model} {more or ''}\n".encode())
        out.flush()
        command = [sys.executable, "-m", "fxc.tools.bench.child", request, str(answer)]
        try:
            code = subprocess.run(
                command, stdout=out, stderr=out, env=environment(plan.threads), timeout=LIMIT
            ).returncode
        except subprocess.TimeoutExpired:
            return {"failed": f"took more than {LIMIT} s"}
        if not answer.is_file():
            return {"failed": f"the process ended with {code}, see {log}"}
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return found


def _main(request: str, answer: str) -> None:
    asked: Mapping[str, Any] = json.loads(request)
    try:
        found = catalogue.resolve(asked["job"])(
            Plan.read(asked["plan"]), Path(asked["folder"]), **asked["more"]
        )
    except FxcError as error:
        found = {"failed": error.what}
        print(error, file=sys.stderr)
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
