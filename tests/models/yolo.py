"""A hand-made one-stage detector in the style of YOLOv8-nano, plain torch, about 3 M parameters.

It carries what detectors bring to a compiler: chunk and concat (C2f), pooling pyramids (SPPF), nearest upsampling beside a
skip (PAN), decoupled heads, a distribution over 16 bins read out by a fixed 1x1 convolution (DFL, Li et al. 2020,
arXiv:2006.04388), and boxes in pixels concatenated with scores in 0…1.
"""

from collections.abc import Sequence

import torch
from torch import nn

STRIDES = (8, 16, 32)
BINS = 16


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, SiLU; the padding keeps the size at stride 1."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.cv1 = ConvBlock(channels, channels, 3)
        self.cv2 = ConvBlock(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C2f(nn.Module):
    """Split in two, run one half through a chain of bottlenecks, concatenate every stage of the chain."""

    def __init__(self, c_in: int, c_out: int, depth: int = 1, shortcut: bool = False) -> None:
        super().__init__()
        half = c_out // 2
        self.cv1 = ConvBlock(c_in, 2 * half)
        self.cv2 = ConvBlock((2 + depth) * half, c_out)
        self.m = nn.ModuleList(Bottleneck(half, shortcut) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class SPPF(nn.Module):
    """Three 5x5 max pools in a row, concatenated: windows of 5, 9 and 13."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.cv1 = ConvBlock(c_in, c_in // 2)
        self.cv2 = ConvBlock(c_in * 2, c_out)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.cv1(x)
        once = self.pool(x)
        twice = self.pool(once)
        return self.cv2(torch.cat([x, once, twice, self.pool(twice)], 1))


class Backbone(nn.Module):
    """Image to feature maps of 64, 128 and 256 channels at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvBlock(3, 16, 3, 2), ConvBlock(16, 32, 3, 2), C2f(32, 32, 1, True))
        self.p3 = nn.Sequential(ConvBlock(32, 64, 3, 2), C2f(64, 64, 2, True))
        self.p4 = nn.Sequential(ConvBlock(64, 128, 3, 2), C2f(128, 128, 2, True))
        self.p5 = nn.Sequential(ConvBlock(128, 256, 3, 2), C2f(256, 256, 1, True), SPPF(256, 256))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        return p3, p4, self.p5(p4)


class Neck(nn.Module):
    """Path aggregation: down the pyramid by upsampling, up again by strided convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.top4 = C2f(256 + 128, 128)
        self.top3 = C2f(128 + 64, 64)
        self.down3 = ConvBlock(64, 64, 3, 2)
        self.out4 = C2f(64 + 128, 128)
        self.down4 = ConvBlock(128, 128, 3, 2)
        self.out5 = C2f(128 + 256, 256)

    def forward(self, p3: torch.Tensor, p4: torch.Tensor, p5: torch.Tensor) -> list[torch.Tensor]:
        n4 = self.top4(torch.cat([self.up(p5), p4], 1))
        n3 = self.top3(torch.cat([self.up(n4), p3], 1))
        o4 = self.out4(torch.cat([self.down3(n3), n4], 1))
        return [n3, o4, self.out5(torch.cat([self.down4(o4), p5], 1))]


class DFL(nn.Module):
    """[B, 4·16, N] bin logits to [B, 4, N] expected bins, by softmax and a fixed 1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(BINS, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data.copy_(torch.arange(BINS, dtype=torch.float32).view(1, BINS, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bins = x.view(x.shape[0], 4, BINS, x.shape[2]).transpose(2, 1).softmax(1)
        return self.conv(bins).view(x.shape[0], 4, x.shape[2])


def _branch(c_in: int, c_mid: int, c_out: int, bias_mean: float, bias_std: float) -> nn.Sequential:
    """Steep last layers with spread biases: bins that peak at different places, scores from 0.01 to 0.99."""
    last = nn.Conv2d(c_mid, c_out, 1)
    nn.init.normal_(last.weight, std=0.2)
    assert last.bias is not None
    nn.init.normal_(last.bias, bias_mean, bias_std)
    return nn.Sequential(ConvBlock(c_in, c_mid, 3), ConvBlock(c_mid, c_mid, 3), last)


class Detect(nn.Module):
    """Decoupled heads: boxes (centre x, y, width, height in pixels) above scores, [B, 4 + classes, N]."""

    anchors: torch.Tensor
    strides: torch.Tensor

    def __init__(self, classes: int, resolution: int, widths: Sequence[int] = (64, 128, 256)) -> None:
        super().__init__()
        self.classes = classes
        self.box = nn.ModuleList(_branch(width, 64, 4 * BINS, 0.0, 1.0) for width in widths)
        self.score = nn.ModuleList(_branch(width, max(64, classes), classes, -1.0, 1.5) for width in widths)
        self.dfl = DFL()
        anchors, strides = _anchors(resolution)
        self.register_buffer("anchors", anchors)
        self.register_buffer("strides", strides)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        heads = [torch.cat([box(m), score(m)], 1) for box, score, m in zip(self.box, self.score, maps)]
        flat = torch.cat([h.view(h.shape[0], 4 * BINS + self.classes, -1) for h in heads], 2)
        box, score = flat.split((4 * BINS, self.classes), 1)
        left_top, right_bottom = self.dfl(box).chunk(2, 1)
        low, high = self.anchors - left_top, self.anchors + right_bottom
        pixels = torch.cat([(low + high) / 2, high - low], 1) * self.strides
        return torch.cat([pixels, score.sigmoid()], 1)


def _anchors(resolution: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cell centres [1, 2, N] in cells of their own level, and the stride [1, 1, N] of each."""
    points, strides = [], []
    for stride in STRIDES:
        side = resolution // stride
        axis = torch.arange(side, dtype=torch.float32) + 0.5
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        points.append(torch.stack([x, y]).view(2, -1))
        strides.append(torch.full((1, side * side), float(stride)))
    return torch.cat(points, 1).unsqueeze(0), torch.cat(strides, 1).unsqueeze(0)


class Yolo(nn.Module):
    """Images [B, 3, resolution, resolution] to [B, 4 + classes, N], N = Σ (resolution / stride)² over 8, 16, 32.

    Raises:
        ValueError: the resolution is no multiple of 32.
    """

    def __init__(self, resolution: int = 224, classes: int = 80) -> None:
        super().__init__()
        if resolution % 32:
            raise ValueError(f"the resolution must be a multiple of 32, not {resolution}")
        self.backbone = Backbone()
        self.neck = Neck()
        self.head = Detect(classes, resolution)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.neck(*self.backbone(x)))
