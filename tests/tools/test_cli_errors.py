"""How the command leaves: exit codes, one JSON document, no traceback unless it is asked for."""

import json
from pathlib import Path

import pytest

from fxc.tools.cli import main as cli
from fxc.tools.cli.main import main
from fxc.tools.cli.output import Result

ARGUMENTS = ["compile", "torchvision:squeezenet1_1", "--target"]


def test_an_unknown_target_names_its_neighbours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "cpu-int9"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "cpu-int8" in err
    assert "Traceback" not in err


def test_an_error_as_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "cpu-int9", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["error"] == "UsageError"
    assert "cpu-int8" in document["fix"]


def test_wrong_usage_is_code_2_also_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--json"]) == 2
    assert "MODEL" in json.loads(capsys.readouterr().out)["what"]
    assert main(["compil"]) == 2
    assert "compile" in capsys.readouterr().err
    assert main(["targets", "--bogus"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--calibration-data", "gone"], "there is no gone"),
        (["--config", "gone.yaml"], "cannot read the config"),
        (["--observer", "median"], "unknown observer"),
        (["--percentile", "12"], "percentile"),
        (["--input-shape", "1,a"], "--input-shape"),
        (["--mean", "x"], "--mean"),
        (["-o", "/proc/fxc/b"], "/proc/fxc"),
    ],
)
def test_what_can_be_refused_early_is(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object) -> None:
        raise AssertionError("the model was loaded first")

    monkeypatch.setattr("fxc.tools.cli.compile.run_job", too_late)
    assert main([*ARGUMENTS, "cpu-int8", *words]) == 1
    assert message in capsys.readouterr().err


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def command() -> Result:
        raise error

    monkeypatch.setattr(cli, "_instant", lambda words: command())


def test_an_unexpected_failure_says_that_it_is_a_bug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, ZeroDivisionError("division by zero"))
    assert main(["targets"]) == 70
    err = capsys.readouterr().err
    assert "this is a bug in fxc" in err
    assert "Traceback" not in err
    assert main(["targets", "--debug", "--json"]) == 70
    out, err = capsys.readouterr()
    assert "Traceback" in err
    assert json.loads(out)["error"] == "Bug"


def test_an_interrupt_is_code_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert main(["targets"]) == 130
    assert "the old one or the new one, whole" in capsys.readouterr().err


def test_a_full_disk_is_no_bug(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, OSError(28, "No space left on device", "out/model.xml"))
    assert main(["targets"]) == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert "out/model.xml" in err


def test_prints_of_the_users_code_do_not_reach_the_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "chatty.py").write_text("print('hello from your file')\nmodel = 3\n")
    assert main(["lint", f"{tmp_path}/chatty.py:model", "--target", "cpu-int8", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["error"] == "UsageError"
    assert "hello from your file" in err


def test_targets_list_what_the_catalogue_has(capsys: pytest.CaptureFixture[str]) -> None:
    from fxc.catalogue import TARGETS

    assert main(["targets", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["targets"]
    assert [t["name"] for t in listed] == list(TARGETS)
    assert main(["targets"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in TARGETS)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("compile", "run", "verify", "inspect", "targets", "lint"))


@pytest.mark.parametrize("command", ["compile", "run", "verify", "inspect", "targets", "lint"])
def test_every_command_takes_json_and_debug(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    assert "--json" in told
    assert "--debug" in told
