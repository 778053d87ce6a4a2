"""``.pt2`` files: genuine ones load and compute the same; hostile ones are refused and nothing in them runs."""

from __future__ import annotations

import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from fxc.compiler.capture.pt2 import CONSTANTS, MODEL, SAMPLES, WEIGHTS, load, scan
from fxc.compiler.capture.pt2_document import safe_expression, safe_operator, safe_structure
from fxc.compiler.errors import ArtifactError
from tests.compiler.hostile_pt2 import ROUTES, Hostile, build_all, edit, genuine, rewrite, system_call


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return genuine(tmp_path_factory.mktemp("pt2") / "genuine.pt2")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Hostile], str]:
    return build_all(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_genuine_file_loads_and_computes_the_same(tmp_path: Path, dynamic: bool) -> None:
    path = genuine(tmp_path / "net.pt2", dynamic=dynamic)
    assert scan(path) == []
    ours, theirs = load(path), torch.export.load(path)
    for batch in (2, 5) if dynamic else (2,):
        x = torch.randn(batch, 3, 8, 8)
        found, expected = ours.module()(x), theirs.module()(x)
        assert torch.equal(found["map"], expected["map"])
        assert torch.equal(found["flat"][0], expected["flat"][0])
    assert ours.example_inputs is not None
    assert torch.equal(ours.example_inputs[0][0], theirs.example_inputs[0][0])
    assert list(ours.state_dict) == list(theirs.state_dict)


@pytest.mark.parametrize("route", ROUTES)
def test_the_attack_works_on_plain_torch_and_not_on_us(
    hostile: tuple[dict[str, Hostile], str], route: str
) -> None:
    files, output = hostile
    case = files[route]
    assert case.ran, f"PyTorch did not run {route}: the test has no teeth\n{output}"
    if route == "guard":
        # Guards are left out rather than refused: every file has some.
        load(case.path).module()(torch.ones(2, 3, 8, 8))
    else:
        assert scan(case.path)
        with pytest.raises(ArtifactError, match="could run code") as caught:
            load(case.path)
        assert case.path.name in str(caught.value)
    assert not case.marker.exists()
    assert "evil_module" not in sys.modules


def test_trust_loads_loudly(hostile: tuple[dict[str, Hostile], str]) -> None:
    case = hostile[0]["opaque constant"]
    with pytest.warns(UserWarning, match="can run code"):
        load(case.path, trust=True)
    assert case.marker.exists(), "trust must hand the file to PyTorch as it is"
    case.marker.unlink()


def test_an_operator_that_is_no_operator_is_refused(source: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = rewrite(source, tmp_path / "evil.pt2", lambda members: system_call(members, marker))
    with pytest.raises(ArtifactError, match=r"torch\.os\.system"):
        load(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "member",
    ["data/weights/model.pt", "data/constants/model.pt", "data/constants/custom_obj_0", "data/weights/x.pkl",
     "data/aotinductor/model/a.so", "models/other.json", "!genuine/../../evil", "!/etc/evil", "../x", "a//b",
     "a\\..\\b", "!other/models/model.json"],
)  # fmt: skip
def test_members_that_do_not_belong_are_refused(source: Path, tmp_path: Path, member: str) -> None:
    path = rewrite(source, tmp_path / "evil.pt2", lambda members: members.update({member: b"x"}))
    assert scan(path)
    with pytest.raises(ArtifactError):
        load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["evil.pt2"]


def test_compressed_and_repeated_members_are_refused(source: Path, tmp_path: Path) -> None:
    bomb = rewrite(
        source,
        tmp_path / "bomb.pt2",
        lambda members: members.update({"extra/zeros": bytes(1 << 24)}),
        compression=zipfile.ZIP_DEFLATED,
    )
    assert bomb.stat().st_size < 1 << 20
    assert any("fills a disk" in finding for finding in scan(bomb))
    twice = tmp_path / "twice.pt2"
    twice.write_bytes(source.read_bytes())
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("genuine/" + MODEL, b"{}")
    assert any("twice" in finding for finding in scan(twice))


def _without(members: dict[str, bytes], name: str) -> None:
    del members[name]


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, CONSTANTS])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"[" * 100_000, b"\xff"])
def test_damaged_documents_are_artifact_errors(
    source: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    def change(members: dict[str, bytes]) -> None:
        members.pop(name)
        if content is not None:
            members[name] = content

    path = rewrite(source, tmp_path / "bad.pt2", change)
    with pytest.raises(ArtifactError) as caught:
        load(path)
    assert "bad.pt2" in str(caught.value)


def test_files_that_are_no_archive(source: Path, tmp_path: Path) -> None:
    data = source.read_bytes()
    for name, content in {
        "empty": b"",
        "text": b"hello",
        "pickle": pickle.dumps(1),
        "cut": data[:-200],
    }.items():
        path = tmp_path / f"{name}.pt2"
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="cut short"):
            load(path)
    with pytest.raises(ArtifactError, match="cannot read"):
        load(tmp_path / "missing.pt2")


