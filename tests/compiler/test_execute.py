"""Graphs run node by node: the numbers are those of generated code, and nothing is kept longer than it is read."""

import gc
import weakref

import torch
from torch import fx, nn

from fxc.compiler.capture import capture
from fxc.compiler.execute import lockstep, run_graph, steps
from fxc.compiler.instruments import Verify
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import output_node
from fxc.compiler.text import same_computation
from fxc.passes.pipelines import canonical, optimize
from tests.models.chains import chain, chain_program, example

X = torch.linspace(-1.0, 1.0, 24).reshape(2, 3, 2, 2)


class Fork(nn.Module):
    """Two outputs, one of them an inner value that is read again, and a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.conv(x)
        return {"inner": y, "outer": (y.relu() + 1.0).sigmoid()}


def test_the_numbers_are_those_of_the_model_and_of_torch_fx():
    model = Fork().eval()
    program = capture(model, (X,))
    with torch.no_grad():
        wanted, by_fx = model(X), fx.Interpreter(program.graph_module).run(X)
    got = run_graph(program, (X,))
    assert all(torch.equal(a, b) for a, b in zip(got, by_fx, strict=True))
    assert torch.equal(got[0], wanted["inner"])
    assert torch.equal(got[1], wanted["outer"])
    assert not any(value.requires_grad for value in got)


def test_every_node_comes_by_in_order_with_its_value():
    program = capture(Fork().eval(), (X,))
    walked = list(steps(program, (X,)))
    assert [node for node, _ in walked] == list(program.graph.nodes)
    assert walked[-1][0] is output_node(program.graph)
    shapes = {node.name: value.shape for node, value in walked[:-1]}
    assert shapes["x"] == X.shape
    assert shapes["conv"] == (2, 4, 2, 2)


def test_a_value_goes_when_its_last_reader_ran():
    program = capture(chain(6), (example(),))
    alive: list[weakref.ref[torch.Tensor]] = []
    gc.disable()
    try:
        for node, value in steps(program, (example(),)):
            if node.op == "call_function":
                alive.append(weakref.ref(value))
            del value
            assert sum(ref() is not None for ref in alive) <= 2, node.name
    finally:
        gc.enable()


def test_running_a_program_needs_no_generated_code():
    program = chain_program(30)
    forward = type(program.graph_module).forward
    program.run_flat(example())
    assert type(program.graph_module).forward is forward
    assert torch.equal(program.graph_module(example())[0], program.run_flat(example())[0])


def test_two_programs_run_in_step():
    model = chain(3)
    one = capture(model, (example(),))
    two = run_pipeline(one, optimize())
    convs = {n.name for n in one.graph.nodes if n.name.endswith("_0")}
    walked = list(lockstep(one, two, {*convs, "no_such_node"}, (example(),)))
    assert [name for name, _, _ in walked] == ["_0_0", "_1_0", "_2_0", ""]
    for name, a, b in walked[:-1]:
        # The batch norm behind the conv of the one is inside the conv of the other.
        assert a.shape == b.shape, name
        assert not torch.equal(a, b), name
    _, outputs, others = walked[-1]
    torch.testing.assert_close(outputs, others)
    assert torch.equal(outputs[0], one.run_flat(example())[0])


def test_a_node_that_only_the_second_program_has_stands_alone():
    one = run_pipeline(capture(chain(2), (example(),)), optimize())
    two = capture(chain(2), (example(),))
    walked = [(name, a is None) for name, a, _ in lockstep(one, two, {"_0_1", "_1_0"}, (example(),))]
    assert walked == [("_0_1", True), ("_1_0", False), ("", False)]


def test_one_graph_over_the_same_tensors_is_recognised():
    model = chain(2)
    program = capture(model, (example(),))
    assert same_computation(program, program)
    assert same_computation(program, capture(model, (example(),)))
    assert not same_computation(program, capture(chain(2, seed=1), (example(),)))
    assert not same_computation(program, run_pipeline(program, optimize()))
    assert not same_computation(program, capture(chain(3), (example(),)))


def test_a_graph_built_by_hand_has_what_passes_need():
    program = chain_program(9)
    verify = Verify()
    after = run_pipeline(program, (*canonical(), *optimize()), (verify,))
    assert len([n for n in after.graph.nodes if n.op == "call_function"]) == 6
    assert verify.drift
