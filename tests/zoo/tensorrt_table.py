"""``tests/zoo/tensorrt.md`` from stored results: what all models must show, then every model by family."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tests.zoo.store import Result
from tests.zoo.table import FAMILIES

LEAST_SHARE, LOST_DB = 0.97, 1.0
TYPED_LOST_DB = 4.0
"""Float parts in eleven bits move a lively random net on small images by up to three decibels."""
COLUMNS = (
    "model | px | GMAC | errors | slow | int8 MACs | sums int8 / float | int8 dB graph / file / typed | fp16 dB typed | "
    "int8 MiB file / typed | fp16 MiB file / typed | float MiB | s | peak GB"
)

Row = dict[str, Any]
Bar = tuple[str, Callable[[Row], str | None]]


def render(results: Sequence[Result], missing: Sequence[str]) -> str:
    """The whole page; ``missing`` are the names that no sweep has reached yet."""
    parts = [
        "# Every classifier for TensorRT",
        _INTRO,
        _facts(results),
        _bars(results, missing),
        _reasons(results),
    ]
    parts += [_slow(results)]
    parts += [_family(name, prefixes, results) for name, prefixes in FAMILIES.items()]
    return "\n\n".join(part for part in parts if part) + "\n"


_INTRO = """Rewritten by `make zoo-tensorrt`. Livened random weights, small images, one process per model, both targets from one
capture and one calibration. Each bundle has `model.onnx` for TensorRT up to 10.x and `model.typed.onnx` for 11. **No engine was
built**: the files were read back and run in ONNX Runtime, and judged by the rule checker, which reads only the file: `model.onnx`
for 8.5 and 10.3, `model.typed.onnx` for 11.4. *errors* are its findings that TensorRT would refuse or compute otherwise, of both
targets; *slow* those that cost speed, for int8. *int8 MACs*: the share of multiply-accumulates that is int8 in the
graph, of layers that are not on the target's written list of what stays float. *sums* add two activations, as residual connections
do: those with a coded operand, and those left in float, each with a reason in the report. *dB*: SQNR of the outputs against the
float graph, of several the worst. Random weights amplify noise: read them as agreement between graph and file. *s*: wall clock of
the process, modules and calibration included."""  # fmt: skip


def line(result: Result) -> str:
    """One row of the table."""
    row = result.row
    if row is None:
        reason = result.reason.replace("|", "\\|").replace("\n", " ")
        return f"| {result.name} | failed: {reason} |" + "|" * (COLUMNS.count("|") - 1)
    i8, half = row["targets"]["jetson-int8"], row["targets"]["jetson-fp16"]
    left = sum(i8["sums"]["reasons"].values()) + len(i8["sums"]["unexplained"])
    cells = [
        result.name,
        str(row["resolution"]),
        f"{row['macs'] / 1e9:.2f}",
        str(len(i8["errors"]) + len(half["errors"])),
        str(sum(i8["slow"].values())),
        "–" if i8["share"] is None else f"{i8['share']:.2%}",
        f"{i8['sums']['coded']} / {left}",
        " / ".join(_db(i8[word]) for word in ("graph_db", "file_db", "typed_db")),
        _db(half["typed_db"]),
        *(" / ".join(f"{count / 2**20:.1f}" for count in t["bytes"].values()) for t in (i8, half)),
        f"{row['float_bytes'] / 2**20:.1f}",
        f"{result.seconds:.0f}",
        f"{result.peak_gb:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _db(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _int8(row: Row) -> Row:
    found: Row = row["targets"]["jetson-int8"]
    return found


def _errors(row: Row) -> str | None:
    found = [error for target in row["targets"].values() for error in target["errors"]]
    return f"{len(found)}, the first {found[0]}" if found else None


def _share(row: Row) -> str | None:
    share = _int8(row)["share"]
    return None if share is None or share >= LEAST_SHARE else f"{share:.2%}"


def _unexplained(row: Row) -> str | None:
    bare = _int8(row)["sums"]["unexplained"]
    return f"{len(bare)} without, the first {bare[0]}" if bare else None


def _lost(word: str, most: float) -> Callable[[Row], str | None]:
    def broken(row: Row) -> str | None:
        found = _int8(row)
        if found[word] is None or found["graph_db"] is None:
            return "not measured"
        lost = found["graph_db"] - found[word]
        return None if lost <= most else f"{lost:.2f} dB"

    return broken


BARS: tuple[Bar, ...] = (
    ("no error of the rule checker in any of the four files", _errors),
    (f"at least {LEAST_SHARE:.0%} of the multiply-accumulates int8 outside the keep-float list", _share),
    ("every sum of two activations int8, or in float with a reason in the report", _unexplained),
    (f"`model.onnx` within {LOST_DB:g} dB of its graph", _lost("file_db", LOST_DB)),
    (f"`model.typed.onnx` within {TYPED_LOST_DB:g} dB of its graph, float parts in float16", _lost("typed_db", TYPED_LOST_DB)),
)  # fmt: skip


def _bars(results: Sequence[Result], missing: Sequence[str]) -> str:
    rows = {result.name: result.row for result in results if result.row is not None}
    lines = ["| bar | held | broken by |", "|---|---|---|"]
    for text, breaks in BARS:
        broken = {name: reason for name, row in rows.items() if (reason := breaks(row)) is not None}
        told = "; ".join(f"{name} ({reason})" for name, reason in broken.items()) or "–"
        lines.append(f"| {text} | {len(rows) - len(broken)} of {len(rows)} | {told} |")
    failed = "; ".join(f"{r.name} ({r.reason})" for r in results if r.row is None)
    lines += [f"\nFailed: {failed}."] if failed else []
    lines += [f"\nNot measured yet: {', '.join(missing)}."] if missing else []
    return "\n".join(lines)


def _reasons(results: Iterable[Result]) -> str:
    why = Counter[str]()
    for result in results:
        why.update(_int8(result.row)["sums"]["reasons"] if result.row else {})
    if not why:
        return ""
    lines = "\n".join(f"- {count}: {reason}" for reason, count in why.most_common())
    return f"Sums that stay float, and why:\n\n{lines}"


def _slow(results: Iterable[Result]) -> str:
    rules = Counter[str]()
    for result in results:
        rules.update(_int8(result.row)["slow"] if result.row else {})
    told = ", ".join(f"{rule} {count}" for rule, count in rules.most_common())
    return f"What the checker calls slow, over all int8 files: {told}." if told else ""


def _facts(results: Sequence[Result]) -> str:
    if not results:
        return ""
    minutes = sum(result.seconds for result in results) / 60
    return f"{len(results)} processes, {minutes:.0f} minutes one after the other. Code {', '.join(sorted({r.version for r in results}))}."


def _family(title: str, prefixes: tuple[str, ...], results: Sequence[Result]) -> str:
    mine = [result for result in results if result.name.startswith(prefixes)]
    if not mine:
        return ""
    mine.sort(key=lambda result: (result.row is None, (result.row or {}).get("macs", 0), result.name))
    head = [f"## {title}", "", f"| {COLUMNS} |", "|" + "---|" * (COLUMNS.count("|") + 1)]
    return "\n".join(head + [line(result) for result in mine])
