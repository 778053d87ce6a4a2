"""``index.html``: one page that steps through the passes, with pictures and text diffs inside it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

MARK = '<meta name="generator" content="fxc dump">'
"""Stands in every index this module writes; a folder that has it may be written over."""


@dataclass(frozen=True)
class Step:
    """One row of the explorer.

    Attributes:
        number: as in the file names.
        name: the pass's name; ``"capture"`` for the start.
        text: the pass with its options.
        modified: whether the pass changed anything.
        added, removed, changed, rewired: how many nodes.
        notes: what the pass said, as (kind, text).
        files: names of the files of this step.
        remark: why there is no picture, if there is none.
        payload: see :func:`pack`; empty for a pass that changed nothing.
    """

    number: int
    name: str
    text: str
    modified: bool
    added: int = 0
    removed: int = 0
    changed: int = 0
    rewired: int = 0
    notes: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    remark: str = ""
    payload: str = ""


def pack(svg: str | None, diff: Sequence[str], text: str) -> str:
    """Picture, diff lines and text of a step as base64 of deflated JSON.

    The page unpacks it with the browser's own ``DecompressionStream``; a picture shrinks about tenfold, and nothing
    in base64 can end a script element.
    """
    plain = json.dumps({"svg": svg, "diff": list(diff), "text": text}, ensure_ascii=False)
    return base64.b64encode(zlib.compress(plain.encode("utf-8", "replace"), 9)).decode("ascii")


def index_html(title: str, steps: Sequence[Step]) -> str:
    """The page. It loads nothing: its content security policy forbids every request, and scripts but its own.

    Args:
        title: the model's name.
        steps: in order.
    """
    page = files("fxc.tools.dump").joinpath("page.html").read_text(encoding="utf-8")
    style = files("fxc.tools.dump").joinpath("page.css").read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    if script is None:
        raise ValueError("page.html has no script")
    digest = base64.b64encode(hashlib.sha256(script[1].encode("utf-8")).digest()).decode("ascii")
    values = {
        "mark": MARK,
        "script-hash": f"sha256-{digest}",
        "title": html.escape(title),
        "style": style,
        "data": _json_in_html([vars(step) for step in steps]),
    }
    return re.sub(r"\{\{([a-z-]+)\}\}", lambda match: values[match[1]], page)


def _json_in_html(value: object) -> str:
    """JSON that cannot end the element it stands in."""
    plain = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
