"""``fxc.sparsify``: single weights to zero, as masks that hold while the model is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fxc import words
from fxc.catalogue import with_extensions
from fxc.compiler.extension import Extension
from fxc.compiler.pipeline import run_pipeline
from fxc.passes.pipelines import canonical
from fxc.passes.prune.permute import permuted_for
from fxc.passes.prune.sparsity import Pattern, Sparse, sparsified
from fxc.request import Request, captured


def sparsify(
    model: Any,
    pattern: float | str = "2:4",
    *,
    example_inputs: tuple[Any, ...] | Any | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    block: tuple[int, int] = (1, 1),
    criterion: str = "magnitude",
    permute: bool = True,
    protect: Sequence[str] = (),
    seed: int = 0,
    dynamic_batch: bool | None = None,
    name: str | None = None,
    trust: bool = False,
    extensions: Iterable[Extension] | Extension = (),
) -> Sparse:
    """Hide single weights of every convolution and linear layer.

        sparse = fxc.sparsify(model, "2:4", example_inputs=(x,))
        fine_tune(sparse.module())
        artifact = fxc.compile(sparse.finish(), "jetson-int8", calibration_data=loader)

    Args:
        model, example_inputs, example_kwargs, dynamic_batch, name, trust, extensions: as in :func:`fxc.compile`.
        pattern: ``"2:4"``, two of every four weights along the input channels stay; or a ratio in [0, 1) that goes.
        block: outputs and inputs that go together, with a ratio.
        criterion: ``magnitude`` or ``random``.
        permute: with n:m, first bring the channels into an order in which the pattern keeps more magnitude.
        protect: layer patterns that keep all.
        seed: of the random criterion and of the search for an order.

    Raises:
        UsageError: no such pattern, criterion or block.
        CaptureError: the model cannot be captured.
    """
    wanted = Pattern.parse(
        pattern,
        block=tuple(block) if isinstance(block, (tuple, list)) else block,
        criterion=criterion,
        seed=seed,
    )
    catalogue = with_extensions(extensions)
    request = Request(
        target=catalogue.target("cpu-fp32"), example_inputs=example_inputs,
        example_kwargs=example_kwargs, dynamic_batch=dynamic_batch, name=name, trust=trust, catalogue=catalogue,
    )  # fmt: skip
    program = run_pipeline(captured(model, request), canonical())
    if wanted.of and permute:
        program = permuted_for(program, wanted.keep, wanted.of, seed=seed, rules=catalogue.pruning)
    return sparsified(program, wanted, words.names("protect", protect))
