"""A quantized convolution as an ONNX file, written by hand in the ways that the toolkit may be given it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
SIZE, CHANNELS, WIDTH = 16, 3, 8


@dataclass(frozen=True)
class Conv:
    """int8 activations per tensor, int8 weights per channel, int32 bias; x and y are float.

    Attributes:
        x_zero, y_zero: zero points.
        meant: scales and codes as they are meant; else prepared for the toolkit, which makes scales 128/127 as large
            wherever a zero point is 0, and requantizes weights.
        relu: whether a ReLU follows.
    """

    x_zero: int = -5
    y_zero: int = 4
    meant: bool = True
    relu: bool = False
    x_scale: float = 4 / 255
    y_scale: float = 0.021

    def write(self, path: Path, *, opset: int = 17) -> Path:
        """Write the file; the weights are the same every time."""
        initializers, nodes = self._constants(), self._nodes()
        graph = helper.make_graph(
            nodes,
            "conv",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, WIDTH, SIZE, SIZE])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset <= 17 else 9
        )
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(path))
        return path

    def _constants(self) -> dict[str, Any]:
        chance = np.random.default_rng(0)
        weight, bias = chance.normal(0, 0.3, (WIDTH, CHANNELS, 3, 3)), chance.normal(0, 0.3, WIDTH)
        scale = (np.abs(weight).max((1, 2, 3)) / 126).astype(np.float32)
        codes = np.clip(np.rint(weight / scale[:, None, None, None]), -127, 126)
        bias_scale = (np.float64(np.float32(self.x_scale)) * scale).astype(np.float32)
        return {
            "xs": self._told(np.float32(self.x_scale), self.x_zero),
            "xz": np.int8(self.x_zero),
            "ys": self._told(np.float32(self.y_scale), self.y_zero),
            "yz": np.int8(self.y_zero),
            "w": (codes if self.meant else np.rint(codes * 128 / 127)).astype(np.int8),
            "ws": self._told(scale, 0),
            "wz": np.zeros(WIDTH, np.int8),
            "b": np.rint(bias / bias_scale).astype(np.int32),
            "bs": bias_scale,
            "bz": np.zeros(WIDTH, np.int32),
        }

    def _told(self, scale: Any, zero: int) -> Any:
        return scale if self.meant or zero else (scale.astype(np.float64) * 127 / 128).astype(np.float32)

    def _nodes(self) -> list[onnx.NodeProto]:
        dequantize, quantize = "DequantizeLinear", "QuantizeLinear"
        return [
            helper.make_node(quantize, ["x", "xs", "xz"], ["xq"]),
            helper.make_node(dequantize, ["xq", "xs", "xz"], ["xd"]),
            helper.make_node(dequantize, ["w", "ws", "wz"], ["wd"], axis=0),
            helper.make_node(dequantize, ["b", "bs", "bz"], ["bd"], axis=0),
            helper.make_node("Conv", ["xd", "wd", "bd"], ["c"], kernel_shape=[3, 3], pads=[1] * 4),
            *([helper.make_node("Relu", ["c"], ["r"])] if self.relu else []),
            helper.make_node(quantize, ["r" if self.relu else "c", "ys", "yz"], ["yq"]),
            helper.make_node(dequantize, ["yq", "ys", "yz"], ["y"]),
        ]


def float_net(path: Path) -> Path:
    """Two convolutions with a skip, in float; tensors c1, a (the sum) and y."""
    chance = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (4, 8, 1, 1), "b3": (4,)}
    arrays = {name: chance.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["a"]),
        helper.make_node("Relu", ["a"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["y"], kernel_shape=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, SIZE, SIZE])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path
