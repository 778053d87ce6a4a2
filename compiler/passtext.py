"""Parsing of passes and pipelines from text: ``canonicalize{},fold_batch_norm{},prune_channels{ratio=0.5,align=8}``."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
from collections.abc import Mapping

from fxc.compiler.errors import UsageError
from fxc.compiler.passbase import Pass

_TOKEN = re.compile(
    r"""\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>-?\d[\w.+-]*)|"(?P<text>(?:\\.|[^"\\])*)"|(?P<mark>[{}\[\],=]))""",
    re.ASCII,
)
_WORDS = {"true": True, "false": False, "none": None}


def parse_pipeline(text: str, catalogue: Mapping[str, str]) -> tuple[Pass, ...]:
    """Passes from their text form.

    Args:
        text: passes separated by commas; ``{}`` may be left out.
        catalogue: pass name to ``"module:Class"``.

    Raises:
        UsageError: unknown pass or option, or a syntax error with its position.
    """
    parser = _Parser(text, catalogue)
    passes = parser.sequence(end=None)
    return tuple(passes)  # type: ignore[arg-type]


class _Parser:
    def __init__(self, text: str, catalogue: Mapping[str, str]):
        self.text, self.catalogue, self.at = text, catalogue, 0

    def fail(self, what: str) -> UsageError:
        return UsageError(f"pipeline text: {what} at position {self.at}", where=self.text)

    def peek(self) -> tuple[str, str] | None:
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            if self.text[self.at :].strip():
                raise self.fail("unexpected character")
            return None
        kind = match.lastgroup or ""
        return kind, match.group(kind)

    def take(self, mark: str | None = None) -> tuple[str, str]:
        token = self.peek()
        if token is None or (mark is not None and token != ("mark", mark)):
            raise self.fail(f"expected {mark!r}" if mark else "unexpected end")
        match = _TOKEN.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        return token

    def accept(self, mark: str) -> bool:
        if self.peek() == ("mark", mark):
            self.take()
            return True
        return False

    def sequence(self, end: str | None) -> list[object]:
        items: list[object] = []
        while (token := self.peek()) is not None and token != ("mark", end):
            items.append(self.value(top=end is None))
            if not self.accept(","):
                break
        if end is not None:
            self.take(end)
        elif self.peek() is not None:
            raise self.fail("expected ','")
        return items

    def value(self, top: bool = False) -> object:
        if self.accept("["):
            return tuple(self.sequence("]"))
        kind, text = self.take()
        if kind == "name" and (top or self.peek() == ("mark", "{")):
            return self.a_pass(text)
        if kind == "name":
            return _WORDS.get(text, text)
        if kind == "text":
            return re.sub(r"\\(.)", r"\1", text)
        if kind == "number":
            return self.number(text)
        raise self.fail(f"unexpected {text!r}")

    def number(self, text: str) -> int | float:
        try:
            return int(text)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            raise self.fail(f"not a number: {text!r}") from None

    def a_pass(self, name: str) -> Pass:
        cls = pass_class(name, self.catalogue)
        known = {f.name for f in dataclasses.fields(cls)}
        options: dict[str, object] = {}
        if self.accept("{"):
            while not self.accept("}"):
                _, key = self.take()
                if key not in known:
                    raise UsageError(
                        f"pass {name} has no option {key!r}",
                        fix=f"options: {', '.join(sorted(known)) or 'none'}",
                    )
                self.take("=")
                options[key] = self.value()
                self.accept(",")
        return cls(**options)


def pass_class(name: str, catalogue: Mapping[str, str]) -> type[Pass]:
    """The class of the pass called ``name``.

    Raises:
        UsageError: unknown name, with the nearest ones.
    """
    if name not in catalogue:
        near = difflib.get_close_matches(name, catalogue, n=3)
        raise UsageError(f"unknown pass {name!r}", fix=f"did you mean {', '.join(near)}?" if near else None)
    module, _, cls = catalogue[name].partition(":")
    return getattr(importlib.import_module(module), cls)
