"""The machinery of the sweep, on commands that take no time: caps, resuming, the table; and one real model, small."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.models.zoo import CLASSIFIERS, EVERY, GIANTS
from tests.zoo import capped, one, sweep, table
from tests.zoo.bars import judge, unmeasured
from tests.zoo.capped import Caps
from tests.zoo.store import MEASURING, Result, Store, code_version

CAPS = Caps(seconds=30, gigabytes=4)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def row(name: str, **changes: Any) -> dict[str, Any]:
    target = {
        "graph_db": 30.0,
        "file_db": 29.9,
        "lost_db": 0.1,
        "coverage": 1.0,
        "ratio": 0.25,
        "float_layers": [],
    }
    return {
        "name": name,
        "resolution": 224,
        "parameters": 11_700_000,
        "macs": 1_800_000_000,
        "dynamic": True,
        "pure_conv": True,
        "calibration": 32,
        "held_out": 16,
        "least_move": 0.2,
        "error_l2": 1e-6,
        "error_max": 2e-6,
        "norms": {"total": 20, "foldable": 20, "folded": 20, "kept_foldable": [], "reasons": {}},
        "targets": {"cpu-int8": {**target, **changes.pop("cpu", {})}, "ort-int8": target},
        "spent": {"seconds": 3.0, "cpu_seconds": 2.0, "peak_gb": 1.5},
        "layers": 32,
        "worst": 1,
        "flips": 1e-6,
        **changes,
    }


def result(name: str, version: str = "v1", **changes: Any) -> Result:
    return Result(name, version, "", row(name, **changes), 12.0, 1.7)


def failure(name: str, reason: str, version: str = "v1") -> Result:
    return Result(name, version, reason, None, 5.0, 0.5)


def test_a_command_that_ends_well_gives_its_output_and_its_peak() -> None:
    outcome = capped.run(python("print(7); import time; x = bytearray(2 * 10**8); time.sleep(0.5)"), CAPS)
    assert (outcome.reason, outcome.output) == ("", "7\n")
    assert 0.2 < outcome.peak_gb < 1
    assert 0 < outcome.cpu_seconds < outcome.seconds


def test_the_environment_is_added_to() -> None:
    outcome = capped.run(
        python("import os; print(os.environ['ZOO'], 'PATH' in os.environ)"), CAPS, {"ZOO": "1"}
    )
    assert outcome.output == "1 True\n"


def test_a_command_that_fails_gives_its_last_line() -> None:
    outcome = capped.run(python("raise ValueError('no such layer')"), CAPS)
    assert outcome.reason == "ValueError: no such layer"


def test_a_command_that_dies_names_its_signal() -> None:
    outcome = capped.run(python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), CAPS)
    assert outcome.reason == "killed by signal 11"


def ended(process: int) -> bool:
    """Whether a process that was sent a kill is gone, at most ten seconds later; nobody may have asked for its exit code."""
    for _ in range(100):
        if not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


def test_the_cap_on_time_ends_the_command_and_its_children(tmp_path: Path) -> None:
    code = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    outcome = capped.run(python(code), Caps(seconds=2, gigabytes=4))
    assert outcome.reason == "out of time: the cap is 2 s"
    grandchild = int((tmp_path / "pid").read_text())
    assert ended(grandchild)


def test_the_cap_on_memory_counts_the_children() -> None:
    grow = "x = bytearray(3 * 10**8); import time; time.sleep(600)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grow!r}])"
    outcome = capped.run(python(code), Caps(seconds=60, gigabytes=0.25))
    assert outcome.reason.startswith("out of memory: 0.")
    assert outcome.seconds < 50


def test_an_interrupted_sweep_takes_its_processes_along(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.zoo import sweep\n"
        f"sweep.HERE = Path({str(tmp_path)!r})\n"
        "sweep.main(['vit_h_14', '--workers', '1', '--results', str(sweep.HERE / 'results')])"
    )
    started = subprocess.Popen(python(code), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = psutil.Process(started.pid)
    children: list[psutil.Process] = []
    try:
        while not children and started.poll() is None:
            children = process.children()
            time.sleep(0.1)
    finally:
        started.terminate()
    assert started.wait(30) == 128 + signal.SIGTERM
    assert children
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert not (tmp_path / "zoo.md").exists()


def test_a_store_gives_back_what_was_measured_with_this_code(tmp_path: Path) -> None:
    store = Store(tmp_path / "zoo", "v2")
    assert store.get("resnet18") is None
    store.put(result("resnet18", "v1"))
    assert store.get("resnet18") is None
    assert store.get("resnet18", any_version=True) == result("resnet18", "v1")
    store.put(result("resnet18", "v2"))
    assert store.get("resnet18") == result("resnet18", "v2")
    assert sorted(p.name for p in store.folder.iterdir()) == ["resnet18.json"]


def test_a_failure_is_tried_again_and_a_broken_file_counts_as_none(tmp_path: Path) -> None:
    store = Store(tmp_path, "v1")
    store.put(failure("resnet18", "out of time"))
    assert store.get("resnet18") is not None
    assert not store.finished("resnet18")
    (tmp_path / "vgg11.json").write_text('{"name": "vgg1')
    assert store.get("vgg11") is None
    store.put(result("vgg11"))
    assert store.finished("vgg11")
    store.clear(["vgg11", "vgg13"])
    assert not store.finished("vgg11")


def test_the_version_of_the_code_is_steady() -> None:
    assert code_version() == code_version()
    assert len(code_version()) == 12


def test_the_version_covers_all_that_one_measurement_reads() -> None:
    root = Path(__file__).parents[2]
    waiting, seen = ["tests.zoo.one"], set()
    while waiting:
        path = root / f"{waiting.pop().replace('.', '/')}.py"
        if path.is_file() and path not in seen:
            seen.add(path)
            waiting += re.findall(
                r"^ *(?:from|import) (tests\.[\w.]+)", path.read_text(encoding="utf-8"), re.M
            )
            packages = re.findall(
                r"^ *from (tests\.\w+) import ([\w, ]+)", path.read_text(encoding="utf-8"), re.M
            )
            waiting += [
                f"{package}.{name.strip()}" for package, names in packages for name in names.split(",")
            ]
    assert {path.relative_to(root / "tests").as_posix() for path in seen} == set(MEASURING)


def measure_these(monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, capped.Outcome]) -> list[str]:
    """Replace the processes: each model ends as ``outcomes`` says. Returns the list of those that were started."""
    started: list[str] = []

    def run(command: list[str], *_: Any) -> capped.Outcome:
        started.append(command[3])
        return outcomes[command[3]]

    monkeypatch.setattr(capped, "run", run)
    return started


def outcome(name: str) -> capped.Outcome:
    return capped.Outcome("", f"some words\n{json.dumps(row(name))}\n", 12.0, 1.7)


def test_a_sweep_goes_on_where_it_was_and_a_failing_model_becomes_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "zoo.md"
    monkeypatch.setattr(sweep, "HERE", tmp_path)
    names = ["resnet18", "vgg11", "swin_t"]
    arguments = [*names, "--results", str(tmp_path / "results"), "--workers", "2"]
    broken = {"vgg11": capped.Outcome("RuntimeError: a | b", "", 1.0, 0.1), "swin_t": outcome("swin_t")}
    started = measure_these(monkeypatch, {"resnet18": outcome("resnet18"), **broken})
    assert sweep.main(arguments) == 1
    assert sorted(started) == sorted(names)
    assert "| vgg11 | failed: RuntimeError: a \\| b |" in page.read_text(encoding="utf-8")
    started = measure_these(monkeypatch, {"vgg11": outcome("vgg11")})
    assert sweep.main(arguments) == 0
    assert started == ["vgg11"]
    assert "failed" not in page.read_text(encoding="utf-8")
    started = measure_these(monkeypatch, {name: outcome(name) for name in names})
    assert sweep.main([*arguments, "--fresh"]) == 0
    assert sorted(started) == sorted(names)


def test_output_without_a_row_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_these(monkeypatch, {"vgg11": capped.Outcome("", "no json here\n", 1.0, 0.1)})
    plan = sweep.Plan(("vgg11",), 1, 1, CAPS)
    assert sweep.measured("vgg11", plan, sweep.Slots(plan), "v1").reason == "no row came back"


def test_the_table_counts_bars_and_names_exceptions() -> None:
    results = [
        result("resnet18"),
        result("vgg11", cpu={"lost_db": 1.5, "coverage": 0.9, "float_layers": ["classifier.0"]}),
        result("swin_t", pure_conv=False, error_max=3e-4, dynamic=False),
        result(
            "densenet121",
            norms={
                "total": 9,
                "foldable": 5,
                "folded": 4,
                "kept_foldable": ["a.norm"],
                "reasons": {"behind cat": 4},
            },
        ),
        failure("vit_b_16", "out of memory: 9.0 GB, the cap is 8"),
    ]
    page = table.render("Zoo", results, ["yolo"], "make zoo")
    for wanted in (
        "| captured, compiled and run | 4 of 5 | vit_b_16: out of memory: 9.0 GB, the cap is 8 |",
        "| captured with a dynamic batch | 3 of 4 | swin_t: the batch is fixed |",
        "(2-norm and maximum) | 3 of 4 | swin_t: 3.0e-04 |",
        "| every foldable batch norm folded | 3 of 4 | densenet121: 1 left, the first a.norm |",
        "| cpu-int8 file in OpenVINO within 1 dB of its graph | 3 of 4 | vgg11: 1.50 dB |",
        "| pure conv net, cpu-int8: at least 99 % of the MACs | 2 of 3 | vgg11: 90.00%, in float: classifier.0 |",
        "Not measured yet: yolo.",
        "4 behind cat",
        "| vit_b_16 | failed: out of memory",
        "| resnet18\\* | 224 |",
    ):
        assert wanted in page
    assert [len(v.broken) for v in judge(results)] == [1, 0, 1, 1, 1, 0, 1, 0, 0]
    assert list(unmeasured(results)) == ["vit_b_16"]


def test_every_row_has_every_column_and_every_model_a_family() -> None:
    results = [failure(name, "x") if i % 2 else result(name) for i, name in enumerate(EVERY)]
    page = table.render("Zoo", results, [], "make zoo")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "graph / file" not in line]
    columns = table.COLUMNS.count("|") + 2
    models = [line for line in rows if line.split("|")[1].strip().removesuffix("\\*") in EVERY]
    assert {line.replace("\\|", "").count("|") for line in models} == {columns}
    assert sorted(line.split("|")[1].strip().removesuffix("\\*") for line in models) == sorted(EVERY)


def test_the_zoo_is_what_it_says() -> None:
    assert len(CLASSIFIERS) == 80
    assert len(set(EVERY)) == 84
    assert set(GIANTS) < set(CLASSIFIERS)


def test_one_small_model_from_the_command_line_to_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert one.main(["mobilenet_v3_small", "--resolution", "64"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["norms"] == {"total": 34, "foldable": 34, "folded": 34, "kept_foldable": [], "reasons": {}}
    assert found["pure_conv"]
    assert found["dynamic"]
    measured = Result("mobilenet_v3_small", "v1", "", found, 5.0, 1.0)
    assert {v.bar.text for v in judge([measured]) if v.broken} == set()
    assert "| mobilenet_v3_small\\* | 64 |" in table.line(measured)
