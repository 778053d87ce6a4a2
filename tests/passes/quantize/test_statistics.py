"""Statistics as a thing of their own: what is recorded, merged, written and read back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fxc
from fxc.compiler.errors import ArtifactError, CalibrationError
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.passes.pipelines import optimize
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.statistics import Statistics, Want


def program() -> Program:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    return run_pipeline(fxc.capture(net, (torch.zeros(1, 3, 8, 8),)), optimize())


def values(source: Program, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every float value of the program, by plain FX interpretation."""
    found: dict[str, torch.Tensor] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            value = super().run_node(n)
            if n.op in ("placeholder", "call_function"):
                found[n.name] = value
            return value

    with torch.no_grad():
        Recorder(source.graph_module).run(x)
    return found


def everything(source: Program) -> dict[str, Want]:
    """A histogram of every value, channels along axis 1."""
    nodes = [n for n in source.graph.nodes if n.op in ("placeholder", "call_function")]
    return {n.name: Want(histogram=True, channels=1) for n in nodes}


def measured(seed: int, count: int = 20) -> tuple[Statistics, dict[str, torch.Tensor]]:
    """Statistics over ``count`` samples, and all values of those samples at once."""
    source, generator = program(), torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, 8, 8, generator=generator) * (1.0 + seed)
    return calibrate(source, [x], wanted=everything(source)), values(source, x)


def test_extremes_and_channels_are_those_of_all_values_at_once() -> None:
    statistics, want = measured(1)
    assert set(statistics.tensors) == set(want)
    for name, value in want.items():
        stats, rows = statistics.tensors[name], value.transpose(0, 1).flatten(1).double()
        assert stats.channels is not None
        assert stats.histogram is not None
        # Convolutions see the samples in other batches here, and in another order of memory.
        assert np.allclose([stats.low, stats.high], [value.min(), value.max()], rtol=1e-5, atol=1e-6)
        assert np.allclose(stats.channels.mean, rows.mean(1), rtol=1e-4, atol=1e-5)
        assert np.allclose(stats.channels.low, rows.amin(1), rtol=1e-5, atol=1e-6)
        assert np.allclose(stats.channels.high, rows.amax(1), rtol=1e-5, atol=1e-6)
        assert stats.histogram.counts.sum() + stats.histogram.zeros == value.numel()


def test_two_runs_merged_are_one_run_over_both() -> None:
    source = program()
    x = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    x[8:] *= 7.0
    wanted = everything(source)
    one, two = (calibrate(source, [half], wanted=wanted) for half in x.split(8))
    whole = calibrate(source, [x], wanted=wanted)
    merged = one.merged(two)
    assert merged.images == whole.images == 16
    for name, stats in whole.tensors.items():
        other = merged.tensors[name]
        assert (stats.low, stats.high) == (other.low, other.high)
        assert stats.histogram is not None
        assert other.histogram is not None
        assert stats.histogram.limit == other.histogram.limit
        assert np.array_equal(stats.histogram.counts, other.histogram.counts)
        assert stats.channels is not None
        assert other.channels is not None
        assert np.allclose(stats.channels.total, other.channels.total)


def test_what_only_one_run_recorded_does_not_survive_a_merge() -> None:
    source = program()
    x = [torch.randn(4, 3, 8, 8)]
    rich = calibrate(source, x, wanted=everything(source))
    name = list(rich.tensors)[1]
    poor = calibrate(source, x, wanted={name: Want()})
    merged = rich.merged(poor)
    assert set(merged.tensors) == {name}
    assert merged.tensors[name].histogram is None
    assert merged.tensors[name].channels is None


def test_a_round_trip_loses_nothing(tmp_path: Path) -> None:
    statistics, _ = measured(2)
    statistics.samples = (torch.randn(2, 3), torch.tensor([1, 2]))
    statistics.fingerprint, statistics.source = "ab", "twelve images of çà"
    statistics.preprocessing = {"mean": [0.5], "said": "by hand"}
    loaded = Statistics.load(statistics.save(tmp_path / "s"))
    assert len({file.stat().st_mode for file in (tmp_path / "s").iterdir()}) == 1, "one set of rights"
    assert (loaded.images, loaded.source, loaded.fingerprint) == (20, "twelve images of çà", "ab")
    assert loaded.preprocessing == statistics.preprocessing
    assert all(torch.equal(a, b) for a, b in zip(loaded.samples, statistics.samples, strict=True))
    assert set(loaded.tensors) == set(statistics.tensors)
    for name, a in statistics.tensors.items():
        b = loaded.tensors[name]
        assert (a.low, a.high, a.average_low, a.average_high, a.batches) == (
            b.low, b.high, b.average_low, b.average_high, b.batches,
        )  # fmt: skip
        assert a.histogram is not None
        assert b.histogram is not None
        assert (a.histogram.limit, a.histogram.zeros) == (b.histogram.limit, b.histogram.zeros)
        assert np.array_equal(a.histogram.counts, b.histogram.counts)
        assert a.channels is not None
        assert b.channels is not None
        assert a.channels.axis == b.channels.axis
        assert np.array_equal(a.channels.low, b.channels.low)


def test_the_same_statistics_are_the_same_bytes(tmp_path: Path) -> None:
    statistics, _ = measured(3)
    for name in ("a", "b"):
        statistics.save(tmp_path / name)
    for file in ("statistics.json", "statistics.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_saving_replaces_statistics_only_when_told_and_nothing_else_ever(tmp_path: Path) -> None:
    statistics, _ = measured(4)
    statistics.save(tmp_path / "s")
    with pytest.raises(ArtifactError, match="already holds"):
        statistics.save(tmp_path / "s")
    statistics.save(tmp_path / "s", force=True)
    (tmp_path / "s" / "mine.txt").write_text("keep")
    with pytest.raises(ArtifactError):
        statistics.save(tmp_path / "s", force=True)
    assert (tmp_path / "s" / "mine.txt").read_text() == "keep"


DAMAGES = {
    "numbers cut short": lambda d: (d / "statistics.safetensors").write_bytes(
        (d / "statistics.safetensors").read_bytes()[:-20]
    ),
    "numbers missing": lambda d: (d / "statistics.safetensors").unlink(),
    "facts cut short": lambda d: (d / "statistics.json").write_text((d / "statistics.json").read_text()[:99]),
    "facts missing": lambda d: (d / "statistics.json").unlink(),
    "facts of another kind": lambda d: (d / "statistics.json").write_text('{"kind": "x"}'),
    "facts a list": lambda d: (d / "statistics.json").write_text("[]"),
    "a newer format": lambda d: edited(d, "format", 99),
    "no images": lambda d: edited(d, "images", 0),
    "a tensor too many": lambda d: edited(d, "tensors", {"a": {"batches": 1}}),
}


def edited(folder: Path, word: str, value: object) -> None:
    """One fact changed."""
    facts = json.loads((folder / "statistics.json").read_text())
    (folder / "statistics.json").write_text(json.dumps({**facts, word: value}))


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damage_is_named(damage: str, tmp_path: Path) -> None:
    statistics, _ = measured(6, 4)
    statistics.save(tmp_path / "s")
    DAMAGES[damage](tmp_path / "s")
    with pytest.raises(ArtifactError) as caught:
        Statistics.load(tmp_path / "s")
    assert "statistics" in str(caught.value)


def test_statistics_of_two_programs_do_not_merge() -> None:
    one, other = Statistics(images=1, fingerprint="a"), Statistics(images=1, fingerprint="b")
    with pytest.raises(CalibrationError, match="two different programs"):
        one.merged(other)
