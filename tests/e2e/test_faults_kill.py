"""A compile killed at any moment: the old bundle or the new one, whole, and the next compile as if nothing had been."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import pytest

from fxc.compiler.scratch import STALE_SECONDS
from tests.e2e.fault_calls import Call
from tests.e2e.fault_children import Child, Place, needs_calls

MOMENTS = 20


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.put("old")
    return made


def used(child: Child) -> float:
    """Seconds of processor time, which other processes do not stretch; infinite when it has ended."""
    try:
        process = psutil.Process(child.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return float("inf")
        return process.cpu_times().user + process.cpu_times().system
    except psutil.NoSuchProcess:
        return float("inf")


def run_for(child: Child, seconds: float) -> float:
    """Wait until the child has used this much processor time; what it had used when last seen."""
    last = 0.0
    while (now := used(child)) < seconds:
        last = now
        time.sleep(0.001)
    return last


def killed_at_random(place: Place, rounds: int, chance: random.Random) -> int:
    """Kill compiles after random processor times; how many died."""
    first = place.compile("new", "--force")
    whole, killed = run_for(first, float("inf")), 0
    assert first.wait() == 0, first.said
    for _ in range(rounds):
        place.put("old")
        child = place.compile("new", "--force")
        run_for(child, chance.uniform(0, whole))
        child.kill()
        killed += child.wait() == -signal.SIGKILL
        assert place.found() in ("old", "new")
    place.put("old")
    return killed


def test_at_twenty_random_moments(place: Place) -> None:
    assert killed_at_random(place, MOMENTS, random.Random(3)) > MOMENTS / 2
    # Some of them were killed with folders of their own: a young one may be in use, an old one goes.
    left = place.litter()
    assert left
    assert all(path.name.startswith(("fxc-", ".fxc-")) for path in left if path.is_dir())
    after(place)
    assert set(left) <= set(place.litter())
    age(place)
    after(place)
    assert [path for path in place.litter() if path.is_dir()] == []


def after(place: Place) -> None:
    """The next compile succeeds."""
    child = place.compile("new", "--force")
    assert child.wait() == 0, child.said
    assert place.found() == "new"
    place.put("old")


def age(place: Place) -> None:
    then = time.time() - STALE_SECONDS - 60
    for path in place.litter():
        os.utime(path, (then, then))


@needs_calls
@pytest.mark.parametrize("before", ["old", None])
def test_at_every_change_of_a_compile(before: str | None, place: Place) -> None:
    """Stopped before a change, the disk is as a kill would leave it."""
    place.put(before)
    child, seen = place.compile("new", "--force", watch=True), []

    def look(call: Call) -> int:
        seen.append(place.found())
        return 0

    assert child.wait(look) == 0, child.said
    assert len(seen) > 100
    assert seen == [before] * seen.count(before) + ["new"] * seen.count("new")
    assert seen.count("new") >= 1
    assert place.found() == "new"


@needs_calls
def test_killed_while_saving(place: Place) -> None:
    changes = count_changes(place.save("new", "--force", watch=True))
    killed = killed_at(place, place.save, range(1, changes, changes // 9))
    assert killed > 8
    assert len(place.litter()) > 6, "half-made folders of several kinds"
    age(place)
    child = place.save("new", "--force")
    assert child.wait() == 0, child.said
    assert place.litter() == []


@needs_calls
def test_killed_while_compiling(place: Place) -> None:
    changes = count_changes(place.compile("new", "--force", watch=True))
    assert killed_at(place, place.compile, random.Random(5).sample(range(changes - 5), 3)) == 3
    after(place)


def count_changes(child: Child) -> int:
    """How many changes an undisturbed child makes."""
    seen: list[str] = []
    assert child.wait(lambda call: bool(seen.append(call.name))) == 0, child.said
    return len(seen)


def killed_at(place: Place, start: Callable[..., Child], moments: Iterable[int]) -> int:
    """Kill before each of these changes; how many died."""
    killed = 0
    for moment in moments:
        place.put("old")
        child = start("new", "--force", watch=True)
        if child.step(moment) is not None:
            child.kill()
        killed += child.wait() == -signal.SIGKILL
        assert place.found() in ("old", "new")
    return killed


@needs_calls
@pytest.mark.parametrize(("number", "moments"), [(2, (1, 8, 20, 60, 100, 135)), (15, (3, 12, 118))])
def test_asked_to_end(number: int, moments: tuple[int, ...], place: Place) -> None:
    """By SIGINT and SIGTERM; the first changes check the output folder, the last ones remove what was replaced."""
    ended = []
    for moment in moments:
        child = place.compile("new", "--force", watch=True)
        if child.step(moment) is not None:
            child.kill(number)
        ended.append(child.wait())
        assert "Traceback" not in child.said
        if place.found() != "old":
            assert place.found() == "new"
            place.put("old")
        assert place.litter() == [], (moment, child.said)
    assert set(ended) <= {0, 130}
    assert ended.count(130) >= len(ended) - 1
