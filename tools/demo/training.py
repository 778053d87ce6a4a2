"""A small residual network for handwritten digits, and how it is trained: seeded, on two cores, in seconds per fold.

The data are the 1,797 8x8 digits that ship inside scikit-learn ("Optical recognition of handwritten digits", UCI).
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn
from torch.nn import functional as F

from fxc.compiler.scratch import WorkFolder

_BATCH = 64
_PEAK_RATE = 0.08
_WEIGHT_DECAY = 1e-3
_SMOOTHING = 0.1


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., "Deep Residual Learning", 2015)."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            projection = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class DigitsNet(nn.Module):
    """``[n, 1, 8, 8]`` grey images in [0, 1] to ``[n, 10]`` logits.

    Wide and shallow: heavy enough for one image to take milliseconds in float, light enough to train five times.
    """

    def __init__(self, widths: tuple[int, ...] = (128, 320, 640), blocks: tuple[int, ...] = (1, 2, 2)):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        layers, channels = [], widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks)):
            for index in range(count):
                layers.append(Block(channels, width, 2 if stage and not index else 1))
                channels = width
        self.layers = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.pool(self.layers(self.stem(image))).flatten(1))


@dataclass(frozen=True)
class Fold:
    """One split: ``[n, 1, 8, 8]`` float32 images in [0, 1] and ``[n]`` int64 labels, to train on and held out."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def folds(count: int = 5) -> list[Fold]:
    """Stratified folds over all 1,797 digits; every digit is held out exactly once."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().div(16).unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    splitter = StratifiedKFold(count, shuffle=True, random_state=0)
    return [
        Fold(images[train], labels[train], images[test], labels[test])
        for train, test in splitter.split(images, labels)
    ]


def train_all(count: int, *, epochs: int, workers: int) -> Iterator[tuple[DigitsNet, float]]:
    """Networks for the first ``count`` folds, in order, each with the seconds it took; one process and one thread per worker.

    Two processes with a thread each beat one process with two threads: nothing waits for its other half. The seed is
    the fold's number, so the weights do not depend on ``workers``.
    """
    spawn = multiprocessing.get_context("spawn")
    with (
        WorkFolder("demo") as folder,
        ProcessPoolExecutor(workers, mp_context=spawn) as pool,
    ):
        files = [Path(folder) / f"{number}.safetensors" for number in range(count)]
        jobs = [pool.submit(_train_to, file, number, epochs) for number, file in enumerate(files)]
        for file, job in zip(files, jobs):
            seconds = job.result()
            model = DigitsNet()
            model.load_state_dict(load_file(file))
            yield model.eval(), seconds


def _train_to(file: Path, number: int, epochs: int) -> float:
    torch.set_num_threads(1)
    start = time.perf_counter()
    model = train(folds()[number], epochs=epochs, seed=number)
    save_file(model.state_dict(), file)
    return time.perf_counter() - start


def train(fold: Fold, *, epochs: int, seed: int) -> DigitsNet:
    """A network trained on the fold's training part, in evaluation mode.

    Plain SGD with a one-cycle rate, label smoothing and small random affine distortions; in bfloat16 where the
    processor multiplies it natively, which halves the time.
    """
    torch.manual_seed(seed)
    model = DigitsNet().train()
    steps = epochs * math.ceil(len(fold.train_images) / _BATCH)
    optimizer = torch.optim.SGD(
        model.parameters(), _PEAK_RATE, momentum=0.9, nesterov=True, weight_decay=_WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total_steps=steps, pct_start=0.3)
    low_precision = native_bfloat16()
    for _ in range(epochs):
        for batch in torch.randperm(len(fold.train_images)).split(_BATCH):
            with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
                logits = model(distort(fold.train_images[batch]))
            loss = F.cross_entropy(logits.float(), fold.train_labels[batch], label_smoothing=_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def distort(images: Tensor) -> Tensor:
    """Each image rotated by up to 8 degrees, scaled by up to 8 % and shifted by up to half a pixel."""
    count = len(images)
    angle = torch.empty(count).uniform_(-0.14, 0.14)
    scale = torch.empty(count).uniform_(0.92, 1.08)
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(count, 2, 2)
    shift = torch.empty(count, 2, 1).uniform_(-0.125, 0.125)
    grid = F.affine_grid(
        torch.cat([rotation * scale.view(-1, 1, 1), shift], 2), list(images.shape), align_corners=False
    )
    return F.grid_sample(images, grid, align_corners=False)


def native_bfloat16() -> bool:
    """Whether this processor has bfloat16 dot products (AVX512-BF16 or AMX)."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
