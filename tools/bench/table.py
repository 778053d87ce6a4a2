"""Tables in Markdown, and what they say where there is no number. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: a heading.
        heads, lines: cells; the first column is text, the rest is aligned right.
        notes: sentences below it.
    """

    title: str
    heads: Sequence[str]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The table with its heading and notes."""
        rule = ["---", *["---:"] * (len(self.heads) - 1)]
        rows = [self.heads, rule, *self.lines]
        body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
        return "\n\n".join([f"## {self.title}", body, *self.notes]) + "\n"


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash for none."""
    return "–" if value is None else f"{value:.{digits}f}"


def failure(found: Mapping[str, Any], name: str) -> str:
    """Why there is no number: the contestant's own reason, the whole process's, or a dash."""
    reason = found.get("failed") or found.get(name, {}).get("failed")
    return f"failed: {reason}" if reason else "–"


def verdict(what: str, value: float, bar: float, digits: int = 2, at_most: bool = True) -> str:
    """A bar with what was measured: ``✓`` held, ``✗`` missed."""
    held = value <= bar if at_most else value >= bar
    return f"{'✓' if held else '✗'} {what}: {value:.{digits}f} (bar {'≤' if at_most else '≥'} {bar:g})"
