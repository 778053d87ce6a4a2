"""Capture: where the model and its example inputs come from."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, export

from fxc.compiler.capture import capture
from fxc.compiler.errors import CaptureError, InputError
from fxc.compiler.origin import label_of, op_name
from fxc.compiler.program import Program
from tests.models.small import build_small, small_inputs


def said(program: Program) -> str:
    return " | ".join(note.text for note in program.notes)


def labels(program: Program) -> list[str]:
    return [label_of(n) for n in program.graph.nodes if n.op == "call_function"]


def test_an_image_is_guessed_from_the_first_conv() -> None:
    model = nn.Sequential(nn.Conv2d(5, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    program = capture(model)
    assert program.inputs[0].shape == ("batch", 5, 224, 224)
    assert "guessed: [1, 5, 224, 224] from the first Conv2d (0)" in said(program)


def test_the_size_is_read_from_the_model() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())
    model.image_size = 12
    assert capture(model).inputs[0].shape == ("batch", 1, 12, 12)


def test_a_vector_is_guessed_from_the_first_linear() -> None:
    program = capture(nn.Sequential(nn.Linear(7, 2), nn.ReLU()))
    assert program.inputs[0].shape == ("batch", 7)
    assert "first Linear" in said(program)


def test_the_models_own_example() -> None:
    model = nn.Linear(3, 2)
    model.example_input_array = torch.full((2, 3), 0.5)
    program = capture(model)
    assert torch.equal(program.example_inputs[0], model.example_input_array)
    assert "example_input_array" in said(program)


def test_inputs_by_name() -> None:
    model, (image, vector) = build_small("multi_io")
    program = capture(model, {"vector": vector, "image": image})
    torch.testing.assert_close(
        program(image=image, vector=vector)["features"], model(image, vector)["features"]
    )
    with pytest.raises(InputError):
        program(image, vector)


def test_a_graph_module_keeps_its_names() -> None:
    model, inputs = build_small("residual")
    program = capture(fx.symbolic_trace(model), inputs)
    assert labels(program) == labels(capture(model, inputs))
    torch.testing.assert_close(program(*inputs), model(*inputs).detach())


@pytest.mark.parametrize("decomposed", [False, True])
def test_an_exported_program_with_its_own_shapes(decomposed: bool) -> None:
    model, inputs = build_small("depthwise_relu6")
    exported = export(model, inputs, dynamic_shapes=({0: Dim("n")},))
    program = capture(exported.run_decompositions({}) if decomposed else exported)
    assert program.inputs[0].shape == ("batch", 3, 32, 32)
    assert sum(op_name(n) == "batch_norm" for n in program.graph.nodes) == 4
    assert torch.equal(program.example_inputs[0], inputs[0])
    x = small_inputs("depthwise_relu6", 5, seed=3)
    torch.testing.assert_close(program(*x), model(*x).detach())


def test_an_export_with_two_dynamic_axes() -> None:
    model = nn.Conv2d(3, 4, 3, padding=1)
    shapes = ({0: Dim("n"), 2: Dim("h", min=4), 3: Dim("w", min=4)},)
    program = capture(export(model, (torch.randn(2, 3, 8, 9),), dynamic_shapes=shapes))
    n, c, h, w = program.inputs[0].shape
    assert (n, c, program.outputs[0].shape) == ("batch", 3, ("batch", 4, h, w))
    assert len({n, h, w}) == 3
    x = torch.randn(1, 3, 6, 12)
    torch.testing.assert_close(program(x), model(x).detach())


def test_an_export_in_training_mode_becomes_inference() -> None:
    model, inputs = build_small("residual")
    model.append = None
    program = capture(export(model.train(), inputs))
    assert "training mode" in said(program)
    torch.testing.assert_close(program(*inputs), model.eval()(*inputs).detach())


def test_an_export_with_fixed_shapes_stays_so() -> None:
    exported = export(nn.ReLU(), (torch.randn(2, 3),))
    assert capture(exported).inputs[0].shape == (2, 3)
    with pytest.raises(CaptureError, match="fixed shapes"):
        capture(exported, dynamic_batch=True)


def test_a_saved_export(tmp_path: Path) -> None:
    class Writes(nn.Module):
        """Aliases that a deserialised graph knows from the schemas alone."""

        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            y.view(-1).relu_()
            mask = x.new_zeros(3)
            mask[1:] = 1
            return y + mask

    path = tmp_path / "model.pt2"
    torch.export.save(export(Writes(), (torch.randn(2, 3),), dynamic_shapes=({0: Dim("n")},)), path)
    program = capture(path)
    x = torch.randn(4, 3)
    torch.testing.assert_close(program(x), Writes()(x))


def test_a_program_passes_through() -> None:
    model, inputs = build_small("conv_chain")
    program = capture(model, inputs)
    assert capture(program) is program
    assert capture(program, outputs=["head"]).outputs[0].name == "head"
