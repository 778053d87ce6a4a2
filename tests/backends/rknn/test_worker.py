"""The real toolkit in its own environment, beside ONNX Runtime: what it computes, and how it fails."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import fxc.backends.rknn as room
from fxc.backends.rknn.toolchain import RKNN
from fxc.compiler.errors import ToolchainError
from fxc.compiler.toolchain.environment import environment, require, status
from fxc.compiler.toolchain.worker import load_arrays, run, save_arrays
from tests.backends.rknn.conv_file import CHANNELS, SIZE, Array, Conv, float_net

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        status(environment(RKNN)).state != "ready", reason=f"needs RKNN-Toolkit2: {RKNN.command}"
    ),
]
SCRIPT = Path(room.__file__).with_name("worker.py")
MEAN, DEVIATION = (120.0, 110.0, 100.0), (60.0, 61.0, 62.0)


def ask(folder: Path, seconds: float = 300, **request: Any) -> dict[str, Any]:
    """One request to the worker: a build for rk3588 unless it says otherwise."""
    usual = {"action": "build", "model": "m.onnx", "output": "m.rknn", "dataset": None, "hybrid": None}
    whole = {**usual, "inputs": [], "layout": "nchw", "config": {"target_platform": "rk3588"}, **request}
    return run(require(RKNN), SCRIPT, whole, folder, seconds=seconds, log=folder / "log.txt")


def simulated(folder: Path, x: Array, **request: Any) -> Array:
    """The output for one input."""
    names = list(save_arrays(folder, {"x": x}).values())
    answer = ask(folder, inputs=[names], **request)
    assert (folder / answer["model"]).read_bytes()[:4] == b"RKNN"
    (y,) = load_arrays(folder, answer["outputs"][0])
    return y


def in_onnxruntime(path: Path, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def image() -> Array:
    """What a camera gives: NHWC, uint8."""
    return np.random.default_rng(1).integers(0, 256, (1, SIZE, SIZE, CHANNELS), np.uint8)


def normalized(raw: Array) -> Array:
    scaled = (raw.astype(np.float32) - np.float32(MEAN)) / np.float32(DEVIATION)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def decibels(y: Array, reference: Array) -> float:
    return float(10 * np.log10((reference**2).sum() / ((y - reference) ** 2).sum()))


def test_versions(tmp_path: Path) -> None:
    found = ask(tmp_path, action="versions")["versions"]
    assert found["rknn-toolkit2"] == RKNN.version
    assert found["numpy"].startswith("1.")


@pytest.mark.parametrize(
    "conv",
    [
        Conv(meant=False, y_zero=-128, relu=True),
        Conv(meant=False),
        Conv(meant=False, x_zero=0),
        Conv(meant=False, y_zero=0, y_scale=0.012),
    ],
    ids=["relu", "plain", "input at 0", "output at 0, saturated"],
)
def test_every_code_is_the_meant_one_in_a_prepared_file(conv: Conv, tmp_path: Path) -> None:
    conv.write(tmp_path / "m.onnx")
    meant = Conv(conv.x_zero, conv.y_zero, True, conv.relu, conv.x_scale, conv.y_scale)
    x = normalized(image())
    reference = in_onnxruntime(meant.write(tmp_path / "meant.onnx"), x)
    y = simulated(tmp_path, x)
    np.testing.assert_array_equal(np.rint(y / conv.y_scale), np.rint(reference / conv.y_scale))
    np.testing.assert_allclose(y, reference, rtol=0, atol=1e-3 * conv.y_scale)
    assert len(np.unique(np.rint(y / conv.y_scale))) > 50


def test_in_a_file_as_it_is_meant_weights_change(tmp_path: Path) -> None:
    conv, x = Conv(), normalized(image())
    reference = in_onnxruntime(conv.write(tmp_path / "m.onnx"), x)
    same = np.rint(simulated(tmp_path, x) / conv.y_scale) == np.rint(reference / conv.y_scale)
    assert 0.5 < same.mean() < 0.97


def test_an_output_with_zero_point_0_gets_another_scale(tmp_path: Path) -> None:
    conv = Conv(y_zero=0)
    conv.write(tmp_path / "m.onnx")
    y = simulated(tmp_path, normalized(image()))
    for scale, on_it in ((conv.y_scale * 128 / 127, True), (conv.y_scale, False)):
        assert bool(np.abs(y / scale - np.rint(y / scale)).max() < 1e-3) is on_it


def test_mean_and_deviation_folded_in_let_the_board_take_images(tmp_path: Path) -> None:
    Conv(meant=False).write(tmp_path / "m.onnx")
    folded = {"target_platform": "rk3588", "mean_values": [MEAN], "std_values": [DEVIATION]}
    raw = image()
    y = simulated(tmp_path, normalized(raw))
    np.testing.assert_array_equal(simulated(tmp_path, raw, config=folded, layout="nhwc"), y)
    channels_first = np.ascontiguousarray(raw.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(simulated(tmp_path, channels_first, config=folded), y)


def own_quantization(folder: Path, **request: Any) -> tuple[float, dict[str, Any]]:
    """SQNR of what the toolkit makes of a float net by itself, and its answer."""
    float_net(folder / "m.onnx")
    chance = np.random.default_rng(3)
    x = {f"x{i}": chance.normal(0, 1, (1, CHANNELS, SIZE, SIZE)).astype(np.float32) for i in range(4)}
    names = [[name] for name in save_arrays(folder, x).values()]
    answer = ask(folder, dataset=names, inputs=names[:1], **request)
    (y,) = load_arrays(folder, answer["outputs"][0])
    return decibels(y, in_onnxruntime(folder / "m.onnx", x["x0"])), answer


@pytest.mark.parametrize("algorithm", ["normal", "mmse"])
def test_the_toolkits_own_quantization(algorithm: str, tmp_path: Path) -> None:
    config = {"target_platform": "rk3588", "quantized_algorithm": algorithm}
    found, _ = own_quantization(tmp_path, config=config)
    assert 25 < found < 55


def test_our_ranges_and_types_reach_a_hybrid_model(tmp_path: Path) -> None:
    plain, _ = own_quantization(tmp_path)
    same, answer = own_quantization(tmp_path, hybrid={"layers": {}, "ranges": {}})
    assert same == plain
    assert {"c1", "a", "y"} <= set(answer["tensors"])
    wide, _ = own_quantization(tmp_path, hybrid={"layers": {}, "ranges": {"a": [0, 200], "r2": [0, 200]}})
    assert wide < plain - 3
    # A convolution and the sum behind it are one layer, which goes by the sum's name.
    layers = {
        "c1": "float16",
        "r1": "float16",
        "a": "float16",
        "r2": "float16",
        "y": "float16",
        "c2": "float16",
    }
    half, answer = own_quantization(tmp_path, hybrid={"layers": layers, "ranges": {"gone": [0, 1]}})
    assert half > plain + 20
    assert answer["ignored"] == ["c2", "gone"]


def test_a_real_abort_of_the_toolkit_is_an_error(tmp_path: Path) -> None:
    Conv(meant=False).write(tmp_path / "m.onnx")
    with pytest.raises(ToolchainError, match=r"crashed \(SIGABRT\)") as caught:
        ask(tmp_path, config={"target_platform": "rk2118"})
    assert "unsupported conv" in str(caught.value.why)
    assert not (tmp_path / "m.rknn").exists()


def test_stopped_in_the_middle_it_leaves_no_model(tmp_path: Path) -> None:
    Conv(meant=False).write(tmp_path / "m.onnx")
    with pytest.raises(ToolchainError, match="did not end within"):
        ask(tmp_path, seconds=0.8)
    assert not (tmp_path / "m.rknn").exists()
    ask(tmp_path)
    assert (tmp_path / "m.rknn").is_file()


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"config": {"target_platform": "rv1126"}}, "Invalid target_platform 'rv1126'"),
        ({"config": {"target_platform": "rk3588", "bogus": 1}}, "bogus"),
        ({"model": "gone.onnx"}, "there is no file gone.onnx"),
        ({"dataset": [["x.npy"]]}, "build failed"),
        ({"hybrid": {"layers": {}, "ranges": {}}}, "needs a dataset"),
        ({"model": "newer.onnx"}, "opset 20"),
        ({"model": "junk.onnx"}, "parsing"),
    ],
)
def test_what_the_toolkit_refuses_is_told_in_its_words(
    request_: dict[str, Any], said: str, tmp_path: Path
) -> None:
    Conv(meant=False).write(tmp_path / "m.onnx")
    Conv(meant=False).write(tmp_path / "newer.onnx", opset=20)
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    np.save(tmp_path / "x.npy", normalized(image()))
    with pytest.raises(ToolchainError) as caught:
        ask(tmp_path, **request_)
    assert said in str(caught.value)
    assert not (tmp_path / "m.rknn").exists()
