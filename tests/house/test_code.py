"""House rules that a linter does not know."""

import ast

import pytest

from tests.house.sources import ROOT, Source, sources

LONGEST = 400
UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "__import__"}


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    tests = [
        f.relative_to(ROOT).as_posix() for f in (ROOT / "tests").rglob("*.py") if "__pycache__" not in f.parts
    ]
    lengths = {path: (ROOT / path).read_text(encoding="utf-8").count("\n") for path in paths() + tests}
    assert {path: n for path, n in lengths.items() if n > LONGEST} == {}


def test_nothing_runs_code_from_data() -> None:
    assert [line for source in sources() for line in unsafe(source)] == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "import torch\ntorch.load(p)",
        "torch.load(p, weights_only=False)",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "yaml.load(text)",
    ],
)
def test_the_guard_against_running_data(code: str) -> None:
    assert unsafe(Source("passes", "x.py", "fxc.x", ast.parse(code)))
    assert not unsafe(Source("passes", "x.py", "fxc.x", ast.parse("torch.load(p, weights_only=True)")))


def test_every_public_function_and_class_says_what_it_is_for() -> None:
    bare = [
        f"{source.path}:{node.lineno} {node.name}"
        for source in sources()
        for node in source.tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and not lowering(node)
        and not overloaded(node)
    ]
    assert bare == []


def overloaded(node: ast.stmt) -> bool:
    """A further signature of the function below it, which says what both are for."""
    return isinstance(node, ast.FunctionDef) and "overload" in map(ast.unparse, node.decorator_list)


def lowering(node: ast.stmt) -> bool:
    """A function that writes one operator: the table beside it names the operator, whose schema says the rest."""
    arguments = node.args.args if isinstance(node, ast.FunctionDef) else []
    return (
        bool(arguments)
        and arguments[0].annotation is not None
        and ast.unparse(arguments[0].annotation) == "Writer"
    )


def test_every_module_says_what_it_is_for() -> None:
    assert [s.path for s in sources() if not ast.get_docstring(s.tree)] == []


def test_no_module_keeps_state_through_a_global_statement() -> None:
    found = [
        f"{source.path}:{node.lineno}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Global)
    ]
    assert found == []


def unsafe(source: Source) -> list[str]:
    """Places in a file that could run code out of a file that is meant to be data."""
    found = [f"{source.path}:{line} imports {name}" for name, line in source.imports() if _module(name)]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and _unsafe_call(node):
            found.append(f"{source.path}:{node.lineno} {ast.unparse(node)[:60]}")
    return found


def _module(name: str) -> bool:
    return name.split(".")[0] in UNSAFE_MODULES


def _unsafe_call(call: ast.Call) -> bool:
    name, words = ast.unparse(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
    if name == "torch.load":
        return words.get("weights_only") != "True"
    return (
        name in UNSAFE_CALLS
        or words.get("allow_pickle") == "True"
        or name in ("yaml.load", "yaml.unsafe_load")
    )


def paths() -> list[str]:
    """The product's files."""
    return [source.path for source in sources()]
