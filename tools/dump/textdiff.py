"""A unified diff of two long, similar texts in near-linear time."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

CONTEXT = 3
LARGEST_GAP = 400
"""Stretches longer than this, between lines that anchor them, are shown as replaced: a minimal diff is quadratic."""

Opcode = tuple[str, int, int, int, int]


def unified(before: str, after: str) -> list[str]:
    """Lines of a unified diff, without file headers; empty if the texts are equal.

    Lines that occur once in each text and in the same order anchor the comparison ("patience diff"); ``difflib``
    compares only what lies between anchors.
    """
    a, b = before.splitlines(), after.splitlines()
    lines: list[str] = []
    for hunk in _hunks(_opcodes(a, b)):
        first, last = hunk[0], hunk[-1]
        lines.append(f"@@ -{first[1] + 1},{last[2] - first[1]} +{first[3] + 1},{last[4] - first[3]} @@")
        for tag, i1, i2, j1, j2 in hunk:
            if tag == "equal":
                lines += [f" {line}" for line in a[i1:i2]]
            else:
                lines += [f"-{line}" for line in a[i1:i2]]
                lines += [f"+{line}" for line in b[j1:j2]]
    return lines


def _opcodes(a: Sequence[str], b: Sequence[str]) -> list[Opcode]:
    """Equal and changed stretches that together cover both texts."""
    codes: list[Opcode] = []
    i = j = 0
    for next_i, next_j in [*_anchors(a, b), (len(a), len(b))]:
        codes += _between(a, b, i, next_i, j, next_j)
        if next_i < len(a):
            codes.append(("equal", next_i, next_i + 1, next_j, next_j + 1))
        i, j = next_i + 1, next_j + 1
    return _joined(codes)


def _between(a: Sequence[str], b: Sequence[str], i1: int, i2: int, j1: int, j2: int) -> list[Opcode]:
    if i1 == i2 and j1 == j2:
        return []
    if i2 - i1 > LARGEST_GAP or j2 - j1 > LARGEST_GAP or i1 == i2 or j1 == j2:
        return [("replace", i1, i2, j1, j2)]
    matcher = difflib.SequenceMatcher(None, a[i1:i2], b[j1:j2], autojunk=False)
    return [(tag, x1 + i1, x2 + i1, y1 + j1, y2 + j1) for tag, x1, x2, y1, y2 in matcher.get_opcodes()]


def _anchors(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """The longest increasing run of lines that are unique in both texts."""
    count_a, count_b = Counter(a), Counter(b)
    where = {line: j for j, line in enumerate(b) if count_b[line] == 1}
    pairs = [(i, where[line]) for i, line in enumerate(a) if count_a[line] == 1 and line in where]
    tails: list[int] = []
    ends: list[int] = []
    previous: list[int] = []
    for n, (_, j) in enumerate(pairs):
        at = bisect_left(tails, j)
        previous.append(ends[at - 1] if at else -1)
        if at == len(tails):
            tails.append(j)
            ends.append(n)
        else:
            tails[at], ends[at] = j, n
    run: list[tuple[int, int]] = []
    n = ends[-1] if ends else -1
    while n >= 0:
        run.append(pairs[n])
        n = previous[n]
    return run[::-1]


def _joined(codes: Sequence[Opcode]) -> list[Opcode]:
    """Neighbouring stretches of one kind as one."""
    joined: list[Opcode] = []
    for tag, i1, i2, j1, j2 in codes:
        kind = "equal" if tag == "equal" else "replace"
        if joined and joined[-1][0] == kind:
            joined[-1] = (kind, joined[-1][1], i2, joined[-1][3], j2)
        else:
            joined.append((kind, i1, i2, j1, j2))
    return joined


def _hunks(codes: list[Opcode]) -> Iterator[list[Opcode]]:
    """Changed stretches with their context; long equal stretches part the hunks."""
    hunk: list[Opcode] = []
    for at, (tag, i1, i2, j1, j2) in enumerate(codes):
        if tag != "equal":
            hunk.append((tag, i1, i2, j1, j2))
            continue
        head = 0 if at == 0 else min(CONTEXT, i2 - i1)
        tail = 0 if at == len(codes) - 1 else min(CONTEXT, i2 - i1)
        if hunk and tail and i2 - i1 <= 2 * CONTEXT:
            hunk.append((tag, i1, i2, j1, j2))
            continue
        if hunk:
            yield [*hunk, (tag, i1, i1 + head, j1, j1 + head)]
        hunk = [(tag, i2 - tail, i2, j2 - tail, j2)] if tail else []
    if hunk:
        yield hunk
