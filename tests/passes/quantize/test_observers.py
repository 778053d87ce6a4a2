"""Observers: exact where a formula exists, and each wins the case it was made for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fxc.compiler.quant import I8, U8, QuantSpec
from fxc.passes.quantize.observers import observe
from fxc.passes.quantize.qparams import qparams
from fxc.passes.quantize.statistics import BINS, Histogram, TensorStats


def stats_of(*batches: torch.Tensor) -> TensorStats:
    stats = TensorStats()
    for batch in batches:
        stats.update(batch, histogram=True)
    return stats


def coding_error(x: torch.Tensor, spec: QuantSpec) -> float:
    """Mean squared error of PyTorch's own fake quantization with the range that the observer found."""
    found = qparams(*observe(stats_of(x), spec), spec)
    coded = torch.fake_quantize_per_tensor_affine(x, found.scale, found.zero_point, spec.qmin, spec.qmax)
    return float(((coded - x) ** 2).mean())


def test_minmax_is_the_extremes_over_all_batches() -> None:
    stats = stats_of(torch.tensor([-1.0, 2.0]), torch.tensor([-3.0, 0.5]))
    assert observe(stats, U8) == (-3.0, 2.0)


def test_range_contains_zero() -> None:
    assert observe(stats_of(torch.tensor([3.0, 5.0])), U8) == (0.0, 5.0)
    assert observe(stats_of(torch.tensor([-3.0, -5.0])), U8) == (-5.0, 0.0)


def test_moving_average_follows_the_definition() -> None:
    batches = [torch.tensor([0.0, v]) for v in (1.0, 3.0, 2.0)]
    average = 1.0
    for value in (3.0, 2.0):
        average = 0.9 * average + 0.1 * value
    low, high = observe(stats_of(*batches), U8.but(observer="moving_average"))
    assert low == 0.0
    assert high == pytest.approx(average, abs=1e-6)


@pytest.mark.parametrize("percentile", [99.0, 99.9])
def test_percentile_agrees_with_numpy(percentile: float) -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(200_000)).float()
    low, high = observe(stats_of(x), U8.but(observer="percentile", percentile=percentile))
    bin_width = 2 * 8.0 / BINS
    assert low == pytest.approx(np.percentile(x.numpy(), 100 - percentile), abs=2 * bin_width)
    assert high == pytest.approx(np.percentile(x.numpy(), percentile), abs=2 * bin_width)


def test_percentile_of_one_sided_data_keeps_zero() -> None:
    x = torch.relu(torch.randn(10_000, generator=torch.Generator().manual_seed(0)))
    low, high = observe(stats_of(x), U8.but(observer="percentile", percentile=99.0))
    assert low == 0.0
    assert high < float(x.max())


@pytest.mark.parametrize("spec", [U8, I8], ids=["u8", "i8"])
def test_mse_beats_minmax_where_one_value_in_a_thousand_is_an_outlier(spec: QuantSpec) -> None:
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    x[::1000] *= 8
    assert coding_error(x, spec.but(observer="mse")) < 0.85 * coding_error(x, spec)


def test_mse_never_loses_to_minmax_on_uniform_data() -> None:
    x = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    assert coding_error(x, U8.but(observer="mse")) <= 1.02 * coding_error(x, U8)


def test_mse_is_near_the_best_of_an_exhaustive_search() -> None:
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(1)) ** 3
    best = min(
        float(((torch.fake_quantize_per_tensor_affine(x, s / 127, 0, -128, 127) - x) ** 2).mean())
        for s in np.linspace(0.02, 1.0, 300) * float(x.abs().max())
    )
    assert coding_error(x, I8.but(observer="mse")) <= 1.05 * best


def test_entropy_clips_a_far_outlier_and_ignores_the_spike_at_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.relu(torch.randn(200_000, generator=generator))
    x[0] = 60.0
    _, high = observe(stats_of(x), U8.but(observer="entropy"))
    assert 2.0 < high < 30.0
    assert coding_error(x[1:], U8.but(observer="entropy")) < coding_error(x, U8)


def test_histogram_growth_loses_no_count_and_moves_none() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(5000, generator=generator) * s for s in (0.1, 1.0, 10.0)]
    grown = Histogram.of(parts[0], float(parts[0].abs().max()))
    for part in parts[1:]:
        grown.add(part, float(part.abs().max()))
    x = torch.cat(parts).numpy()
    edges = np.linspace(-grown.limit, grown.limit, BINS + 1)
    want, _ = np.histogram(x, bins=edges)
    assert grown.counts.sum() == x.size
    assert (
        np.abs(np.cumsum(grown.counts) - np.cumsum(want)).max() <= 5
    )  # values on a bin's edge may round either way


def test_histogram_memory_is_constant() -> None:
    histogram = Histogram.of(torch.ones(10), 1.0)
    for k in range(20):
        histogram.add(torch.full((10,), 2.0**k), 2.0**k)
    assert histogram.counts.size == BINS


def test_merging_histograms_equals_one_histogram() -> None:
    a, b = torch.linspace(-1, 1, 999), torch.linspace(-7, 7, 1001)
    merged = Histogram.of(a, 1.0).merged(Histogram.of(b, 7.0))
    assert merged.counts.sum() + merged.zeros == 2000
    assert merged.limit >= 7.0


def test_search_uses_the_spec_that_the_tensor_gets() -> None:
    x = torch.nn.functional.gelu(3 * torch.randn(50_000, generator=torch.Generator().manual_seed(0)))
    affine = observe(stats_of(x), U8.but(observer="mse"))
    symmetric = observe(stats_of(x), I8.but(observer="mse"))
    assert affine[0] > -0.5
    assert affine != symmetric
