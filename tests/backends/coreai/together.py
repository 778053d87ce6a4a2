"""Many programs through Core AI in one process, as starting one for each would take most of the time: ``together.py FOLDER``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fxc.backends.apple.export import batch_of
from fxc.compiler.origin import identifier
from fxc.compiler.program import Program
from fxc.compiler.serialize import write_program

Array = np.ndarray[Any, Any]


class Case(NamedTuple):
    """A program, its inputs, and whether its floats become float16."""

    program: Program
    inputs: Sequence[Array]
    half: bool = False


def together(cases: Sequence[Case], folder: Path) -> list[list[Array] | str]:
    """The outputs of each program, written as an ``.aimodel``, read back and executed; or why there are none."""
    for number, case in enumerate(cases):
        place = folder / f"{number}"
        (place / "program").mkdir(parents=True)
        write_program(case.program, place / "program")
        for i, x in enumerate(case.inputs):
            np.save(place / f"in_{i}.npy", x)
        about = {
            "inputs": [identifier(s.name) for s in case.program.tensor_inputs],
            "outputs": [identifier(s.name) for s in case.program.outputs],
            "batch": batch_of(case.program),
            "half": case.half,
        }
        (place / "case.json").write_text(json.dumps(about))
    path = os.pathsep.join(p for p in sys.path if p)
    child = subprocess.run(
        [sys.executable, __file__, str(folder), str(len(cases))],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=1800,
    )
    return [_found(folder / f"{number}", child.stderr) for number in range(len(cases))]


def _found(place: Path, said: str) -> list[Array] | str:
    if (place / "why.txt").is_file():
        return (place / "why.txt").read_text()
    if not (place / "done").is_file():
        return f"the process ended before: {said[-500:]}"
    count = len(json.loads((place / "case.json").read_text())["outputs"])
    return [np.load(place / f"out_{i}.npy") for i in range(count)]


def _child(folder: Path, count: int) -> None:
    from fxc.backends.coreai.worker import execute, write
    from fxc.compiler.serialize import load_program

    for number in range(count):
        place = folder / f"{number}"
        case = json.loads((place / "case.json").read_text())
        inputs = [np.load(place / f"in_{i}.npy") for i in range(len(case["inputs"]))]
        model = place / "model.aimodel"
        try:
            names = case["inputs"], case["outputs"]
            write(load_program(place / "program"), model, names, batch=case["batch"], half=case["half"])
            for i, answer in enumerate(execute(model, inputs)[1]):
                np.save(place / f"out_{i}.npy", answer)
            (place / "done").touch()
        except Exception as error:  # noqa: BLE001  it is told to the test
            (place / "why.txt").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    _child(Path(sys.argv[1]), int(sys.argv[2]))
    # The Swift runtime's own clean-up is not what is tested.
    os._exit(0)
