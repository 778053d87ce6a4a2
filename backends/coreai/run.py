"""Execute an ``.aimodel`` on this host in Apple's own runtime, which has wheels for Linux too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fxc.backends.coreai.ask import ask
from fxc.backends.coreai.package import check_package
from fxc.backends.coreai.toolchain import CORE, require
from fxc.compiler.backend import Kernel
from fxc.compiler.errors import ArtifactError, ToolchainError
from fxc.compiler.scratch import WorkFolder
from fxc.compiler.target import Target
from fxc.compiler.toolchain.worker import load_arrays, save_arrays

Array = np.ndarray[Any, Any]


def load(
    model: Path,
    target: Target | None = None,
    *,
    precision: str | None = None,
    threads: int | None = None,
    expose: Sequence[str] = (),
) -> AimodelRunner:
    """Load an ``.aimodel``, also one that fxc did not make.

    Args:
        target: not read; every file says itself what it is.
        precision: ``"f32"`` or ``None``: the runtime computes in the types that the file states.
        threads: the runtime has no such setting.
        expose: the runtime hands out the outputs alone.

    Raises:
        ToolchainError: coreai-core is not installed, or not in the version that this was made for; or another precision.
        ArtifactError: there is no such model, it is damaged, or something is to be exposed.
    """
    if precision not in (None, "f32"):
        raise ToolchainError(f"Core AI has no inference precision {precision!r}", fix="the file's own: f32")
    if expose:
        raise ArtifactError(
            f"Core AI hands out no value {expose[0]!r}", why="its runtime gives the outputs alone"
        )
    check_package(model)
    return AimodelRunner(model, require(CORE)[CORE])


class AimodelRunner:
    """A Core AI program; every call runs in a process of its own.

    Attributes:
        describe: what runs it, in words.
    """

    def __init__(self, model: Path, version: str):
        self._model = model
        self._facts: Mapping[str, Any] | None = None
        self.describe = f"Apple's Core AI runtime (coreai-core {version})"

    @property
    def facts(self) -> Mapping[str, Any]:
        """Names, dtypes and shapes of inputs and outputs, and every operator that multiplies.

        Raises:
            ToolchainError: the runtime refused the model, crashed, or did not end in time.
        """
        if self._facts is None:
            with WorkFolder("coreai") as folder:
                self._facts = self._ask("describe", Path(folder))
        return self._facts

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run on flat inputs in the model's order, a batch sample by sample.

        Raises:
            InputError: they do not fit the model.
            ToolchainError: the runtime refused the model, crashed, or did not end in time.
        """
        with WorkFolder("coreai") as folder:
            work = Path(folder)
            files = save_arrays(work, {f"input_{i}": np.asarray(x) for i, x in enumerate(inputs)})
            facts = self._ask("run", work, inputs=list(files.values()))
            self._facts = facts
            return load_arrays(work, facts["answers"])

    def kernels(self) -> list[Kernel]:
        """Every operator that multiplies; asked for in integers is what stands between dequantize and quantize."""
        return [
            Kernel(
                p["name"], p["op"], p["why"] or "between dequantize and quantize", not p["why"], planned=True
            )
            for p in self.facts["products"]
        ]

    def _ask(self, action: str, work: Path, **request: Any) -> dict[str, Any]:
        request["model"] = str(self._model.resolve())
        return ask(action, work, request, about=str(self._model))
