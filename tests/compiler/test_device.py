"""Outputs from a device beside the recorded ones: what is measured, what passes, and every folder that is refused."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fxc.compiler.device import DeviceOutput, compare_outputs
from fxc.compiler.errors import ArtifactError, UsageError
from fxc.compiler.golden import Golden

NAMES = ["scores", "best"]
RNG = np.random.default_rng(0)
FLOAT = RNG.normal(size=(4, 10)).astype(np.float32)
SIMULATED = FLOAT + 0.01 * RNG.normal(size=FLOAT.shape).astype(np.float32)
Array = np.ndarray[Any, Any]


def golden(simulated: Array = SIMULATED, exact: Array = FLOAT) -> Golden:
    file, floats = torch.from_numpy(simulated), torch.from_numpy(exact)
    outputs, wanted = (file, file.argmax(1)), (floats, floats.argmax(1))
    return Golden((torch.zeros(4, 3),), outputs, outputs, wanted)


def compare(
    folder: Path, report: dict[str, Any] | None = None, known: Golden | None = None, **words: Any
) -> tuple[DeviceOutput, ...]:
    return compare_outputs(known or golden(), NAMES, folder, report=report or {}, **words)


def write(folder: Path, scores: Array = SIMULATED, best: Array | None = None) -> Path:
    np.save(folder / "scores.npy", scores)
    np.save(folder / "best.npy", scores.argmax(1) if best is None else best)
    return folder


def decibels(signal: Array, other: Array) -> float:
    noise = float(np.square(signal.astype(float) - other).sum())
    return 10 * math.log10(float(np.square(signal.astype(float)).sum()) / noise)


def test_the_same_values_pass(tmp_path: Path) -> None:
    scores, best = compare(write(tmp_path))
    assert scores.identical
    assert scores.passed
    assert scores.max_difference == 0
    assert (best.unit, best.identical, best.passed, best.device) == ("share", True, True, 1.0)


def test_measures_are_the_formulas(tmp_path: Path) -> None:
    device = SIMULATED.copy()
    device[2] += 0.3 * RNG.normal(size=10).astype(np.float32)
    device[2, int(SIMULATED[2].argmin())] = 9.0
    scores, best = compare(write(tmp_path, device))
    assert scores.simulated == pytest.approx(decibels(FLOAT, SIMULATED), abs=1e-3)
    assert scores.device == pytest.approx(decibels(FLOAT, device), abs=1e-3)
    assert scores.agreement == pytest.approx(decibels(SIMULATED, device), abs=1e-3)
    assert scores.worst_sample == 2
    assert scores.worst == pytest.approx(decibels(SIMULATED[2], device[2]), abs=1e-3)
    assert scores.max_difference == pytest.approx(np.abs(device - SIMULATED).max(), rel=1e-5)
    assert scores.top1 == 0.75
    assert scores.floor == pytest.approx(decibels(FLOAT, SIMULATED) - 1.0, abs=1e-3)
    assert not scores.passed
    assert (best.device, best.worst_sample, best.passed) == (0.75, 2, False)


@pytest.mark.parametrize(
    ("factor", "tolerance", "passes"), [(1.05, 1.0, True), (1.2, 1.0, False), (1.2, 2.0, True)]
)
def test_the_tolerance_counts_from_the_simulated_file(
    tmp_path: Path, factor: float, tolerance: float, passes: bool
) -> None:
    """The same noise made larger: 0.42 dB and 1.58 dB further from float."""
    device = FLOAT + factor * (SIMULATED - FLOAT)
    scores, _ = compare(write(tmp_path, device, SIMULATED.argmax(1)), tolerance_db=tolerance)
    assert scores.passed is passes


def test_the_floor_is_of_the_least_accurate_file(tmp_path: Path) -> None:
    """A device may have run any of a bundle's files, and the report has what each kept here."""
    rows = [{"name": "scores", "file_db": 40.0}, {"name": "scores", "file": "b", "file_db": 33.0}]
    report = {"accuracy": {"outputs": [*rows, {"name": "other", "file_db": 3.0}]}}
    device = FLOAT + 1.5 * (SIMULATED - FLOAT)
    scores, _ = compare(write(tmp_path, device, SIMULATED.argmax(1)), report)
    assert scores.floor == 32.0
    assert scores.passed


def test_samples_in_files_of_their_own_are_joined(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "scores.npy").unlink()
    known = Golden(
        (torch.zeros(12, 3),),
        *(tuple(y.repeat(3, *[1] * (y.dim() - 1)) for y in ys) for ys in [golden().outputs] * 3),
    )
    for place, row in enumerate(np.concatenate([SIMULATED] * 3)):
        np.save(tmp_path / f"scores.{place}.npy", row[None])
    np.save(tmp_path / "best.npy", np.tile(SIMULATED.argmax(1), 3))
    assert all(row.identical for row in compare(tmp_path, known=known)), (
        "ten comes behind nine, not behind one"
    )
    (tmp_path / "scores.4.npy").unlink()
    with pytest.raises(ArtifactError, match=r"no scores\.4\.npy"):
        compare(tmp_path, known=known)


