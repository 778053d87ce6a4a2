"""The engine inspector's JSON: samples in the form that the developer guide of each version shows, and damaged ones.

8.x: "Format/Datatype" names layout and type in one text. 10.x: the same key, shorter texts, node names in "Metadata". 11.x: the
key is split in "DataType" and "Format", and "I/O Tensors" stands where "Bindings" did.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fxc.backends.tensorrt.inspector import missed, parse_layers, read_layers
from fxc.compiler.errors import ToolchainError

WIDE = "Thirty-two wide channel vectorized row major Int8 format."
NONE = "N/A due to dynamic shapes"
KERNEL = "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32_nchw_tilesize64x64x64"


def tensor(text: str, key: str = "Format/Datatype") -> dict[str, Any]:
    return {"Name": "t", "Location": "Device", "Dimensions": [1, 64, 8, 8], key: text}


def conv(name: str, inputs: list[str], weights: str | None, **more: Any) -> dict[str, Any]:
    key = more.pop("key", "Format/Datatype")
    entry: dict[str, Any] = {
        "Name": name,
        "LayerType": "CaskConvolution",
        "Inputs": [tensor(text, key) for text in inputs],
        "Outputs": [tensor(inputs[0], key)],
        "ParameterType": "Convolution",
        "Kernel": [3, 3],
        "Groups": 1,
        "Bias": {"Type": "Float", "Count": 64},
        "TacticValue": "0x0",
        **more,
    }
    return entry if weights is None else {**entry, "Weights": {"Type": weights, "Count": 9}}


def engine(*layers: Any, eleven: bool = False) -> str:
    ends = (
        {"I/O Tensors": [{"Name": "x", "IOMode": "Input", "DataType": "Float"}]}
        if eleven
        else {"Bindings": ["x"]}
    )
    return json.dumps({"Layers": list(layers), **ends})


@pytest.mark.parametrize(
    ("entry", "precision"),
    [
        (conv("c", [WIDE], "Int8"), "int8"),
        (conv("c", [WIDE, "Row major linear FP16 format"], "Int8"), "int8"),  # adds a residual in half
        (conv("c", ["Channel major FP16 format where channel % 8 == 0"], "Half"), "fp16"),
        (conv("c", ["Row major linear FP32"], "Float"), "fp32"),
        (conv("c", ["Half"], "Int8"), "fp16"),  # codes only keep the weights small
        (conv("c", ["Int8"], None), "int8"),
        (conv("c", ["BF16"], "BFloat16"), "bf16"),
        (conv("c", [NONE], "Int8"), "int8"),
        (conv("c", [NONE], "Half"), "fp16"),
        (conv("c", [NONE], None, TacticName=KERNEL), "int8"),
        (conv("c", [NONE], None, TacticName="sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc"), "fp16"),
        (conv("c", [NONE], None, TacticName="sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwc"), "fp32"),
        (conv("c", [NONE], None, TacticName="turing_int8_i8816cudnn_int8_256x128_ldg16"), "int8"),
        (conv("c", [NONE], None, TacticName="generic_kernel"), "unknown"),
        (conv("c", ["Int8"], "Int8", key="DataType"), "int8"),
        (conv("c", ["Half"], "Half", key="DataType"), "fp16"),
        ({"Name": "s", "LayerType": "PointWiseV2", "Inputs": [tensor("Int8"), tensor("Half")]}, "fp16"),
        ({"Name": "s", "LayerType": "kgen", "Inputs": [tensor("Half"), tensor("Int64")]}, "fp16"),
        ({"Name": "s", "LayerType": "Plugin"}, "unknown"),
    ],
)  # fmt: skip
def test_what_a_layer_computes_in(entry: dict[str, Any], precision: str) -> None:
    (layer,) = parse_layers(engine(entry, eleven="DataType" in json.dumps(entry)))
    assert layer.precision == precision
    assert layer.kind == entry["LayerType"]


@pytest.mark.parametrize(
    ("name", "metadata", "parts"),
    [
        ("conv1 + conv1.relu", None, ("conv1", "conv1.relu")),
        ("conv1 + PWN(relu1)", None, ("conv1", "relu1")),
        ("a.conv || b.conv", None, ("a.conv", "b.conv")),
        ("{ForeignNode[first...last]}", None, ("first", "last")),
        ("__mye123_conv_fused", "[ONNX Layer: a.conv]\x1e[ONNX Layer: a.add]", ("a.conv", "a.add", "__mye123_conv_fused")),
    ],
)  # fmt: skip
def test_which_nodes_a_layer_is_made_of(name: str, metadata: str | None, parts: tuple[str, ...]) -> None:
    more = {"Metadata": metadata} if metadata else {}
    (layer,) = parse_layers(engine(conv(name, [WIDE], "Int8", **more)))
    assert layer.parts == parts


def test_what_moves_values_is_left_out() -> None:
    moves = [{"Name": f"m{i}", "LayerType": kind} for i, kind in enumerate(("Reformat", "NoOp", "Constant"))]
    assert [layer.name for layer in parse_layers(engine(*moves, conv("c", [WIDE], "Int8")))] == ["c"]


def test_what_did_not_run_in_int8() -> None:
    text = engine(
        conv("a + a.relu", [WIDE], "Int8"),
        conv("b", ["Half"], "Half"),
        conv("c", [NONE], None),
        conv("f", ["Half"], "Half"),
    )
    assert missed(parse_layers(text), ["a", "b", "c", "d"]) == {
        "b": "fp16",
        "c": "TensorRT does not say in what",
        "d": "no layer of the engine names it",
    }


def test_an_engine_built_with_names_only() -> None:
    layers = parse_layers(json.dumps({"Layers": ["a + a.relu", "b"], "Bindings": ["x", "y"]}))
    assert [(layer.parts, layer.precision) for layer in layers] == [
        (("a", "a.relu"), "unknown"),
        (("b",), "unknown"),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"Layers": 3}', '{"Layers": [3]}', '{"Layers": [{}]}', '{"Bindings": []}', "[" * 100_000,
     '{"Layers": [{"Name": "a", "Inputs": [3]}]}', '{"Layers": [{"Name": "a", "Inputs": 3}]}'],
)  # fmt: skip
def test_what_is_no_description(text: str) -> None:
    with pytest.raises(ToolchainError, match="cannot be read"):
        parse_layers(text)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "layers.json").write_text(engine(conv("a", [WIDE], "Int8")))
    assert len(read_layers(tmp_path / "layers.json")) == 1
    with pytest.raises(ToolchainError, match="cannot read"):
        read_layers(tmp_path / "none.json")
