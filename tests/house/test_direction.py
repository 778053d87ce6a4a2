"""Dependencies run one way: compiler <- passes <- backends <- tools, with kernels beside passes."""

import ast

import pytest

from tests.house.sources import FACE, Source, room_of, sources

MAY_IMPORT = {
    "compiler": {"compiler"},
    "passes": {"compiler", "passes"},
    "kernels": {"compiler", "kernels"},
    "backends": {"compiler", "passes", "kernels", "backends"},
    "tools": {"compiler", "passes", "kernels", "backends", "tools", FACE},
    FACE: {"compiler", "passes", "kernels", "backends", "tools", FACE},
}
BACKEND_WORDS = (
    "openvino",
    "onnxruntime",
    "tensorrt",
    "coreml",
    "coreai",
    "rknn",
    "hisilicon",
    "tflite",
    "qnn",
)


def upward(source: Source) -> list[str]:
    """Imports of ``source`` that leave the direction; a room of the compiler may reach the face inside a function."""
    top = {node.lineno for node in source.tree.body if isinstance(node, (ast.Import, ast.ImportFrom))}
    wrong = []
    for name, line in source.imports():
        room = room_of(name)
        lazily_the_face = source.room == "compiler" and room == FACE and line not in top
        if room is not None and room not in MAY_IMPORT[source.room] and not lazily_the_face:
            wrong.append(f"{source.path}:{line} imports {name}")
    return wrong


def test_no_import_runs_upward() -> None:
    assert [line for source in sources() for line in upward(source)] == []


SHARED = ("onnx", "apple")
"""What several rooms share; Apple's rooms alone import the latter."""


def test_a_backend_imports_no_other_backend_but_what_is_shared() -> None:
    wrong = []
    for source in (s for s in sources() if s.module.startswith("fxc.backends.")):
        own = source.module.split(".")[2]
        for name, line in source.imports():
            parts = name.split(".")
            if parts[:2] == ["fxc", "backends"] and len(parts) > 2 and parts[2] not in (own, *SHARED):
                wrong.append(f"{source.path}:{line} imports {name}")
    assert wrong == []


def test_a_pass_names_no_backend() -> None:
    """Names and strings of the code count; docstrings may cite a source."""
    wrong = []
    for source in (s for s in sources() if s.room == "passes"):
        prose = set(map(id, docstrings(source.tree)))
        for node in ast.walk(source.tree):
            word = spoken(node) if id(node) not in prose else ""
            if any(name in word.lower() for name in BACKEND_WORDS):
                wrong.append(f"{source.path}:{getattr(node, 'lineno', 0)} says {word!r}")
    assert wrong == []


def test_the_face_imports_nothing_before_it_is_used() -> None:
    face = next(s for s in sources() if s.path == "compiler/_fxc/__init__.py")
    top = [node for node in face.tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(n) for n in top if "fxc" in ast.unparse(n) or "torch" in ast.unparse(n)] == []


@pytest.mark.parametrize(
    ("code", "room", "found"),
    [
        ("from fxc.tools import cli", "passes", 1),
        ("def f():\n    import fxc.backends.onnx", "passes", 1),
        ("import fxc", "compiler", 1),
        ("def f():\n    from fxc import compile", "compiler", 0),
        ("from fxc.compiler import errors", "backends", 0),
    ],
)
def test_the_guard_itself(code: str, room: str, found: int) -> None:
    assert len(upward(Source(room, "x.py", "fxc.x", ast.parse(code)))) == found


def docstrings(tree: ast.Module) -> list[ast.Constant]:
    """Every constant that stands alone as a statement: docstrings, and those under attributes."""
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]


def spoken(node: ast.AST) -> str:
    """What a node of the syntax tree says by name or as a string."""
    match node:
        case ast.Name(id=word) | ast.Attribute(attr=word) | ast.alias(name=word):
            return word
        case ast.Constant(value=str(word)):
            return word
        case _:
            return ""