def test_a_flipped_weight_byte_is_found(source: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        info = archive.getinfo("genuine/data/weights/weight_0")
    data = bytearray(source.read_bytes())
    start = (
        info.header_offset
        + 30
        + int.from_bytes(data[info.header_offset + 26 : info.header_offset + 28], "little")
    )
    start += int.from_bytes(data[info.header_offset + 28 : info.header_offset + 30], "little")
    data[start] ^= 1
    path = tmp_path / "flip.pt2"
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="damaged"):
        load(path)


def test_a_table_may_not_promise_more_than_its_bytes(source: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        def sizes(document: dict[str, Any]) -> None:
            meta = document["config"]["conv.weight"]
            meta["tensor_meta"]["sizes"] = [{"as_int": 1 << 40}]
            members[f"data/weights/{meta['path_name']}"] = b""

        edit(members, WEIGHTS, sizes)

    with pytest.raises(ArtifactError, match="larger than its bytes"):
        load(rewrite(source, tmp_path / "evil.pt2", change))


def test_a_hint_that_is_text_is_refused(source: Path, tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        size = document["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0]
        size["as_expr"]["hint"] = {"as_int": "__import__('os')"}

    path = rewrite(source, tmp_path / "evil.pt2", lambda members: edit(members, MODEL, change))
    with pytest.raises(ArtifactError, match="hint"):
        load(path)


def test_sample_inputs_may_be_absent(source: Path, tmp_path: Path) -> None:
    path = rewrite(source, tmp_path / "bare.pt2", lambda members: _without(members, SAMPLES))
    assert load(path).example_inputs is None


@pytest.mark.parametrize(
    "text",
    ["s0", "2*s77 + 1", "(s0 - 1)//2", "-s1*3", "s77**2", "Symbol('s77', positive=True, integer=True)",
     "Mul(Integer(2), Symbol('s77', integer=True))", "FloorDiv(Add(Symbol('s0'), Integer(-1)), Integer(2))",
     "Pow(Symbol('s0', integer=True), Integer(2))"],
)  # fmt: skip
def test_shape_expressions_that_pass(text: str) -> None:
    assert safe_expression(text)


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "open('x')", "s0.__class__", "s0[0]", "(lambda: 0)()", "x", "'s0'", "9**9**9", "s0**99",
     "s0**s1", "s0 if s1 else 2", "Symbol('__import__')", "Symbol('s0', integer=open('x'))", "Integer(open)",
     "Integer('1')", "Pow(Integer(9), Integer(9))", "Symbol('s0').func", "sympify('s0')", "exec('1')", "1.5", "True",
     "s0 & 1", "[s0]", "", "(" * 5000, "1" * 40, "s0;1", "s0\nimport os", None, 3, "f's0'", "(s0 := 1)",
     "Mul(*[1])", "Add(s0, evaluate=open)"],
)  # fmt: skip
def test_shape_expressions_that_do_not(text: object) -> None:
    assert not safe_expression(text)


@pytest.mark.parametrize(
    "text", ["torch.ops.aten.conv2d.default", "_operator.mul", "math.ceil", "torch.sym_max"]
)
def test_operators_that_pass(text: str) -> None:
    assert safe_operator(text)


@pytest.mark.parametrize(
    "text",
    ["torch.os.system", "torch.load", "_operator.attrgetter", "_operator.methodcaller", "math.__loader__", "#x:y",
     "torch.ops.aten.from_file.default", "torch.ops.aten.save.default", "torch.ops.load_library",
     "torch.ops.higher_order.triton_kernel_wrapper_mutation", "torch._C._functorch.x", "", None],
)  # fmt: skip
def test_operators_that_do_not(text: object) -> None:
    assert not safe_operator(text)


def test_structures() -> None:
    leaf = {"type": None, "context": None, "children_spec": []}
    assert safe_structure(
        json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": [leaf]}])
    )
    assert safe_structure(
        json.dumps([1, {"type": "builtins.dict", "context": '["a"]', "children_spec": [leaf]}])
    )
    evil = json.dumps([{"__enum__": True, "fqn": "os:x", "name": "A"}])
    for kind, context in (("builtins.dict", evil), ("torch.nn.Module", "null"), ("builtins.dict", "{")):
        tree = json.dumps([1, {"type": kind, "context": context, "children_spec": []}])
        assert not safe_structure(tree)
    assert not safe_structure("[2, {}]")
    assert not safe_structure(None)
