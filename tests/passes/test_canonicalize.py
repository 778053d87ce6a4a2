"""One spelling for every operation: pairs of modules that must become the same graph."""

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fxc.compiler.capture import capture
from fxc.compiler.editor import Editor
from fxc.passes.canonicalize import Canonicalize
from tests.passes.checks import Fn, assert_same, captured, operators, run

aten = torch.ops.aten
X = torch.randn(2, 6, 4, 4)
M = torch.randn(3, 5)

SAME = {
    "flatten": (lambda m, x: x.flatten(1), lambda m, x: x.reshape(-1, 96)),
    "flatten in the middle": (lambda m, x: x.flatten(1, 2), lambda m, x: x.reshape(-1, 24, 4)),
    "flatten with the batch": (lambda m, x: x.flatten(0, 1), lambda m, x: x.reshape(-1, 4, 4)),
    "unflatten": (lambda m, x: x.unflatten(1, (2, 3)), lambda m, x: x.reshape(-1, 2, 3, 4, 4)),
    "view with the batch's size": (lambda m, x: x.view(x.shape[0], 3, 32), lambda m, x: x.reshape(-1, 3, 32)),
    "view_as": (lambda m, x: x.flatten(1).view_as(x).relu(), lambda m, x: x.relu()),
    "transpose": (lambda m, x: x.transpose(-1, 1), lambda m, x: x.permute(0, 3, 2, 1)),
    "movedim": (lambda m, x: x.movedim(1, -1), lambda m, x: x.permute(0, 2, 3, 1)),
    "movedim of several": (lambda m, x: x.movedim((1, 2), (3, 1)), lambda m, x: x.permute(0, 2, 3, 1)),
    "swapaxes": (lambda m, x: x.swapaxes(2, 3), lambda m, x: x.permute(0, 1, 3, 2)),
    "mT": (lambda m, x: x.mT, lambda m, x: x.permute(0, 1, 3, 2)),
    "permute of permute": (lambda m, x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2).relu(), lambda m, x: x.relu()),
    "permute twice": (lambda m, x: x.permute(0, 2, 3, 1).permute(0, 2, 1, 3), lambda m, x: x.permute(0, 3, 2, 1)),
    "chunk": (lambda m, x: x.chunk(2, 1)[1], lambda m, x: x[:, 3:]),
    "split": (lambda m, x: x.split(4, -3)[1], lambda m, x: x[:, 4:6]),
    "split by sizes": (lambda m, x: torch.add(*x.split([2, 2, 2], 1)[1:]), lambda m, x: x[:, 2:4] + x[:, 4:6]),
    "unbind": (lambda m, x: torch.add(*x.unbind(1)[2:4]), lambda m, x: x[:, 2] + x[:, 3]),
    "slice from the back": (lambda m, x: x[:, -2:], lambda m, x: x[:, 4:6]),
    "select from the back": (lambda m, x: x[:, -1], lambda m, x: x[:, 5]),
    "resize to a size": (
        lambda m, x: aten.upsample_bilinear2d.default(x, [8, 8], False),
        lambda m, x: F.interpolate(x, size=(8, 8), mode="bilinear"),
    ),
    "resize by a factor": (
        lambda m, x: aten.upsample_nearest2d.default(x, [8, 8], 2.0, 2.0),
        lambda m, x: F.interpolate(x, scale_factor=2),
    ),
    "reversed subtraction": (lambda m, x: 1 - x, lambda m, x: torch.tensor(1.0) - x),
    "narrow": (lambda m, x: x.narrow(1, 2, 3), lambda m, x: x[:, 2:5]),
    "whole slice": (lambda m, x: x[:, :, 0:9].relu(), lambda m, x: x.relu()),
    "squeeze": (lambda m, x: x[:, :1].squeeze(-3), lambda m, x: torch.squeeze(x[:, :1], (1,))),
    "squeeze of nothing": (lambda m, x: x.squeeze(1).relu(), lambda m, x: x.relu()),
    "squeeze of unsqueeze": (lambda m, x: x.unsqueeze(1).squeeze(1).relu(), lambda m, x: x.relu()),
    "expand to its own shape": (lambda m, x: x.expand(-1, 6, 4, 4).relu(), lambda m, x: x.relu()),
    "expand_as": (lambda m, x: x[:, :1].expand_as(x), lambda m, x: x[:, :1].expand(-1, 6, -1, -1)),
    "clone": (lambda m, x: x.clone().detach().contiguous().relu(), lambda m, x: x.relu()),
    "cast to its own type": (lambda m, x: x.float().to(torch.float32).relu(), lambda m, x: x.relu()),
    "type_as": (lambda m, x: x.double().type_as(x), lambda m, x: x.double().to(torch.float32)),
    "cat of one": (lambda m, x: torch.cat([x], 1).relu(), lambda m, x: x.relu()),
    "pad of nothing": (lambda m, x: F.pad(x, (0, 0, 0, 0)).relu(), lambda m, x: x.relu()),
    "relu6": (lambda m, x: F.relu6(x), lambda m, x: F.hardtanh(x, 0, 6)),
    "clamp at zero": (lambda m, x: x.clamp(min=0), lambda m, x: x.relu()),
    "clamp_min": (lambda m, x: x.clamp_min(1), lambda m, x: x.clamp(min=1)),
    "clip": (lambda m, x: x.clip(-1, 1), lambda m, x: x.clamp(-1, 1)),
    "multiply": (lambda m, x: torch.multiply(x, x), lambda m, x: x * x),
    "number on the left": (lambda m, x: 2 + 3 * x, lambda m, x: x * 3 + 2),
    "neutral numbers": (lambda m, x: (x * 1 + 0).relu() / 1, lambda m, x: x.relu()),
    "negative dims": (lambda m, x: x.softmax(-1), lambda m, x: x.softmax(3)),
    "pooling stride": (lambda m, x: F.max_pool2d(x, 2), lambda m, x: F.max_pool2d(x, [2, 2], [2, 2])),
    "pool to its own size": (lambda m, x: F.adaptive_avg_pool2d(x, 4).relu(), lambda m, x: x.relu()),
    "softmax in its own type": (lambda m, x: x.softmax(1, dtype=torch.float32), lambda m, x: x.softmax(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_two_spellings_become_one_graph(name):
    before, expected = SAME[name]
    program = captured(Fn(before), X)
    got = run(Canonicalize(), program)
    assert "canonical" in got.facts
    want = Canonicalize().apply(captured(Fn(expected), X)).program
    assert_same(got, want)
    fresh = torch.randn(3, 6, 4, 4)
    assert torch.equal(got(fresh), before(None, fresh))


CONVS = {
    "same padding": (nn.Conv2d(6, 4, 3, padding="same"), nn.Conv2d(6, 4, 3, padding=1)),
    "same padding, dilated": (nn.Conv2d(6, 4, 3, padding="same", dilation=2), nn.Conv2d(6, 4, 3, padding=2, dilation=2)),
    "valid padding": (nn.Conv2d(6, 4, 3, padding="valid"), nn.Conv2d(6, 4, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVS)
def test_padding_words_become_numbers(name):
    before, expected = CONVS[name]
    expected.load_state_dict(before.state_dict())
    got = run(Canonicalize(), captured(nn.Sequential(before), X))
    assert_same(got, Canonicalize().apply(captured(nn.Sequential(expected), X)).program, contents=True)


def test_same_padding_of_an_even_kernel_pads_the_end():
    model = nn.Sequential(nn.Conv2d(6, 4, (4, 2), padding="same"))
    got = run(Canonicalize(), captured(model, X))
    assert operators(got) == ["pad", "conv2d"]
    torch.testing.assert_close(got(X), model(X).detach())


def test_arguments_are_written_out():
    program = captured(nn.Sequential(nn.Conv2d(6, 4, 3), nn.GELU(), nn.AvgPool2d(2)), X)
    editor = Editor(program, "test")
    conv, gelu, pool = [n for n in editor.graph.nodes if n.op == "call_function"]
    conv.args, conv.kwargs = conv.args[:2], {"bias": conv.args[2], "stride": [1]}
    gelu.kwargs = {"approximate": "none"}
    pool.args = (gelu, [2])
    got = run(Canonicalize(), editor.finish())
    conv, gelu, pool = [n for n in got.graph.nodes if n.op == "call_function"]
    assert list(conv.args[3:]) == [[1, 1], [0, 0], [1, 1], 1]
    assert (len(gelu.args), dict(gelu.kwargs)) == (1, {})
    assert list(pool.args[1:]) == [[2, 2], [2, 2], [0, 0], False, True, None]


def test_a_view_behind_a_dropped_copy_works_with_more_images():
    got = run(
        Canonicalize(), captured(Fn(lambda m, x: x.transpose(1, 2).contiguous().view(x.shape[0], -1)), X)
    )
    fresh = torch.randn(5, 6, 4, 4)
    assert torch.equal(got(fresh), fresh.transpose(1, 2).reshape(5, -1))


def test_a_copy_that_changes_strides_is_not_dropped_here():
    got = run(
        Canonicalize(), captured(Fn(lambda m, x: x.permute(0, 2, 3, 1).contiguous().relu()), X), changes=None
    )
    assert "contiguous" in operators(got) or "clone" in operators(got)


def test_batch_norm_and_dropout_stay():
    model = nn.Sequential(nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
    got = run(Canonicalize(), captured(model, X), changes=None)
    assert operators(got) == ["conv2d", "batch_norm", "relu", "dropout"]


def test_two_symbolic_sizes_keep_their_symbols():
    batch, side = torch.export.Dim("batch", min=2), torch.export.Dim("side", min=4, max=64)
    model = Fn(lambda m, x: x.flatten(2).transpose(1, 2))
    exported = torch.export.export(model, (X,), dynamic_shapes=(({0: batch, 2: side},),))
    got = run(Canonicalize(), capture(exported))
    for shape in ((3, 6, 7, 4), (2, 6, 9, 4)):
        fresh = torch.randn(shape)
        assert torch.equal(got(fresh), fresh.flatten(2).transpose(1, 2))


def test_decomposed_programs_become_whole_again():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
            self.norm, self.group, self.up = nn.LayerNorm(4), nn.GroupNorm(2, 8), nn.ConvTranspose2d(8, 4, 2)

        def forward(self, x):
            x = self.group(self.norm(self.bn(self.conv(x)).relu()))
            return F.max_pool2d(self.up(x), 2).softmax(1)

    model = Net().eval()
    whole = torch.export.export(model, (X,))
    pieces = whole.run_decompositions()
    assert "convolution" in str(pieces.graph), "the test needs a decomposed graph"
    got = run(Canonicalize(), capture(pieces))
    assert operators(got) == [
        "conv2d", "batch_norm", "relu", "layer_norm", "group_norm", "conv_transpose2d", "max_pool2d", "softmax",
    ]  # fmt: skip
    torch.testing.assert_close(got(X), model(X).detach())


def test_an_operator_whose_other_results_are_read_stays():
    model = Fn(lambda m, x: F.max_pool2d(x, 2, return_indices=True))
    got = Canonicalize().apply(captured(model, X))
    targets = [n.target for n in got.program.graph.nodes if n.op == "call_function"]
    assert operator.getitem in targets
    values, indices = got.program.run_flat(X)
    want = F.max_pool2d(X, 2, return_indices=True)
    assert torch.equal(values, want[0])
    assert torch.equal(indices, want[1])
