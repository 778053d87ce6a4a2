"""Program: input checks, cutting, and the trainable module against the original one."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fxc.compiler.capture import capture
from fxc.compiler.errors import InputError, UsageError
from fxc.compiler.program import Program
from tests.models.small import build_small, small_inputs


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        return self.head(self.drop(x.mean((2, 3))))


def step(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        torch.manual_seed(5)
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
    model.eval()
    return loss.detach()


def test_training_the_module_is_training_the_model() -> None:
    model = Net()
    twin = copy.deepcopy(model)
    module = capture(model.eval(), torch.randn(1, 3, 6, 6)).module()
    x, targets = torch.randn(8, 3, 6, 6), torch.randint(0, 4, (8,))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    torch.testing.assert_close(step(module, x, targets), step(twin, x, targets))
    after, expected = module.state_dict(), twin.state_dict()
    assert after.keys() == {k for k in expected if not k.endswith("num_batches_tracked")}
    for key, value in after.items():
        assert not torch.equal(value, before[key]), key
        torch.testing.assert_close(value, expected[key])
    torch.testing.assert_close(module(x), twin(x))


def test_train_and_eval_switch_dropout_and_batch_norm() -> None:
    module = capture(Net().eval(), torch.randn(1, 3, 6, 6)).module()
    x = torch.randn(4, 3, 6, 6)
    assert not module.training
    assert torch.equal(module(x), module(x))
    mean = module.bn.running_mean.clone()
    module.train()
    assert not torch.equal(module(x), module(x))
    assert not torch.equal(module.bn.running_mean, mean)
    module.eval()
    assert torch.equal(module(x), module(x))


def test_what_always_trains_still_does() -> None:
    """Batch statistics without running ones, and a dropout that inference keeps."""

    class Always(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm1d(4, track_running_stats=False)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(self.bn(x), 0.5, training=True)

    program = capture(Always(), torch.randn(4, 4))
    module = program.module()
    x = torch.randn(16, 4)
    for mode in (True, False):
        module.train(mode)
        assert not torch.equal(module(x), module(x))
        assert bool((module(x) == 0).any())


def test_a_copy_is_independent_and_the_program_is_shared() -> None:
    model = Net().eval()
    program = capture(model, torch.randn(1, 3, 6, 6))
    module = program.module()
    assert module.head.weight is model.head.weight
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.head.weight.zero_()
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(module(x), model(x))
    assert torch.equal(other(x), model.head.bias.expand(2, 4))
    assert other.state_dict().keys() == module.state_dict().keys()


def test_a_copy_follows_what_is_loaded_into_it() -> None:
    """Modules that hold constants, buffers and parameters; the copy's graph must read the copy's tensors."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)).eval()
    other = copy.deepcopy(capture(model, torch.randn(1, 3, 6, 6)).module())
    trained = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    trained(torch.randn(8, 3, 6, 6))
    other.load_state_dict(trained.state_dict(), strict=False, assign=True)
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(other(x), trained.eval()(x))


def test_constants_are_not_in_the_state_dict() -> None:
    class Offset(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.arange(3.0)

    module = capture(Offset(), torch.ones(1, 3)).module()
    for each in (module, copy.deepcopy(module)):
        assert not each.state_dict()
        assert torch.equal(each(torch.zeros(1, 3)), torch.arange(3.0)[None])


def test_a_state_dict_goes_both_ways() -> None:
    program = capture(Net().eval(), torch.randn(1, 3, 6, 6))
    trained = Net().eval()
    module = program.module()
    missing = module.load_state_dict(trained.state_dict(), strict=False)
    assert not missing.missing_keys
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(module(x), trained(x))
    torch.testing.assert_close(program(x), trained(x).detach())


@pytest.fixture(scope="module")
def two_inputs() -> Program:
    return capture(*build_small("multi_io"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image, vector: (image,), "takes 2 input"),
        (lambda image, vector: (image, vector, vector), "takes 2 input"),
        (lambda image, vector: ((image, vector),), "takes 2 input"),
        (lambda image, vector: (image[:, :2], vector), "image has shape"),
        (lambda image, vector: (image[0], vector), "image has shape"),
        (lambda image, vector: (image[:1], vector), "vector has shape"),
        (lambda image, vector: (image.double(), vector), "float64"),
        (lambda image, vector: (image, 3), "must be a tensor"),
    ],
)
def test_inputs_that_do_not_fit(two_inputs: Program, change: object, words: str) -> None:
    arguments = change(*small_inputs("multi_io", 3))  # type: ignore[operator]
    with pytest.raises(InputError, match=words):
        two_inputs(*arguments)


def test_no_sample_at_run_time(two_inputs: Program) -> None:
    with pytest.raises(InputError, match="shape"):
        two_inputs(*(x[:0] for x in small_inputs("multi_io", 1)))


def test_cut_at_layers() -> None:
    model, inputs = build_small("residual")
    program = capture(model, inputs, outputs=["b2", "add", "s*m.1"])
    assert [spec.name for spec in program.outputs] == ["b2_1", "add", "stem_1"]
    assert all(spec.shape[0] == "batch" for spec in program.outputs)
    seen: list[Tensor] = []
    handles = [
        m.register_forward_hook(lambda m, a, y: seen.append(y.detach())) for m in (model.stem, model.b2)
    ]
    model(*inputs)
    for handle in handles:
        handle.remove()
    b2, _, stem = program(*inputs)
    torch.testing.assert_close(stem, seen[0])
    torch.testing.assert_close(b2, seen[1])
    assert "skip.0.weight" not in dict(program.module().named_parameters())


def test_cut_at_an_unknown_layer() -> None:
    model, inputs = build_small("residual")
    with pytest.raises(UsageError) as caught:
        capture(model, inputs, outputs=["stemm"])
    assert "stem" in (caught.value.why or "")
