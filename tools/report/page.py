"""The page: a skeleton, a style sheet, a small script, and the sections in reading order."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from string import Template
from typing import Any

from fxc.tools.report import sections, summary
from fxc.tools.report.markup import Markup, join, text
from fxc.tools.report.measured import Measured, measurements


def render(report: dict[str, Any], measured: Sequence[Measured] = ()) -> str:
    """The report of a compile as one self-contained HTML page: no other file, no network, no clock.

    Everything in ``report`` is escaped. The page's own policy lets only its own script run, by its hash, so that
    even a hole in the escaping would not let a model's names act.

    Args:
        report: what ``report.json`` holds.
        measured: blocks of further measurements, shown under the head.
    """
    model, target = report["model"]["name"], report["target"]["name"]
    body = join(
        summary.header(report),
        summary.tiles(report),
        *(measurements(block) for block in measured),
        sections.accuracy(report),
        sections.layers(report),
        sections.float_tensors(report),
        sections.passes(report),
        sections.notes(report),
        sections.interface(report),
    )
    return page(f"{model} → {target} · fxc", body)


def page(title: str, body: Markup) -> str:
    """A whole page around ``body``."""
    script = _file("sort.js")
    return Template(_file("page.html")).substitute(
        title=text(title),
        style=_file("page.css"),
        body=body,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=text(version("fxc")),
    )


def _file(name: str) -> str:
    return files("fxc.tools.report").joinpath(name).read_text(encoding="utf-8")
