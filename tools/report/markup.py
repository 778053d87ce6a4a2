"""HTML made safely: text is escaped unless it is already :class:`Markup`. Names of layers come from strangers."""

from __future__ import annotations

import html
import re

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Control characters, direction overrides (they reorder what a reader sees) and halves of surrogate pairs."""

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
"""HTML elements that have no end tag (HTML Living Standard, section 13.1.2)."""


class Markup(str):
    """A piece of finished HTML."""

    __slots__ = ()


Content = Markup | str | int | float | None


def text(value: Content) -> Markup:
    """``value`` as HTML: escaped, with unprintable characters replaced by U+FFFD; ``None`` is empty."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup("")
    return Markup(html.escape(_UNPRINTABLE.sub("\ufffd", str(value)), quote=True))


def tag(name: str, *children: Content, **attributes: str | float | bool | None) -> Markup:
    """``<name attributes>children</name>``.

    A trailing underscore of an attribute is dropped and the others become hyphens (``class_``, ``aria_label``);
    ``None`` and ``False`` leave an attribute out, ``True`` writes it bare.
    """
    opening = "".join([name, *(_attribute(k, v) for k, v in attributes.items())])
    if name in _VOID:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{''.join(text(c) for c in children)}</{name}>")


def join(*children: Content) -> Markup:
    """The children one after another."""
    return Markup("".join(text(c) for c in children))


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{text(value)}"'
