"""One corpus of small operator cases that every backend runs: a name, a module, and its inputs with batch 2."""

from collections.abc import Callable, Mapping

import torch

from tests.conformance.case import Case
from tests.conformance.layers import convolutions, norms, pools, products, resizing
from tests.conformance.operators import activations, elementwise, indexing, reductions, shapes

KINDS: Mapping[str, Callable[[], dict[str, Case]]] = {
    "conv": convolutions,
    "activation": activations,
    "elementwise": elementwise,
    "pool": pools,
    "shape": shapes,
    "index": indexing,
    "reduce": reductions,
    "norm": norms,
    "matmul": products,
    "resize": resizing,
}


def corpus() -> dict[str, Case]:
    """Every case, the same on every call; the global random state is left as it was."""
    cases: dict[str, Case] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for kind, make in KINDS.items():
            cases |= {f"{kind}/{name}": case for name, case in make().items()}
    return cases
