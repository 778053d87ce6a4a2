"""What a vendor's toolkit needs of an environment of its own, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fxc.compiler.errors import UsageError

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]*\s*([<>=!~]=?\s*[\w.*+-]+(\s*,\s*[<>=!~]=?\s*[\w.*+-]+)*)?")
"""A package and its versions: no address, no file, no option of the installer."""


@dataclass(frozen=True)
class Toolchain:
    """A toolkit that lives apart from fxc's own packages because its pins clash with theirs.

    Attributes:
        name: what users call it, and the name of its folder: ``"rknn"``.
        package: the distribution whose version is the toolkit's.
        module: what must import for the environment to count as working.
        requirements: what is installed, ``package`` pinned exactly among it.
        constraints: versions of what comes along, as pip and uv read them with ``-c``.
        pythons: versions of Python that the toolkit has wheels for, the preferred one first: ``("3.11", "3.12")``.
        machines: ``"<sys.platform>-<machine>"`` that it has wheels for; empty for any.
        space: bytes of disk that the finished environment takes.
        variables: environment variables for every process that runs in it.

    Raises:
        UsageError: a requirement that is more than a package and its versions, or a name that no folder should have.
    """

    name: str
    package: str
    module: str
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    space: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"{self.name!r} cannot be the name of a toolchain", why="a-z, 0-9 and -")
        for text in (*self.requirements, *self.constraints):
            if not _PLAIN.fullmatch(text):
                raise UsageError(f"{text!r} is not a package and its versions")

    @property
    def version(self) -> str:
        """The version of ``package`` that is asked for; empty where it is left open."""
        found = (re.fullmatch(re.escape(self.package) + r"\s*==\s*(.+)", text) for text in self.requirements)
        return next((match[1] for match in found if match), "")

    @property
    def command(self) -> str:
        """What a user types to install it."""
        return f"fxc toolchain install {self.name}"
