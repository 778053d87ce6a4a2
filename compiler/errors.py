"""Every error that fxc raises on purpose.

    FxcError
    ├── UsageError         a wrong argument, option, target name or override
    ├── CaptureError       the model could not become a graph
    ├── InputError         inputs that do not fit the program (count, shape, dtype)
    ├── PassError          a pass broke its promise or its preconditions
    ├── LegalityError      the target cannot take an operator, a dtype, a rank or a size
    ├── CalibrationError   calibration data that cannot be used
    ├── ToolchainError     a vendor's tool or a runtime is missing, too old, or failed
    └── ArtifactError      a bundle, a model file or an output folder that cannot be read or written

A message says what went wrong, where (layer and source line), why (the rule) and what to do about it.
"""

from __future__ import annotations


class FxcError(Exception):
    """Base of all errors that are the user's to read; anything else escaping fxc is a bug.

    Args:
        what: one sentence, the failure itself.
        where: layer name, source line or file.
        why: the rule that was broken, with its source if it has one.
        fix: what the user can change.
    """

    def __init__(
        self, what: str, *, where: str | None = None, why: str | None = None, fix: str | None = None
    ):
        self.what, self.where, self.why, self.fix = what, where, why, fix
        super().__init__(what)

    def __str__(self) -> str:
        extra = [("where", self.where), ("why", self.why), ("fix", self.fix)]
        return "\n".join([self.what, *(f"  {name + ':':<7}{text}" for name, text in extra if text)])

    def to_json(self) -> dict[str, str | None]:
        """The parts of the message, for ``--json`` output."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "fix": self.fix,
        }


class UsageError(FxcError):
    """A wrong argument, option, target name or override."""


class CaptureError(FxcError):
    """The model could not be captured as a graph."""


class InputError(FxcError):
    """Inputs that do not fit the program: count, shape, dtype."""


class PassError(FxcError):
    """A pass broke its promise about numbers, or was run before what it requires."""


class LegalityError(FxcError):
    """The target cannot take an operator, a dtype, a rank or a size."""


class CalibrationError(FxcError):
    """Calibration data that cannot be used: empty, not finite, wrong shape, unreadable."""


class ToolchainError(FxcError):
    """A vendor's tool or a runtime is missing, has the wrong version, or failed."""


class ArtifactError(FxcError):
    """A bundle, a model file or an output folder that cannot be read or written."""
