"""The compiler's table in the toolkit's log, as version 2.5.0 writes it."""

from pathlib import Path

from fxc.backends.rknn.layers import Layer, kernels, layers, remarks

LOG = """D RKNN: [13:45:38.170]                              Network Layer Information Table
D RKNN: [13:45:38.170] -----------------------------------------------------------------------------------------------
D RKNN: [13:45:38.170] ID   OpType             DataType Target InputShape           OutputShape    Cycles(DDR/NPU/Total)    RW(KB)       FullName
D RKNN: [13:45:38.170] -----------------------------------------------------------------------------------------------
D RKNN: [13:45:38.170] 0    InputOperator      INT8     CPU    \\                    (1,3,96,96)    0/0/0                    0            InputOperator:x
D RKNN: [13:45:38.170] 1    ConvRelu           INT8     NPU    (1,3,96,96),(64,3,3,3),(64)  (1,64,47,47)  7557/40032/40032  36   Conv:features.0#1
D RKNN: [13:45:38.170] 2    exDataConvert      INT8     NPU    (1,64,47,47)         (1,64,47,47)   0/0/0                    138          exDataConvert:cut__int8__to__float16
D RKNN: [13:45:38.170] 3    Exp                FLOAT16  CPU    (1,64,47,47)         (1,64,47,47)   0/0/0                    138          Exp:exp
D RKNN: [13:45:38.170] 4    exMatMul           FLOAT16  NPU    (1,8,8),(1,8,8)      (1,8,8)        0/0/0                    1            MatMul:attention/MatMul
D RKNN: [13:45:38.170] 5    OutputOperator     INT8     CPU    (1,1000)             \\              0/0/0                    0            OutputOperator:output
D RKNN: [13:45:38.198] 40  OutputOperator    output                            INT8      UNDEFINED    (1,1000)      (1,1000)        | 0x00000440 0x00000840 0x00000400
"""


def write(folder: Path, text: str) -> Path:
    log = folder / "rknn.log"
    log.write_text(text, encoding="utf-8")
    return log


def test_rows(tmp_path: Path) -> None:
    assert layers(write(tmp_path, LOG)) == [
        Layer("ConvRelu", "INT8", "NPU", "features.0#1"),
        Layer("exDataConvert", "INT8", "NPU", "cut__int8__to__float16"),
        Layer("Exp", "FLOAT16", "CPU", "exp"),
        Layer("exMatMul", "FLOAT16", "NPU", "attention/MatMul"),
    ]


def test_only_what_multiplies_is_a_kernel(tmp_path: Path) -> None:
    found = kernels(layers(write(tmp_path, LOG)))
    assert [(k.layer, k.implementation, k.integer) for k in found] == [
        ("features.0", "int8 on the NPU", True),
        ("attention", "float16 on the NPU", False),
    ]


def rows(op: str, dtype: str, *names: str) -> list[Layer]:
    return [Layer(op, dtype, "NPU", name) for name in names]


def test_the_parts_of_one_layer_are_one_kernel() -> None:
    groups = rows("Conv", "INT8", *(f"b1-0.f.b.0_group_{i}" for i in range(5)))
    fused = rows("ConvAddRelu", "INT16", "layer1.0.conv2_ConvAddRelu")
    tiles = rows("Conv", "INT16", "c_tile0") + rows("ConvAdd", "FLOAT16", "c_tile1_ConvAdd")
    found = kernels(groups + fused + tiles)
    assert [(k.layer, k.integer) for k in found] == [
        ("b1-0.f.b.0", True),
        ("layer1.0.conv2", True),
        ("c", False),
    ]
    assert remarks(groups, []) == ("b1-0.f.b.0: the toolkit splits this grouped convolution into 5",)
    assert remarks(groups[:3], []) == ()


def test_what_the_cpu_of_the_board_does_is_told(tmp_path: Path) -> None:
    cpu, ignored = remarks(layers(write(tmp_path, LOG)), ["a", "b"])
    assert cpu.startswith("exp: Exp runs on the board's CPU")
    assert ignored == "the toolkit ignored the ranges of 2 tensors: a, b"


def test_the_last_of_several_tables_counts(tmp_path: Path) -> None:
    assert len(layers(write(tmp_path, LOG + LOG))) == 4


def test_a_log_without_a_table(tmp_path: Path) -> None:
    assert layers(write(tmp_path, "E build failed\n")) == []
    assert layers(tmp_path / "missing.log") == []
