"""Pruning beside Torch-Pruning in one process: what is left of the multiply-accumulates, and processor time.

``python -m fxc.tools.bench.pruning resnet50 densenet121 …``. Both prune half of the channels of every layer; both are given a
traced model first where they need one, and that is not counted: their dependency graph and step, our structure, plan and cut.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

import fxc
from fxc.compiler.macs import macs
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.passes.pipelines import canonical
from fxc.passes.prune.prune_channels import PruneChannels

MODELS = (
    "resnet50", "densenet121", "efficientnet_b0", "mobilenet_v3_small", "regnet_y_400mf", "convnext_tiny",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What one model showed: the share of multiply-accumulates that is left, and seconds; ``None`` where it failed."""

    model: str
    ours: float
    ours_seconds: float
    theirs: float | None
    theirs_seconds: float | None
    reason: str = ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(
        "| model | MACs fxc | MACs Torch-Pruning | fxc s | Torch-Pruning s | ratio |\n|---|---|---|---|---|---|"
    )
    for name in options.models:
        print(
            line(row(name, torch.randn(1, 3, options.resolution, options.resolution), options.rounds)),
            flush=True,
        )


def row(name: str, x: Tensor, rounds: int) -> Row:
    """Measure one model, ours and theirs by turns."""
    model = _fresh(name)
    program = run_pipeline(fxc.capture(model, (x,)), canonical())
    ours, theirs, reason = [], [], ""
    for _ in range(rounds):
        ours.append(_timed(lambda: PruneChannels(ratio=0.5).apply(program).program))
        try:
            other = _fresh(name)
            theirs.append(_timed(partial(torch_pruning, other, x)))
        except Exception as error:  # noqa: BLE001  a peer's failure is a row, whatever it is
            reason = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
            break
    left = _macs(ours[0][1]) / _macs(program)
    peer = None if reason else _macs(fxc.capture(theirs[0][1], (x,))) / _macs(program)
    seconds = None if reason else median(t for t, _ in theirs)
    return Row(name, left, median(t for t, _ in ours), peer, seconds, reason)


def torch_pruning(model: nn.Module, x: Tensor) -> nn.Module:
    """The peer, as its README has it: magnitude, half of the channels, the classifier left alone."""
    import torch_pruning as tp

    last = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 1000]
    pruner = tp.pruner.MetaPruner(
        model, x, importance=tp.importance.GroupMagnitudeImportance(), pruning_ratio=0.5, ignored_layers=last
    )
    pruner.step()
    return model


def line(row: Row) -> str:
    """A row of the table."""
    theirs = row.reason if row.theirs is None else f"{row.theirs:.3f}"
    seconds = "" if row.theirs_seconds is None else f"{row.theirs_seconds:.2f}"
    ratio = "" if not row.theirs_seconds else f"{row.ours_seconds / row.theirs_seconds:.2f}"
    return f"| {row.model} | {row.ours:.3f} | {theirs} | {row.ours_seconds:.2f} | {seconds} | {ratio} |"


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def _fresh(name: str) -> nn.Module:
    torch.manual_seed(0)
    return get_model(name, weights=None).eval()


def _macs(program: Program) -> int:
    return sum(map(macs, run_pipeline(program, canonical()).graph.nodes))


if __name__ == "__main__":
    main()
