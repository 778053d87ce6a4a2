"""fxc takes a PyTorch vision model to an edge chip, with proof at every step that the numbers still hold.

    artifact = fxc.compile(model, target="cpu-int8", calibration_data=loader)
    artifact.save("build/model")
    y = artifact(x)

Importing this module imports no torch; the first use of a name does what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fxc.api import calibrate, capture, compile, lint, load
    from fxc.catalogue import targets
    from fxc.compiler.artifact import Artifact
    from fxc.compiler.artifacts import Artifacts
    from fxc.compiler.config import QuantConfig
    from fxc.compiler.errors import FxcError
    from fxc.compiler.extension import Extension
    from fxc.compiler.program import Program
    from fxc.passes.prune.plan import Plan
    from fxc.passes.prune.pruned import Pruned
    from fxc.passes.quantize.statistics import Statistics
    from fxc.pruning import prune, prune_steps
    from fxc.sparsity import sparsify

__version__ = "0.1.0"

_WHERE = {
    "compile": "fxc.api",
    "calibrate": "fxc.api",
    "capture": "fxc.api",
    "lint": "fxc.api",
    "load": "fxc.api",
    "prune": "fxc.pruning",
    "prune_steps": "fxc.pruning",
    "sparsify": "fxc.sparsity",
    "targets": "fxc.catalogue",
    "Artifact": "fxc.compiler.artifact",
    "Artifacts": "fxc.compiler.artifacts",
    "Plan": "fxc.passes.prune.plan",
    "Pruned": "fxc.passes.prune.pruned",
    "Statistics": "fxc.passes.quantize.statistics",
    "QuantConfig": "fxc.compiler.config",
    "Program": "fxc.compiler.program",
    "Extension": "fxc.compiler.extension",
    "FxcError": "fxc.compiler.errors",
}

__all__ = [
    "Artifact",
    "Artifacts",
    "Extension",
    "FxcError",
    "Plan",
    "Program",
    "Pruned",
    "QuantConfig",
    "Statistics",
    "calibrate",
    "capture",
    "compile",
    "lint",
    "load",
    "prune",
    "prune_steps",
    "sparsify",
    "targets",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'fxc' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
