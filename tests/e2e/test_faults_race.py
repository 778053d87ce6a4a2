"""Several compiles into one folder, and one that is read or taken away meanwhile: a whole bundle wins, the rest is told."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import fxc
from fxc.compiler import bundle
from fxc.compiler.errors import ArtifactError
from tests.e2e import fault_net
from tests.e2e.fault_calls import Call
from tests.e2e.fault_children import Child, Place, bundles, identity, kinds, needs_calls, parent


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize(("count", "rounds"), [(2, 10), (3, 4)])
def test_saves_at_once(count: int, rounds: int, force: tuple[str, ...], place: Place) -> None:
    for turn in range(rounds):
        place.put("old" if force and turn % 2 else None)
        children = [place.save("new" if i % 2 else "old", *force) for i in range(count)]
        outcome(place, children, force=bool(force))


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_compiles_at_once(force: tuple[str, ...], place: Place) -> None:
    outcome(place, [place.compile(name, *force) for name in ("old", "new")], force=bool(force))


def outcome(place: Place, children: list[Child], *, force: bool) -> None:
    """With force all end well; without it the first one does, and the others say that there is a bundle."""
    codes = [child.wait() for child in children]
    said = [child.said for child in children]
    assert place.found() in ("old", "new")
    assert place.litter() == []
    assert codes.count(0) == (len(children) if force else 1), said
    for code, text in zip(codes, said):
        assert code in (0, 1)
        assert "Traceback" not in text
        assert code == 0 or "the output folder already holds an artifact" in text


@needs_calls
@pytest.mark.parametrize(("before", "force"), [("old", ["--force"]), (None, [])])
def test_one_save_inside_another(before: str | None, force: list[str], place: Place) -> None:
    """At each kind of change of the one, the other runs from start to end."""
    place.put(before)
    for moment in kinds(place.save("new", *force, watch=True)):
        place.put(before)
        outer = place.save("new", *force, watch=True)
        stopped = outer.step(moment)
        assert stopped is not None
        inner = place.save("old", *force)
        assert inner.wait() == 0 or not force
        outcome_of_two(place, outer, stopped.name, force=bool(force))


def outcome_of_two(place: Place, outer: Child, change: str, *, force: bool) -> None:
    code = outer.wait()
    assert place.litter() == [], (change, outer.said)
    if force:
        assert code == 0, (change, outer.said)
        # Only the removal of what was replaced comes after the new one is in place.
        assert place.found() in (("new", "old") if change in ("unlinkat", "rmdir", "fsync") else ("new",))
    else:
        assert place.found() == ("new" if code == 0 else "old")
        assert (code == 0) != ("already holds an artifact" in outer.said), (change, outer.said)


@needs_calls
@pytest.mark.parametrize("removed", ["out", "place"])
def test_the_folder_is_removed_meanwhile(removed: str, place: Place) -> None:
    """By a user who cleans up: the new bundle appears all the same, or the error says what is not there."""
    for moment in kinds(place.save("new", "--force", watch=True)):
        place.out.parent.mkdir(exist_ok=True)
        place.put("old")
        child = place.save("new", "--force", watch=True)
        assert child.step(moment) is not None
        shutil.rmtree(place.out if removed == "out" else place.out.parent)
        code = child.wait()
        assert "Traceback" not in child.said
        assert child.said.count("error: ") == (code != 0), child.said
        # Removed after the new one had been put in place, it is gone, as the user wanted.
        assert place.found() in ((None, "new") if code == 0 else (None,))


def replaced_during(place: Place, monkeypatch: pytest.MonkeyPatch, name: str) -> list[Path]:
    """Let another compile replace ``out`` by ``new`` when ``bundle.<name>`` is first called."""
    real: Callable[..., object] = getattr(bundle, name)
    calls: list[Path] = []

    def replaced(path: Path, *more: object) -> object:
        calls.append(path)
        if len(calls) == 1:
            assert place.save("new", "--force").wait() == 0
        return real(path, *more)

    monkeypatch.setattr(bundle, name, replaced)
    return calls


def test_a_bundle_that_is_replaced_while_it_is_loaded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put("old")
    calls = replaced_during(place, monkeypatch, "verify")
    assert identity(place.out) == identity(bundles()["new"])
    assert len(calls) > 1


def test_a_bundle_that_is_replaced_while_it_is_looked_at(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a bundle before and after, so it is replaced once more."""
    place.put("old")
    artifact = fxc.load(bundles()["old"])
    replaced_during(place, monkeypatch, "read_manifest")
    artifact.save(place.out, force=True)
    assert place.found() == "old"
    assert place.litter() == []


def test_a_bundle_that_is_replaced_after_it_was_opened(place: Place) -> None:
    place.put("old")
    opened, other = fxc.load(place.out), fxc.load(place.out)
    assert place.save("old", "--force").wait() == 0
    assert other.program.name == "old", "the same content is no other bundle"
    assert place.save("new", "--force").wait() == 0
    for use in (lambda: opened.program, lambda: opened.golden, opened.runner, lambda: opened.run_flat()):
        with pytest.raises(ArtifactError, match="was replaced by another one after it was opened"):
            use()
    with pytest.raises(ArtifactError, match="changed"):
        opened.save(place.folder / "copy")
    assert not (place.folder / "copy").exists()


@needs_calls
def test_a_file_put_into_the_folder_at_the_last_moment(place: Place) -> None:
    place.put("old")
    child = place.save("new", "--force", watch=True)

    def answer(call: Call) -> int:
        if call.name == "renameat2":
            (place.out / "thesis.tex").write_text("years of work")
        return 0

    assert child.wait(answer) == 1
    assert "holds files that fxc did not write" in child.said
    assert (place.out / "thesis.tex").read_text() == "years of work"
    assert place.litter() == []
    (place.out / "thesis.tex").unlink()
    assert place.found() == "old"


@needs_calls
def test_a_read_only_parent(place: Place) -> None:
    """Refused before any work, also to root, whom no permission stops."""
    child = parent().start(
        *fault_net.words("new", place.out), temporary=place.temporary, watch=(place.out.parent,)
    )
    code = child.wait(lambda call: 30)  # EROFS
    assert code == 1
    assert "choose another folder that you may write" in child.said
    assert "capture" not in child.said
    assert place.litter() == []
