"""What the zoo must show, as data: each bar, and which models keep or break it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.models.alive import MIN_MOVE
from tests.zoo.store import Result

FLOAT_ERROR = 1e-4
LOST_DB = 1.0
PURE_COVERAGE = 0.99

Row = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """One demand.

    Attributes:
        text: of the table.
        applies: to a model, from its row.
        breaks: why the model breaks it, or ``None``.
    """

    text: str
    applies: Callable[[Row], bool]
    breaks: Callable[[Row], str | None]


@dataclass(frozen=True)
class Verdict:
    """A bar over all measured models: ``broken`` has the reason by model."""

    bar: Bar
    judged: int
    broken: dict[str, str]

    @property
    def held(self) -> int:
        """How many models keep it."""
        return self.judged - len(self.broken)


def judge(results: Iterable[Result]) -> list[Verdict]:
    """Every bar over the results that have a row; the others are failures of their own, see :func:`unmeasured`."""
    rows = {result.name: result.row for result in results if result.row is not None}
    return [_judge(bar, rows) for bar in BARS]


def unmeasured(results: Iterable[Result]) -> dict[str, str]:
    """Models without a row, with the reason."""
    return {result.name: result.reason for result in results if result.row is None}


def _judge(bar: Bar, rows: dict[str, Row]) -> Verdict:
    judged = {name: bar.breaks(row) for name, row in rows.items() if bar.applies(row)}
    return Verdict(bar, len(judged), {name: reason for name, reason in judged.items() if reason is not None})


def _always(row: Row) -> bool:
    return True


def _static(row: Row) -> str | None:
    return None if row["dynamic"] else "the batch is fixed"


def _float_error(row: Row) -> str | None:
    worst = max(row["error_l2"], row["error_max"])
    return None if worst <= FLOAT_ERROR else f"{worst:.1e}"


def _dead(row: Row) -> str | None:
    return None if row["least_move"] >= MIN_MOVE else f"{row['least_move']:.1e}"


def _norms(row: Row) -> str | None:
    kept = row["norms"]["kept_foldable"]
    return f"{len(kept)} left, the first {kept[0]}" if kept else None


def _lost(target: str) -> Callable[[Row], str | None]:
    def broken(row: Row) -> str | None:
        lost = row["targets"][target]["lost_db"]
        return None if lost <= LOST_DB else f"{lost:.2f} dB"

    return broken


def _coverage(target: str) -> Callable[[Row], str | None]:
    def broken(row: Row) -> str | None:
        found = row["targets"][target]
        if found["coverage"] is not None and found["coverage"] >= PURE_COVERAGE:
            return None
        share = "unknown" if found["coverage"] is None else f"{found['coverage']:.2%}"
        return f"{share}, in float: {', '.join(found['float_layers'][:3])}"

    return broken


BARS = (
    Bar("captured with a dynamic batch", _always, _static),
    Bar(f"alive: zeroing a weight moves the output by {MIN_MOVE:g} or more, of twelve in each model", _always, _dead),
    Bar(f"optimized float program equals the module to {FLOAT_ERROR:g} (2-norm and maximum)", _always, _float_error),
    Bar("every foldable batch norm folded", lambda row: row["norms"]["foldable"] > 0, _norms),
    Bar(f"cpu-int8 file in OpenVINO within {LOST_DB:g} dB of its graph", _always, _lost("cpu-int8")),
    Bar(f"ort-int8 file in ONNX Runtime within {LOST_DB:g} dB of its graph", _always, _lost("ort-int8")),
    Bar("pure conv net, cpu-int8: at least 99 % of the MACs", lambda row: row["pure_conv"], _coverage("cpu-int8")),
    Bar("pure conv net, ort-int8: at least 99 % of the MACs", lambda row: row["pure_conv"], _coverage("ort-int8")),
    Bar(
        "quantized tensors of the ort-int8 file within one code of the graph's, each on the graph's inputs",
        _always,
        lambda row: None if row["worst"] <= 1 else f"{row['worst']} codes",
    ),
)  # fmt: skip
