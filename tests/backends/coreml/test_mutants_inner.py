"""The same for what has no settings of its own: compressed constants, whose parts are data, and control flow, whose parts are blocks."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxc.backends.coreml.package import open_package
from fxc.backends.coreml.run import Evaluator
from fxc.compiler.errors import FxcError
from tests.backends.coreml.made import Array, mil_target, save_program
from tests.backends.coreml.test_constexpr import BUILDS
from tests.backends.coreml.test_mutants import mutants

pytest.importorskip("coremltools")

INERT = {
    "affine, per tensor": {"axis": "there is one scale"},
    "cast": {"output_dtype": "the program states the type"},
}
WIDE = {"float32": 3, "float16": 1}
"""Of a number in a blob, the byte whose change shows: a float's highest."""


def answers(path: Path, inputs: list[list[Array]]) -> list[Any]:
    try:
        runner = Evaluator(open_package(path))
        return [runner(x) for x in inputs]
    except FxcError:
        return ["refused"]


def differ(a: list[Any], b: list[Any]) -> bool:
    if "refused" in (*a, *b):
        return a != b
    pairs = [(x, y) for run in zip(a, b, strict=True) for x, y in zip(*run, strict=True)]
    return any(x.shape != y.shape or not np.allclose(x, y, rtol=1e-5, atol=1e-7) for x, y in pairs)


def build_constant(build: Callable[[Any], Any], path: Path, ios: int) -> Path:
    from coremltools.converters.mil import Builder as mb

    specs = [mb.TensorSpec(shape=(1, 1))]
    program = mb.program(input_specs=specs, opset_version=mil_target(ios))(lambda x: mb.add(x=x, y=build(mb)))
    return save_program(program, path, ios)


def block_of(spec: Any) -> Any:
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def stored(package: Any, value: Any) -> Iterator[bytes]:
    """The weight file with a number of a blob changed: the first, the last, or every one: a large table has unused entries."""
    weights = package.folder / "weights/weight.bin"
    original = weights.read_bytes()
    _, kind, size, start, _ = struct.unpack_from("<IIQQQ", original, value.blobFileValue.offset)
    place = WIDE.get({1: "float16", 2: "float32"}.get(kind, ""), 0)
    width = place + 1
    every = range(start + place, start + size, width)
    for places in (every[:1], every[-1:], every):
        changed = bytearray(original)
        for at in places:
            # A float's sign and exponent; the lowest bits of a code, of which the last byte may have few.
            changed[at] ^= 0xC0 if place else 0x01
        yield bytes(changed)


@pytest.mark.parametrize("name", BUILDS)
def test_every_part_of_a_constant_is_read(name: str, tmp_path: Path) -> None:
    ios, build = BUILDS[name]
    path = build_constant(build, tmp_path / "m.mlpackage", ios)
    package, inputs = open_package(path), [[np.zeros((1, 1), np.float32)]]
    place, weights = package.folder / "model.mlmodel", package.folder / "weights/weight.bin"
    right, survived, tried = answers(path, inputs), [], 0
    constants = {o.outputs[0].name: o for o in block_of(package.spec).operations if o.type == "const"}
    for op in block_of(package.spec).operations:
        if not op.type.startswith("constexpr_"):
            continue
        values = {k: v for k, v in op.attributes.items() if k != "name"}
        for parameter, argument in op.inputs.items():
            (binding,) = argument.arguments
            if binding.WhichOneof("binding") == "value":
                values[parameter] = binding.value
            elif binding.name in constants:
                values[parameter] = constants[binding.name].attributes["val"]
        for parameter, value in values.items():
            if parameter in INERT.get(name, {}):
                continue
            caught, tried = [], tried + 1
            if value.WhichOneof("value") == "blobFileValue":
                original = weights.read_bytes()
                for changed in stored(package, value):
                    weights.write_bytes(changed)
                    caught.append(differ(right, answers(path, inputs)))
                weights.write_bytes(original)
            else:
                before = copy.deepcopy(value)
                for wrong in immediate(before):
                    value.CopyFrom(wrong)
                    place.write_bytes(package.spec.SerializeToString())
                    caught.append(differ(right, answers(path, inputs)))
                value.CopyFrom(before)
                place.write_bytes(package.spec.SerializeToString())
            if not caught or not any(caught):
                survived.append(f"{op.type}: {parameter}")
    assert survived == []
    assert tried >= 2 - (name == "cast")
    assert not differ(right, answers(path, inputs))


