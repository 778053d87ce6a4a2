"""Seeded image-like inputs: smooth shading, sharp edges and sensor noise, so that convolutions see correlated pixels."""

import torch
import torch.nn.functional as F


def images(
    n: int, resolution: int, seed: int = 0, *, channels: int = 3, heavy_tailed: bool = False
) -> torch.Tensor:
    """`n` float32 images [n, channels, resolution, resolution], each of mean 0 and standard deviation 1.

    Image `i` depends on `(seed, i)` alone, so `images(2, …)` are the first two of `images(8, …)`.
    `heavy_tailed` gives each image a few large outliers (kurtosis in the hundreds) instead of a bounded range.
    """
    return torch.stack([_image(resolution, channels, seed * 100_003 + i, heavy_tailed) for i in range(n)])


def _image(resolution: int, channels: int, seed: int, heavy_tailed: bool) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    image = _shading(resolution, channels, rng) + _edges(resolution, channels, rng)
    image = image + 0.15 * torch.randn(channels, resolution, resolution, generator=rng)
    image = _normalised(image)
    return _normalised(_with_outliers(image, rng)) if heavy_tailed else image


def _normalised(image: torch.Tensor) -> torch.Tensor:
    return (image - image.mean()) / image.std(correction=0)


def _shading(resolution: int, channels: int, rng: torch.Generator) -> torch.Tensor:
    """Coarse random grids, enlarged: amplitude falls with frequency, as in photographs."""
    total = torch.zeros(channels, resolution, resolution)
    for cells in (2, 4, 8, 16):
        coarse = torch.randn(1, channels, cells, cells, generator=rng)
        size = (resolution, resolution)
        total += F.interpolate(coarse, size, mode="bilinear", align_corners=False)[0] * (2.0 / cells)
    return total


def _edges(resolution: int, channels: int, rng: torch.Generator, count: int = 6) -> torch.Tensor:
    """Half planes and discs, each adding its own colour."""
    axis = torch.linspace(-1, 1, resolution)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    total = torch.zeros(channels, resolution, resolution)
    for index in range(count):
        cx, cy, angle, size = torch.rand(4, generator=rng).tolist()
        dx, dy = x - (2 * cx - 1), y - (2 * cy - 1)
        tilt = torch.tensor(6.2832 * angle)
        inside = (
            dx * tilt.cos() + dy * tilt.sin() > 0 if index % 2 else dx**2 + dy**2 < (0.1 + 0.6 * size) ** 2
        )
        total += inside * 0.7 * torch.randn(channels, 1, 1, generator=rng)
    return total


def _with_outliers(image: torch.Tensor, rng: torch.Generator, share: float = 0.001) -> torch.Tensor:
    """One value in a thousand, and at least one, becomes 10 to 40 times as large as its neighbours."""
    flat = image.flatten().clone()
    count = max(1, round(share * flat.numel()))
    where = torch.randperm(flat.numel(), generator=rng)[:count]
    flat[where] = (10 + 30 * torch.rand(count, generator=rng)) * torch.randn(count, generator=rng).sign()
    return flat.view_as(image)
