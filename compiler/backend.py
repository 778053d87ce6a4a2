"""What a backend room offers: the words every ``backends/<room>`` shares.

A room has ``target.py`` (targets as data), ``legal.py`` (``check``), ``passes.py`` (``pipeline``), ``emit.py``
(``emit``) and ``run.py`` (``load``). This module holds the types that cross the border; it is torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fxc.compiler.extension import EMPTY, Functions

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Violation:
    """One thing the target cannot take.

    Attributes:
        layer: the model's name for the place.
        source: the model's own line, if known.
        rule: what the target requires, with its source.
        fix: the way out.
        fatal: ``False`` if the compile can go on (the part runs in float, or slower).
    """

    layer: str
    source: str | None
    rule: str
    fix: str
    fatal: bool = True


@dataclass(frozen=True)
class Emitted:
    """What an emitter wrote.

    Attributes:
        model: path of the main model file, relative to the directory it was asked to write into.
        files: every file written, relative, the main one included.
        inputs, outputs: tensor names in the file, in the program's flat order.
        tools: versions of the packages that took part.
        tensors: label of a program node to the name of its tensor in the file, for layer-by-layer checks.
        notes: sentences for the report.
        variants: further model files with the same inputs and outputs, for other versions of the toolchain: each is run too.
        varies: files whose bytes differ between two runs, because a vendor's writer is not deterministic.
    """

    model: str
    files: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tools: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    varies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kernel:
    """One kernel that the runtime will execute.

    Attributes:
        layer: name of the tensor or node in the file it came from.
        op: the runtime's operator type.
        implementation: the runtime's own words for the kernel (``"brgconv_avx512_I8"``).
        integer: whether its multiply-accumulates run on integers.
        planned: whether that is what the file asks for, because nothing on this host tells what the chip will do.
    """

    layer: str
    op: str
    implementation: str
    integer: bool
    planned: bool = False


class Runner(Protocol):
    """A loaded model file, ready to execute on this host.

    Attributes:
        describe: the runtime, its version and its precision hint, in words: printed beside every timing.
    """

    describe: str

    def __call__(self, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """Run on flat inputs in the file's order; outputs in the file's order."""
        ...

    def kernels(self) -> list[Kernel]:
        """Every conv, linear and matmul kernel of the compiled model."""
        ...


class Room(Protocol):
    """What the modules of a room offer: ``legal.check``, ``passes.pipeline``, ``emit.emit`` and ``run.load``.

    ``lowerings`` are the functions of extensions, operator overload to function (see :mod:`fxc.compiler.extension`). A
    room that emits by ONNX adds them to its table; another may leave them.
    """

    def check(self, program: Any, target: Any, *, lowerings: Functions = EMPTY) -> list[Violation]:
        """Everything in ``program`` that ``target`` cannot take."""
        ...

    def pipeline(self, target: Any) -> tuple[Any, ...]:
        """Target-specific passes, run before annotation."""
        ...

    def emit(self, program: Any, target: Any, directory: Path, *, lowerings: Functions = EMPTY) -> Emitted:
        """Write the model file(s) into ``directory``."""
        ...

    def load(
        self, model: Path, target: Any, *, precision: str | None = None, threads: int | None = None
    ) -> Runner:
        """Load an emitted file; ``precision`` overrides the runtime's inference precision (``"f32"`` for proofs)."""
        ...