def immediate(value: Any) -> Iterator[Any]:
    """Wrong values in the place of one that is in the specification."""
    tensor = value.immediateValue.tensor
    if tensor.WhichOneof("value") == "bytes":
        given = bytearray(tensor.bytes.values)
        given[-1 if len(given) > 1 else 0] ^= 0x01
        wrong = copy.deepcopy(value)
        wrong.immediateValue.tensor.bytes.values = bytes(given)
        yield wrong
        return
    for _, changed in mutants(value):
        yield from changed


def conditional(mb: Any, x: Any) -> Any:
    big = mb.greater(x=mb.reduce_sum(x=x, axes=[0], keep_dims=False), y=np.float32(1))
    return mb.cond(
        pred=big,
        _true_fn=lambda: (mb.add(x=x, y=np.float32(1)), mb.mul(x=x, y=np.float32(2))),
        _false_fn=lambda: (mb.mul(x=x, y=np.float32(3)), mb.sub(x=x, y=np.float32(4))),
    )


def loop(mb: Any, x: Any) -> Any:
    return mb.while_loop(
        _cond=lambda i, y: mb.less(x=i, y=np.float32(3)),
        _body=lambda i, y: (mb.add(x=i, y=np.float32(1)), mb.add(x=mb.mul(x=y, y=np.float32(2)), y=x)),
        loop_vars=(np.float32(0), x),
    )


FLOWS = {"cond": conditional, "while_loop": loop}
INPUTS = [
    [np.array([1, 2], np.float32)],
    [np.array([-3, 1], np.float32)],
    [np.array([0.5, 0.75], np.float32)],
]


def wrong_flows(op: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    """What to do to an operator with blocks so that it is another one."""
    yield "blocks swapped", lambda: _swap(op.blocks)
    for i, block in enumerate(op.blocks):
        if len(block.outputs) > 1:
            yield f"results of block {i} swapped", lambda b=block: _swap_names(b.outputs)
        for inner in block.operations:
            if inner.type == "const":
                value = inner.attributes["val"].immediateValue.tensor.floats
                if len(value.values) == 1:
                    yield f"{inner.outputs[0].name} of block {i}", lambda v=value: _raise(v.values)
    for name, argument in op.inputs.items():
        if len(argument.arguments) > 1:
            yield f"{name} swapped", lambda a=argument: _swap(a.arguments)


def _raise(values: Any) -> None:
    values[0] += 1


def _swap(messages: Any) -> None:
    first = copy.deepcopy(messages[0])
    messages[0].CopyFrom(messages[1])
    messages[1].CopyFrom(first)


def _swap_names(names: Any) -> None:
    names[0], names[1] = names[1], names[0]


@pytest.mark.parametrize("kind", FLOWS)
def test_every_part_of_control_flow_is_read(kind: str, tmp_path: Path) -> None:
    from coremltools.converters.mil import Builder as mb

    specs = [mb.TensorSpec(shape=(2,))]
    program = mb.program(input_specs=specs, opset_version=mil_target(16))(lambda x: FLOWS[kind](mb, x))
    path = save_program(program, tmp_path / "m.mlpackage", 16)
    right = answers(path, INPUTS)
    spec, place = open_package(path).spec, open_package(path).folder / "model.mlmodel"
    count = len(list(wrong_flows(_flow(spec, kind))))
    assert count >= 4
    survived = []
    for i in range(count):
        changed = copy.deepcopy(spec)
        words, change = list(wrong_flows(_flow(changed, kind)))[i]
        change()
        place.write_bytes(changed.SerializeToString())
        if not differ(right, answers(path, INPUTS)):
            survived.append(words)
    assert survived == []


def _flow(spec: Any, kind: str) -> Any:
    return next(op for op in block_of(spec).operations if op.type == kind)
