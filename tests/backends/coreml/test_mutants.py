"""One wrong setting in a saved program must change what the evaluator answers, or be refused: none may go unread."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxc.backends.coreml.package import Package, open_package
from fxc.backends.coreml.run import Evaluator
from fxc.compiler.errors import FxcError
from tests.backends.coreml.made import Case, build_program, save_program
from tests.backends.coreml.test_operators import CASES

pytest.importorskip("coremltools")

OTHER = {
    "custom": "valid",
    "same": "valid",
    "same_lower": "same",
    "valid": "same",
    "constant": "replicate",
    "reflect": "replicate",
    "replicate": "reflect",
    "EXACT": "SIGMOID_APPROXIMATION",
    "TANH_APPROXIMATION": "SIGMOID_APPROXIMATION",
    "SIGMOID_APPROXIMATION": "EXACT",
    "update": "add",
    "LINEAR": "NEAREST_NEIGHBOR",
    "NEAREST_NEIGHBOR": "LINEAR",
    "DEFAULT": "UNALIGN_CORNERS",
    "bilinear": "nearest",
}
UNREAD = {
    "validate_indices": "every index is good",
    "sort": "the answer is sorted either way",
    "return_indices": "the number of results is the program's",
    "output_indices_dtype": "the program states the type",
    "output_dtype": "the program states the type",
}


def mutants(message: Any) -> Iterator[tuple[str, list[Any]]]:
    """For every number, bool and string of a constant: where it is, and the constants that are wrong there."""
    kind = message.immediateValue.tensor.WhichOneof("value")
    if kind is None or kind == "bytes":
        return
    values = getattr(message.immediateValue.tensor, kind).values
    for i, value in enumerate(values):
        if kind == "strings":
            wrong: list[Any] = [OTHER.get(value, "WRONG")]
        elif kind == "bools":
            wrong = [not value]
        else:
            wrong = [value + 1, value - 1]
        found = []
        for w in wrong:
            changed = copy.deepcopy(message)
            getattr(changed.immediateValue.tensor, kind).values[i] = w
            found.append(changed)
        yield f"[{i}]" if len(values) > 1 else "", found


def noticed(package: Package, case: Case, right: list[np.ndarray]) -> bool:
    try:
        answers = Evaluator(package)(case.inputs)
    except FxcError:
        return True
    return any(
        a.shape != b.shape or not np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        for a, b in zip(answers, right, strict=True)
    )


def survivors(package: Package, case: Case, right: list[np.ndarray]) -> Iterator[str]:
    function = package.spec.mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    constants = {op.outputs[0].name: op for op in operations if op.type == "const"}
    for op in [o for o in operations if o.type == case.op]:
        for parameter, argument in op.inputs.items():
            for binding in argument.arguments:
                constant = constants.get(binding.name)
                if constant is None or parameter in UNREAD:
                    continue
                original = copy.deepcopy(constant.attributes["val"])
                for place, wrong in mutants(original):
                    caught = False
                    for message in wrong:
                        constant.attributes["val"].CopyFrom(message)
                        caught = caught or noticed(package, case, right)
                    constant.attributes["val"].CopyFrom(original)
                    if not caught and parameter not in case.inert and f"{parameter}{place}" not in case.inert:
                        yield f"{case.op}: {parameter}{place}"


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.op)
def test_every_wrong_setting_is_noticed(case: Case, tmp_path: Path) -> None:
    package = open_package(save_program(build_program(case), tmp_path / "m.mlpackage", case.ios))
    right = Evaluator(package)(case.inputs)
    assert list(survivors(package, case, right)) == []
