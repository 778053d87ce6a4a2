"""Everything else that is a folder of several files: bundles of several targets, calibration statistics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import fxc
from fxc.compiler import bundle
from fxc.compiler.artifacts import Artifacts
from fxc.compiler.errors import ArtifactError
from fxc.passes.quantize.statistics import Statistics
from tests.e2e.fault_calls import Call
from tests.e2e.fault_children import Place, bundles, needs_calls, parent
from tests.e2e.fault_net import new, old
from tests.e2e.test_faults_full import full, refused


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def hashes(folder: Path) -> tuple[Any, ...]:
    """The identity of bundles of several targets, every file checked."""
    found = fxc.load(folder)
    assert isinstance(found, Artifacts)
    return tuple(found[target].manifest[bundle.HASH] for target in found)


@needs_calls
def test_bundles_of_two_targets(place: Place) -> None:
    """Both are old, or both are new, whenever the compile is killed."""
    more = ("-t", "ort-fp32")
    child = place.compile("old", *more)
    assert child.wait() == 0, child.said
    before, seen = hashes(place.out), []

    def look(call: Call) -> int:
        if call.path.startswith(str(place.out.parent)):
            seen.append(hashes(place.out))
        return 0

    child = place.compile("new", *more, "--force", watch=True)
    assert child.wait(look) == 0, child.said
    after = hashes(place.out)
    assert set(before).isdisjoint(after)
    assert seen == [before] * seen.count(before) + [after] * seen.count(after)
    assert before in seen
    assert after in seen
    assert place.litter() == []


@pytest.fixture(scope="module")
def statistics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, x = tmp_path_factory.mktemp("statistics"), torch.randn(2, 3, 16, 16)
    nets = {"old": old(), "new": new()}
    made = {name: fxc.calibrate(net, [x], example_inputs=x) for name, net in nets.items()}
    return {name: Path(made[name].save(folder / name)) for name in made}


def finder(place: Place, statistics: dict[str, Path]) -> Callable[[], str]:
    prints = {Statistics.load(path).fingerprint: name for name, path in statistics.items()}
    assert len(prints) == 2
    return lambda: prints[Statistics.load(place.out).fingerprint]


@needs_calls
def test_statistics_at_every_change(place: Place, statistics: dict[str, Path]) -> None:
    found, seen = finder(place, statistics), []
    Statistics.load(statistics["old"]).save(place.out)

    def look(call: Call) -> int:
        seen.append(found())
        return 0

    child = parent().start(
        "save", statistics["new"], place.out, "--force", temporary=place.temporary, watch=(place.folder,)
    )
    assert child.wait(look) == 0, child.said
    assert len(seen) > 10
    assert seen == ["old"] * seen.count("old") + ["new"] * seen.count("new")
    assert found() == "new"
    assert place.litter() == []


@needs_calls
def test_statistics_on_a_full_disk(place: Place, statistics: dict[str, Path]) -> None:
    found, rounds = finder(place, statistics), []
    Statistics.load(statistics["old"]).save(place.out)
    words = ("save", statistics["new"], place.out, "--force", "9")
    child = parent().start(*words, temporary=place.temporary, watch=(place.out.parent, place.temporary))

    def answer(call: Call) -> int:
        if call.path.endswith("/round"):
            if call.name.startswith("mkdir"):
                assert found() == "old", len(rounds)
                assert place.litter() == [], len(rounds)
                rounds.append(full(len(rounds)))
            return 0
        return rounds[-1](call)

    refused(child, child.wait(answer), 9)
    assert len(rounds) == 9
    assert found() == "old"
    assert [path.name for path in place.litter()] == []


def test_statistics_and_bundles_do_not_replace_each_other(place: Place, statistics: dict[str, Path]) -> None:
    place.put("old")
    with pytest.raises(ArtifactError, match="files that fxc did not write"):
        Statistics.load(statistics["old"]).save(place.out, force=True)
    assert place.found() == "old"
    Statistics.load(statistics["old"]).save(place.folder / "statistics")
    with pytest.raises(ArtifactError, match="files that fxc did not write"):
        fxc.load(bundles()["new"]).save(place.folder / "statistics", force=True)
    assert finder(place, statistics)
    assert Statistics.load(place.folder / "statistics").images == 2
