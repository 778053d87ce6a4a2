"""Values inside a program: recorded in one run, compared between two programs, kept to reproduce a failure."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from fxc.compiler.execute import steps
from fxc.compiler.origin import where
from fxc.compiler.program import Program


def record(program: Program, names: Iterable[str], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Values of the named nodes in one run; names that the graph does not have are left out."""
    wanted = frozenset(names)
    return {node.name: value for node, value in steps(program, inputs) if node.name in wanted}


def first_divergence(
    before: Program, after: Program, inputs: tuple[Tensor, ...], differs: Callable[[Tensor, Tensor], bool]
) -> str | None:
    """Layer and source line of the first node, in the order of execution, whose value differs in the two programs.

    Only nodes that both programs have, by name, are compared; if all of those agree it is the first new node.
    """
    names = {n.name for n in before.graph.nodes if n.op == "call_function"}
    want, got = record(before, names, inputs), record(after, names, inputs)
    for node in after.graph.nodes:
        a, b = want.get(node.name), got.get(node.name)
        if isinstance(a, Tensor) and isinstance(b, Tensor) and differs(a, b):
            return where(node)
    return next(
        (where(n) for n in after.graph.nodes if n.op == "call_function" and n.name not in names), None
    )


def save_reproducer(before: Program, pass_text: str, inputs: tuple[Tensor, ...]) -> Path:
    """Keep what is needed to run a failing pass again: the program before it, its text form and the inputs.

    Returns:
        A new folder with ``program/`` (see :mod:`fxc.compiler.serialize`), ``pass.txt`` and ``inputs.safetensors``.
    """
    from fxc.compiler.serialize import save_program

    folder = Path(tempfile.mkdtemp(prefix="fxc-reproducer-"))
    save_program(before, folder / "program")
    (folder / "pass.txt").write_text(pass_text + "\n", encoding="utf-8")
    save_file({str(i): x.contiguous() for i, x in enumerate(inputs)}, folder / "inputs.safetensors")
    return folder
