"""From a model argument to a model: where its weights and its example input come from."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fxc.compiler.errors import ArtifactError, UsageError
from fxc.tools.cli.models import load_model
from fxc.tools.cli.modelspec import ShapeSpec, parse_model

SOURCE = """
import torch
from torch import nn

model = nn.Linear(4, 2)
def make():
    return nn.Conv2d(3, 4, 3)
def with_example():
    return nn.Linear(5, 2), (torch.ones(3, 5),)
class Net(nn.Module):
    example_input_array = torch.arange(4.0)[None]
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout()
    def forward(self, x):
        return self.drop(x)
def broken():
    raise ValueError("no such checkpoint")
def wrong():
    return 3
number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(SOURCE)
    return tmp_path / "nets.py"


def test_random_weights_are_said_and_are_the_same_in_every_run() -> None:
    spec = parse_model("torchvision:squeezenet1_1")
    first, second = load_model(spec), load_model(spec, weights="none")
    assert "random weights" in first.warnings[0]
    assert not first.model.training
    assert first.args is not None
    assert first.args[0].shape == (1, 3, 224, 224)
    states = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_loading_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load_model(parse_model("torchvision:squeezenet1_1"))
    assert torch.equal(torch.rand(3), expected)


def test_the_example_has_the_size_that_the_weights_were_made_for() -> None:
    args = load_model(parse_model("torchvision:mobilenet_v2"), shapes=[ShapeSpec(None, (2, 3, 64, 64))]).args
    assert args is not None
    assert args[0].shape == (2, 3, 64, 64)
    args = load_model(parse_model("torchvision:mobilenet_v2"), batch=3).args
    assert args is not None
    assert args[0].shape == (3, 3, 224, 224)


def test_names_that_torchvision_does_not_have() -> None:
    with pytest.raises(UsageError) as caught:
        load_model(parse_model("torchvision:resnt18"))
    assert "resnet18" in str(caught.value)
    with pytest.raises(UsageError) as caught:
        load_model(parse_model("torchvision:resnet18"), weights="IMAGENET")
    assert "IMAGENET1K_V1" in str(caught.value)


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    with pytest.raises(ArtifactError, match="could not be loaded") as caught:
        load_model(parse_model("torchvision:squeezenet1_1"), weights="DEFAULT")
    assert "squeezenet1_1-b8a52dc0.pth" in str(caught.value)
    assert "no network here" in str(caught.value)


def _no_network(*_: object, **__: object) -> None:
    raise OSError("no network here")


def test_fetched_weights_bring_their_preprocessing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A state dict put where torch.hub keeps its downloads is used without a network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    random = load_model(parse_model("torchvision:squeezenet1_1")).model
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    state = {name: value + 1 for name, value in random.state_dict().items()}
    torch.save(state, tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    loaded = load_model(parse_model("torchvision:squeezenet1_1"), weights="DEFAULT")
    assert all(torch.equal(value, state[name]) for name, value in loaded.model.state_dict().items())
    assert loaded.preprocessing is not None
    assert loaded.preprocessing.crop == (224, 224)
    assert len(loaded.categories) == 1000
    assert loaded.warnings == ()


def test_weights_from_a_file(file: Path, tmp_path: Path) -> None:
    state = nn.Linear(4, 2).state_dict()
    torch.save(state, tmp_path / "w.pt")
    loaded = load_model(parse_model(f"{file}:model"), weights=str(tmp_path / "w.pt"))
    assert torch.equal(loaded.model.weight, state["weight"])
    with pytest.raises(ArtifactError, match="do not fit"):
        load_model(parse_model(f"{file}:make"), weights=str(tmp_path / "w.pt"))
    save_file(state, tmp_path / "w.safetensors")
    loaded = load_model(parse_model(f"{file}:model"), weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(loaded.model.bias, state["bias"])
    torch.save([1, 2], tmp_path / "n.pt")
    (tmp_path / "n.safetensors").write_bytes(b"nothing")
    for name in ("n.pt", "n.safetensors", "gone.pt", "gone.safetensors"):
        with pytest.raises(ArtifactError, match=name):
            load_model(parse_model(f"{file}:model"), weights=str(tmp_path / name))


def test_a_module_a_factory_a_class_and_a_pair(file: Path) -> None:
    assert isinstance(load_model(parse_model(f"{file}:model")).model, nn.Linear)
    assert isinstance(load_model(parse_model(f"{file}:make")).model, nn.Conv2d)
    net = load_model(parse_model(f"{file}:Net"), batch=2)
    assert not net.model.training
    assert net.args is not None
    assert torch.equal(net.args[0], torch.arange(4.0).expand(2, 4))
    pair = load_model(parse_model(f"{file}:with_example"))
    assert pair.args is not None
    assert pair.args[0].shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "ValueError: no such checkpoint"),
        ("wrong", "gives a int"),
        ("number", "not a model or a factory"),
        ("absent", "it defines"),
    ],
)
def test_factories_that_fail(file: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_model(parse_model(f"{file}:{name}"))
    assert message in str(caught.value)


def test_words_that_do_not_go_together(file: Path) -> None:
    with pytest.raises(UsageError, match="not from torchvision"):
        load_model(parse_model(f"{file}:make"), weights="DEFAULT")
    with pytest.raises(UsageError, match="--batch needs the shape"):
        load_model(parse_model(f"{file}:make"), batch=2)


def test_example_values_by_dtype(file: Path) -> None:
    shapes = [ShapeSpec("ids", (2, 4), "int64"), ShapeSpec("x", (2, 3), "float16")]
    loaded = load_model(parse_model(f"{file}:make"), shapes=shapes)
    assert loaded.kwargs["ids"].dtype == torch.int64
    assert not loaded.kwargs["ids"].any()
    assert loaded.kwargs["x"].dtype == torch.float16
