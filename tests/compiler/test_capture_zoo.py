"""Capture: the fourteen models of the zoo against eager PyTorch at batch 1 and 2."""

import pytest
import torch

from fxc.compiler.capture import capture
from tests.models.images import images
from tests.models.zoo import NAMES, build


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_graph_equals_the_model(name: str) -> None:
    model, example = build(name)
    program = capture(model, example)
    assert program.inputs[0].shape == ("batch", 3, 224, 224)
    assert not [note.text for note in program.notes if note.kind == "warning"]
    for batch in (1, 2):
        x = images(batch, 224, seed=batch)
        with torch.no_grad():
            expected = model(x)
        assert float(expected.abs().max()) > 1e-3
        torch.testing.assert_close(program(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert dict(program.module().named_parameters()).keys() == dict(model.named_parameters()).keys()
