"""Half the work of the demo's net: pruned, trained for two epochs, compiled to int8, and timed beside the whole one.

``python -m fxc.tools.demo.prune``: the digits of one fold that no model has seen, in one process.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxc
from fxc.tools.demo.measure import latency
from fxc.tools.demo.training import Fold, distort, folds, train

_BATCH, _RATE, _SMOOTHING = 64, 0.02, 0.1


@dataclass(frozen=True)
class Recovery:
    """Top-1 in percent on held-out digits, multiply-accumulates, and milliseconds for one image in int8.

    Attributes:
        whole, pruned, trained: of the float model, right after pruning, and after fine-tuning.
        int8: of the fine-tuned model's int8 file; ``whole_int8`` of the whole one's.
        macs: before and after.
        milliseconds: of the whole int8 file and of the pruned one; ``ratio``, the median of interleaved rounds.
    """

    whole: float
    pruned: float
    trained: float
    whole_int8: float
    int8: float
    macs: tuple[int, int]
    milliseconds: tuple[float, float]
    ratio: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="of the whole model")
    parser.add_argument("--macs", type=float, default=0.5, help="share that may be left")
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args(arguments)
    fold = folds()[0]
    model = train(fold, epochs=options.epochs, seed=0)
    print(json.dumps(asdict(recovery(model, fold, options.macs, options.rounds)), indent=1))


def recovery(model: nn.Module, fold: Fold, macs: float, rounds: int) -> Recovery:
    """Prune ``model`` to a share of its multiply-accumulates, fine-tune two epochs, compile both."""
    example = fold.test_images[:1]
    pruned = fxc.prune(
        model, example_inputs=(example,), macs=macs, align=16, ranking="global",
        calibration_data=fold.train_images.split(_BATCH),
    )  # fmt: skip
    after = top1(pruned.module(), fold)
    fine_tune(pruned.module(), fold, epochs=2)
    data = fold.train_images[:128].split(32)
    files = [
        fxc.compile(m, "cpu-int8", example_inputs=(example,), calibration_data=data) for m in (model, pruned)
    ]
    timed = latency(files[1], files[0], "f32", torch.get_num_threads(), rounds)
    return Recovery(
        whole=top1(model, fold),
        pruned=after,
        trained=top1(pruned.module(), fold),
        whole_int8=share(files[0](fold.test_images), fold),
        int8=share(files[1](fold.test_images), fold),
        macs=tuple(pruned.report["macs"]),
        milliseconds=(timed.float_ms, timed.compiled_ms),
        ratio=timed.ratio,
    )


def fine_tune(model: nn.Module, fold: Fold, epochs: int) -> None:
    """Train in place with a rate that falls to zero; batch norms learn too."""
    torch.manual_seed(1)
    steps = epochs * math.ceil(len(fold.train_images) / _BATCH)
    optimizer = torch.optim.SGD(model.parameters(), _RATE, momentum=0.9, nesterov=True, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(fold.train_images)).split(_BATCH):
            logits = model(distort(fold.train_images[batch]))
            loss = F.cross_entropy(logits, fold.train_labels[batch], label_smoothing=_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


def top1(model: nn.Module, fold: Fold) -> float:
    """Percent of the held-out digits that the model names right."""
    with torch.no_grad():
        return share(model.eval()(fold.test_images), fold)


def share(logits: Tensor, fold: Fold) -> float:
    """Percent of held-out digits that ``[n, 10]`` logits name right."""
    return 100 * float((logits.argmax(1) == fold.test_labels).double().mean())


if __name__ == "__main__":
    main()