def test_a_sample_that_is_there_twice(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "scores.npy").unlink()
    for number in ("0", "1", "01"):
        np.save(tmp_path / f"scores.{number}.npy", SIMULATED[:2])
    with pytest.raises(ArtifactError, match="both"):
        compare(tmp_path)


def test_types_may_differ_in_width(tmp_path: Path) -> None:
    write(tmp_path, SIMULATED.astype(np.float16), SIMULATED.argmax(1).astype(np.int32))
    scores, best = compare(tmp_path)
    assert scores.passed
    assert not scores.identical
    assert best.identical


def test_an_output_that_is_zero_proves_nothing(tmp_path: Path) -> None:
    known = golden(exact=np.zeros_like(FLOAT))
    assert compare(write(tmp_path), known=known)[0].passed, "identical to what was simulated"
    scores, _ = compare(write(tmp_path, SIMULATED + 0.01, SIMULATED.argmax(1)), known=known)
    assert scores.device is None
    assert not scores.passed


def test_infinities_that_the_host_had_too(tmp_path: Path) -> None:
    masked = SIMULATED.copy()
    masked[0, 0] = -np.inf
    scores, _ = compare(write(tmp_path, masked), known=golden(simulated=masked))
    assert scores.identical
    assert scores.max_difference == 0


def _several(file: Path) -> None:
    with file.open("wb") as stream:
        np.savez(stream, a=SIMULATED, b=SIMULATED)


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def _huge(file: Path) -> None:
    """A header that promises a terabyte."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (1 << 38,)})  # type: ignore[arg-type]
    file.write_bytes(out.getvalue())


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _saved(array: Any, **words: Any) -> Callable[[Path], None]:
    return lambda file: np.save(file, array, **words)


def _poisoned(value: float) -> Array:
    array = SIMULATED.copy()
    array[1, 3] = value
    return array


class Bomb:
    """What would run if the file were unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/fxc-test-device-bomb"),))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "there is no scores.npy"),
        (lambda file: file.write_bytes(b""), "damaged"),
        (_truncated, "damaged"),
        (_huge, "damaged"),
        (_several, "several arrays"),
        (_directory, "cannot read"),
        (lambda file: file.write_bytes(pickle.dumps(Bomb())), "damaged, or holds more"),
        (_saved(np.array([Bomb()], dtype=object), allow_pickle=True), "damaged, or holds more"),
        (_saved(np.array(["a", "b"])), "damaged, or holds more"),
        (_saved(SIMULATED[:3]), "shape"),
        (_saved(SIMULATED[:, :9]), "shape"),
        (_saved(SIMULATED.reshape(4, 10, 1)), "shape"),
        (_saved(SIMULATED.astype(np.int32)), "holds int32, the output is float32"),
        (_saved(SIMULATED.astype(np.complex64)), "holds complex64"),
        (_saved(_poisoned(np.nan)), "1 values that are not finite"),
        (_saved(_poisoned(np.inf)), "1 values that are not finite"),
        (_saved(SIMULATED.astype(np.float64) * 1e300), "40 values that are not finite"),
        (lambda file: np.save(file.with_name("scores.0.npy"), SIMULATED), "both scores.npy and scores.0.npy"),
    ],
)
def test_a_file_that_cannot_be_the_device_s(tmp_path: Path, spoil: Callable[[Path], Any], said: str) -> None:
    write(tmp_path)
    spoil(tmp_path / "scores.npy")
    with pytest.raises(ArtifactError) as caught:
        compare(tmp_path)
    assert said in str(caught.value)
    assert "scores" in caught.value.what
    assert str(tmp_path) in str(caught.value)
    assert not Path("/tmp/fxc-test-device-bomb").exists()


def test_pieces_of_another_shape(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "scores.npy").unlink()
    for place, width in enumerate((10, 9)):
        np.save(tmp_path / f"scores.{place}.npy", SIMULATED[:2, :width])
    with pytest.raises(ArtifactError, match=r"scores\.1\.npy has shape"):
        compare(tmp_path)


@pytest.mark.parametrize("kind", ["nothing", "file", "empty"])
def test_a_wrong_folder(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    if kind == "file":
        folder.write_bytes(b"")
    elif kind == "empty":
        folder.mkdir()
        np.save(folder / "other.npy", SIMULATED)
    with pytest.raises(ArtifactError) as caught:
        compare(folder)
    assert "scores.npy" in str(caught.value)
    assert str(folder) in str(caught.value)
    assert kind != "empty" or "other.npy" in str(caught.value)


@pytest.mark.parametrize("tolerance", [-1.0, math.nan, math.inf])
def test_a_wrong_tolerance(tmp_path: Path, tolerance: float) -> None:
    with pytest.raises(UsageError):
        compare(write(tmp_path), tolerance_db=tolerance)
