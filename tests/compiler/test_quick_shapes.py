"""Short cuts for shapes under symbolic sizes, against the reference implementations that PyTorch traces without them."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses import fake_impls
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from fxc.compiler.capture import capture
from fxc.compiler.capture import quick_shapes as module
from fxc.compiler.capture.quick_shapes import quick_shapes
from fxc.compiler.fakes import fresh, is_plain
from fxc.compiler.text import program_text
from tests.models.zoo import build

LAYOUTS = {
    "contiguous": torch.zeros(4, 6, 5, 7),
    "channels_last": torch.zeros(4, 6, 5, 7).contiguous(memory_format=torch.channels_last),
    "transposed": torch.zeros(4, 6, 7, 5).transpose(2, 3),
    "expanded": torch.zeros(4, 6, 1, 7).expand(4, 6, 5, 7),
    "strided": torch.zeros(4, 6, 5, 14)[..., ::2],
    "flat": torch.zeros(4, 6),
    "half": torch.zeros(4, 6, 5, dtype=torch.bfloat16),
    "integers": torch.zeros(4, 6, 5, dtype=torch.int32),
}
OPERATORS = (*module._SAME, *module._IN_PLACE, module._NORM)


def _fake(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    dynamic = [DimDynamic.DYNAMIC] + [DimDynamic.STATIC] * (tensor.dim() - 1)
    return mode.from_tensor(tensor, symbolic_context=StatelessSymbolicContext(dynamic_sizes=dynamic))


def _arguments(mode: FakeTensorMode, operator: Any, tensor: Tensor) -> tuple[Any, ...]:
    x = _fake(mode, tensor)
    if operator is not module._NORM:
        return (x,)
    channels = [mode.from_tensor(torch.ones(6), static_shapes=True) for _ in range(4)]
    return (x, *channels, 0.1, 1e-5)


def _facts(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_facts(v) for v in value]
    sizes = [str(s.node.expr) if isinstance(s, torch.SymInt) else s for s in (*value.shape, *value.stride())]
    return type(value).__name__, sizes, value.dtype, value.device


def _result(operator: Any, tensor: Tensor, *, quick: bool) -> Any:
    mode = FakeTensorMode(shape_env=ShapeEnv())
    args = _arguments(mode, operator, tensor)
    with quick_shapes() if quick else nullcontext(), mode, enable_python_dispatcher():
        try:
            return _facts(operator(*args)), len(mode.shape_env.guards)  # type: ignore[union-attr]
        except (RuntimeError, ValueError) as error:
            return type(error).__name__


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_same_as_the_decomposition(operator: Any, layout: str) -> None:
    assert _result(operator, LAYOUTS[layout], quick=True) == _result(operator, LAYOUTS[layout], quick=False)


def test_every_operator_is_taken_up() -> None:
    with quick_shapes():
        assert set(OPERATORS) <= set(fake_impls.get_fast_op_impls())


def test_the_long_way_is_not_gone() -> None:
    """A contiguous tensor takes the short cut, another one does not."""
    went: list[str] = []

    def decomposition(*args: Any) -> Iterator[Any]:
        went.append("long")
        return args[0]

    fake = module._or_decomposed(module._like_first, decomposition)
    mode = FakeTensorMode(shape_env=ShapeEnv())
    fake(mode, _fake(mode, LAYOUTS["contiguous"]))
    assert went == []
    fake(mode, _fake(mode, LAYOUTS["strided"]))
    assert went == ["long"]


def test_a_norm_of_the_wrong_size_is_refused_as_ever() -> None:
    mode = FakeTensorMode(shape_env=ShapeEnv())
    x, *_ = _arguments(mode, module._NORM, LAYOUTS["contiguous"])
    wrong = [mode.from_tensor(torch.ones(5), static_shapes=True) for _ in range(4)]
    assert module._norm(mode, x, *wrong, 0.1, 1e-5) is None


def test_the_table_comes_back() -> None:
    before = dict(fake_impls.get_fast_op_impls())
    with quick_shapes():
        assert fake_impls.get_fast_op_impls() != before
    assert fake_impls.get_fast_op_impls() == before


def test_a_pytorch_without_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = build("mobilenet_v3_small", resolution=64, livened=False)
    quick = program_text(capture(model, (x,)))
    monkeypatch.setattr(module, "_table", lambda: None)
    assert program_text(capture(model, (x,))) == quick


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fresh_is_what_empty_like_gives(layout: str) -> None:
    mode = FakeTensorMode(shape_env=ShapeEnv())
    x = _fake(mode, LAYOUTS[layout])
    assert is_plain(x) == LAYOUTS[layout].is_contiguous()
    assert not is_plain(LAYOUTS[layout])
    if is_plain(x):
        with mode:
            wanted = torch.empty_like(x, dtype=torch.uint8)
        assert _facts(fresh(mode, x.shape, torch.uint8)) == _facts(wanted)
