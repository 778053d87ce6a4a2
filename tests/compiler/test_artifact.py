"""A bundle saved is the bundle loaded; damage, mix-ups and hostile manifests are refused by name."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fxc.compiler.artifact import Artifact, Golden, build_artifact, check_output
from fxc.compiler.backend import Emitted, Kernel
from fxc.compiler.errors import ArtifactError, InputError, UsageError
from fxc.compiler.program import Program
from fxc.compiler.target import Target
from fxc.compiler.text import structural_hash
from tests.compiler.saved_programs import conv_program

TARGET = Target("toy-int8", "a toy", "int8", "toy", "bin", "toy", "toy")


class ToyRunner:
    """Plays the file with the program itself."""

    describe = "toy"

    def __init__(self, model: Path, program: Program):
        assert model.read_bytes() == b"the model"
        self.program = program

    def __call__(self, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        return [y.numpy() for y in self.program.run_flat(*map(torch.from_numpy, inputs))]

    def kernels(self) -> list[Kernel]:
        return []


class ToyHost:
    operators: frozenset[str] = frozenset()

    def target(self, name: str) -> Target:
        assert name == "toy-int8"
        return TARGET

    def open_runner(self, model: Path, target: str, **options: Any) -> ToyRunner:
        return ToyRunner(model, conv_program())


def build(**changes: Any) -> Artifact:
    program = conv_program()
    work = tempfile.TemporaryDirectory(prefix="fxc-test-")
    (Path(work.name) / "weights").mkdir()
    (Path(work.name) / "model.bin").write_bytes(b"the model")
    (Path(work.name) / "weights" / "data.0").write_bytes(b"weights")
    (Path(work.name) / "scratch.log").write_bytes(b"left by a tool")
    outputs = program.run_flat(*program.example_inputs)
    emitted = Emitted(
        "model.bin",
        ("model.bin", "weights/data.0"),
        ("x",),
        ("first", "second"),
        {"toolkit": "1.2"},
        {"layer1.0.conv1": "t0"},
        ("a note",),
    )
    golden = Golden(program.example_inputs, outputs, outputs, outputs, {"layer1.0.conv1": torch.ones(2)})
    settings: dict[str, Any] = {
        "preprocessing": {"mean": [0.5], "size": (8, 8)},
        "timings": {"emit": 0.1},
        "host": ToyHost(),
        "golden": golden,
        **changes,
    }
    return build_artifact(
        program=program,
        target=TARGET,
        emitted=emitted,
        work=work,
        report={"format": 1, "model": {}},
        report_html="<p>report</p>",
        **settings,
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build().save(tmp_path_factory.mktemp("bundle") / "b")


@pytest.fixture
def saved(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "b"))


def test_what_is_in_a_bundle(saved: Path) -> None:
    found = sorted(p.relative_to(saved).as_posix() for p in saved.rglob("*") if p.is_file())
    assert found == [
        "golden/float_outputs.safetensors",
        "golden/graph_outputs.safetensors",
        "golden/inputs.safetensors",
        "golden/intermediates.safetensors",
        "golden/outputs.safetensors",
        "manifest.json",
        "model.bin",
        "program/program.json",
        "program/program.safetensors",
        "report.html",
        "report.json",
        "timings.json",
        "weights/data.0",
    ]
    manifest = json.loads((saved / "manifest.json").read_text())
    assert set(manifest["files"]) == set(found) - {"manifest.json", "timings.json"}
    assert manifest["inputs"] == [
        {"name": "x", "tensor": "x", "shape": ["batch", 3, 8, 8], "dtype": "float32", "layout": "NCHW",
         "scale": None, "zero_point": None}
    ]  # fmt: skip
    assert manifest["tools"]["toolkit"] == "1.2"
    assert manifest["tools"]["torch"] == torch.__version__
    assert manifest["preprocessing"] == {"mean": [0.5], "size": [8, 8]}


def test_a_loaded_bundle_is_the_saved_one(saved: Path) -> None:
    program, x = conv_program(), torch.randn(3, 3, 8, 8)
    loaded = Artifact.load(saved, host=ToyHost())
    expected, found = program(x), loaded(x)
    assert list(found) == ["first", "more"]
    assert torch.equal(found["first"], expected["first"])
    assert torch.equal(found["more"][0], expected["more"][0])
    assert structural_hash(loaded.program) == structural_hash(program) == loaded.manifest["program_hash"]
    assert torch.equal(loaded.golden.inputs[0], program.example_inputs[0])
    assert torch.equal(loaded.golden.outputs[1], program.run_flat(*program.example_inputs)[1])
    assert list(loaded.golden.intermediates) == ["layer1.0.conv1"]
    assert loaded.timings == {"emit": 0.1}
    assert loaded.report == {"format": 1, "model": {}}


def test_wrong_inputs_are_refused_before_the_runtime(saved: Path) -> None:
    class Never(ToyHost):
        def open_runner(self, model: Path, target: str, **options: Any) -> ToyRunner:
            raise AssertionError("the runtime must not be asked")

    loaded = Artifact.load(saved, host=Never())
    for args in (
        (),
        (torch.ones(2, 3, 8, 9),),
        (torch.ones(2, 3, 8, 8, dtype=torch.float64),),
        (1,),
        ([torch.ones(1)],),
    ):
        with pytest.raises(InputError):
            loaded(*args)


def test_two_builds_and_two_saves_give_the_same_bytes(original: Path, tmp_path: Path) -> None:
    artifact = build(timings={"emit": 99.0})
    one, two = artifact.save(tmp_path / "one"), artifact.save(tmp_path / "two")
    names = [p.relative_to(one) for p in one.rglob("*") if p.is_file() and p.name != "timings.json"]
    assert len(names) == 12
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes() == (original / name).read_bytes(), name


def test_the_folder_of_an_unsaved_artifact_goes_with_it() -> None:
    artifact = build()
    path = artifact.path
    assert path.is_dir()
    artifact(torch.ones(1, 3, 8, 8))
    del artifact
    gc.collect()
    assert not path.exists()


def test_saving_moves_the_artifact(tmp_path: Path) -> None:
    artifact = build()
    artifact.save(tmp_path / "b")
    assert artifact.path == tmp_path / "b"
    assert artifact.save(tmp_path / "b") == tmp_path / "b"
    artifact.verify_hashes()
    artifact(torch.ones(1, 3, 8, 8))


def test_existing_bundles_and_foreign_folders(saved: Path, tmp_path: Path) -> None:
    artifact = build(preprocessing=None)
    with pytest.raises(ArtifactError, match="already holds"):
        check_output(saved)
    with pytest.raises(ArtifactError, match="already holds"):
        artifact.save(saved)
    assert Artifact.load(saved).manifest["preprocessing"] is not None
    check_output(saved, force=True)
    artifact.save(saved, force=True)
    assert Artifact.load(saved).manifest["preprocessing"] is None
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="did not write"):
        build().save(saved, force=True)
    assert (saved / "notes.txt").read_text() == "mine"


def test_a_damaged_bundle_can_be_replaced(saved: Path) -> None:
    (saved / "model.bin").write_bytes(b"broken")
    (saved / "report.json").unlink()
    build().save(saved, force=True)
    Artifact.load(saved)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])


def _replace_by_link(path: Path) -> None:
    copy = path.parent.parent / "elsewhere"
    shutil.copy(path, copy)
    path.unlink()
    path.symlink_to(copy)


@pytest.mark.parametrize("damage", [_cut, _flip, _replace_by_link, os.unlink])
@pytest.mark.parametrize(
    "name", ["model.bin", "report.json", "golden/inputs.safetensors", "program/program.json"]
)
def test_damage_is_found_and_the_file_named(saved: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(saved / name)
    with pytest.raises(ArtifactError) as caught:
        Artifact.load(saved)
    assert Path(name).name in str(caught.value)


def test_files_too_many(saved: Path) -> None:
    (saved / "extra.py").write_text("import os")
    with pytest.raises(ArtifactError, match=r"extra\.py does not belong"):
        Artifact.load(saved)


def test_timings_may_differ_or_be_gone(saved: Path) -> None:
    (saved / "timings.json").unlink()
    assert Artifact.load(saved).timings == {}


def rewrite(saved: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    change(manifest)
    (saved / "manifest.json").write_text(json.dumps(manifest))


def _set(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.update({key: value})


@pytest.mark.parametrize(
    "change",
    [
        _set("format", 2),
        _set("format", None),
        _set("kind", "zip"),
        _set("model", "../../etc/passwd"),
        _set("model", "report.html/../model.bin"),
        _set("files", []),
        _set("files", None),
        _set("target", "toy"),
        _set("signature", {}),
        lambda m: m["files"].update({"../outside": m["files"]["model.bin"]}),
        lambda m: m["files"].update({"/etc/passwd": m["files"]["model.bin"]}),
        lambda m: m["files"].update({"a\\..\\b": m["files"]["model.bin"]}),
        lambda m: m["files"].update({"absent": m["files"]["model.bin"]}),
        lambda m: m["files"].update({"model.bin": {}}),
        lambda m: m["files"].pop("model.bin"),
        lambda m: m["files"].pop("report.html"),
        lambda m: m["signature"].update(in_tree="*"),
        lambda m: m["signature"].update(out_tree={"os.system": []}),
        lambda m: m["signature"]["inputs"].append(m["signature"]["inputs"][0]),
        lambda m: m["signature"]["inputs"][0].update(dtype="load"),
    ],
)
def test_hostile_manifests(saved: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    rewrite(saved, change)
    with pytest.raises(ArtifactError) as caught:
        Artifact.load(saved)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_broken_manifests(saved: Path, content: bytes) -> None:
    (saved / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        Artifact.load(saved)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ArtifactError) as caught:
            Artifact.load(path)
        assert str(path) in str(caught.value)


def test_two_outputs_of_one_name_and_one_tensor(tmp_path: Path) -> None:
    program = conv_program()
    same = program.run_flat(*program.example_inputs)[0]
    artifact = build(golden={"inputs": program.example_inputs, "outputs": (same, same),
                             "graph_outputs": (same, same), "float_outputs": (same, same)})  # fmt: skip
    assert torch.equal(artifact.golden.outputs[1], same)


def test_an_emitter_may_not_write_the_bundles_files() -> None:
    work = tempfile.TemporaryDirectory()
    (Path(work.name) / "manifest.json").write_text("{}")
    program = conv_program()
    golden = Golden((), (), (), ())
    with pytest.raises(UsageError, match=r"manifest\.json"):
        build_artifact(
            program=program, target=TARGET, work=work, report={}, report_html="", golden=golden,
            emitted=Emitted("manifest.json", ("manifest.json",), (), ()),
        )  # fmt: skip
