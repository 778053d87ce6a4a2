"""A disk that fills up, or fails, at any change of a compile: one clear error, the old bundle, and nothing beside it."""

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.fault_calls import NEEDS_SPACE, Call
from tests.e2e.fault_children import Child, Place, needs_calls

pytestmark = needs_calls


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.put("old")
    return made


def full(after: int) -> Callable[[Call], int]:
    """After so many changes that need space, there is none left; removing and renaming go on."""
    left = after

    def answer(call: Call) -> int:
        nonlocal left
        left -= call.name in NEEDS_SPACE
        return errno.ENOSPC if left < 0 and call.name in NEEDS_SPACE else 0

    return answer


def refused(child: Child, code: int, times: int = 1) -> None:
    said = child.said
    assert code == 1, said
    assert sum(line.startswith("error: ") for line in said.splitlines()) == times, said
    assert said.count("No space left on device") == times, said
    assert said.count("fix: ") == times, said
    assert "Traceback" not in said, said


def count_changes(child: Child) -> int:
    """How many changes that need space an undisturbed child makes."""
    names: list[str] = []
    assert child.wait(lambda call: bool(names.append(call.name))) == 0, child.said
    return sum(name in NEEDS_SPACE for name in names)


@pytest.mark.parametrize("before", ["old", None])
def test_full_at_every_change_of_a_save(before: str | None, place: Place) -> None:
    place.put(before)
    changes = count_changes(place.save("new", "--force", watch=True)) - 1
    place.put(before)
    child = place.save("new", "--force", str(changes), watch=True)
    rounds: list[Callable[[Call], int]] = []

    def answer(call: Call) -> int:
        if call.name.startswith("mkdir") and call.path.endswith("/round"):
            assert place.found() == before, len(rounds)
            assert place.litter() == [], len(rounds)
            rounds.append(full(len(rounds)))
            return 0
        return rounds[-1](call)

    refused(child, child.wait(answer), changes)
    assert len(rounds) == changes > 50
    assert place.found() == before
    assert place.litter() == []


def test_full_at_some_changes_of_a_compile(place: Place) -> None:
    full_at_changes(place, 5, random.Random(7))


def full_at_changes(place: Place, rounds: int | None, chance: random.Random) -> int:
    """Let the disk be full from one of ``rounds`` changes on, or from each; how many changes there are."""
    changes = count_changes(place.compile("new", "--force", watch=True))
    place.put("old")
    for moment in range(changes) if rounds is None else chance.sample(range(changes), rounds):
        child = place.compile("new", "--force", watch=True)
        refused(child, child.wait(full(moment)))
        assert place.found() == "old", (moment, child.said)
        assert place.litter() == [], (moment, child.said)
    return changes


def test_one_failing_change_of_a_save(place: Place) -> None:
    """Also of those that need no space, a rename or a removal: what is said is what was done."""
    names: list[str] = []
    assert place.save("new", "--force", watch=True).wait(lambda call: bool(names.append(call.name))) == 0
    # Of several alike one after the other, the first and the last are enough.
    moments = [i for i in range(2, len(names)) if names[i - 1 : i + 2] != [names[i]] * 3]
    codes: dict[int, int] = {}
    place.put("old")
    child = place.save("new", "--force", str(len(moments) + 1), watch=True)
    left: list[int] = []

    def answer(call: Call) -> int:
        if call.name.startswith("mkdir") and call.path.endswith("/round"):
            if left:
                told = f"\n{child.said}".count("\nerror: ") - sum(codes.values())
                codes[moments[len(codes)]] = told
                assert place.found() == ("old" if told else "new"), (call, child.said)
            place.put("old")
            left[:] = [moments[len(codes)]] if len(codes) < len(moments) else [len(names)]
        left[0] -= 1
        return errno.EIO if left[0] == -1 else 0

    child.wait(answer)
    assert len(codes) == len(moments) > 20
    assert "Traceback" not in child.said
    assert set(codes.values()) == {0, 1}
    # The removal of what was replaced may fail; the rename that replaces it may not.
    assert {codes[i] for i, name in enumerate(names) if name == "unlinkat" and i in codes} == {0}
    assert {codes[i] for i, name in enumerate(names) if name == "renameat2"} == {1}
