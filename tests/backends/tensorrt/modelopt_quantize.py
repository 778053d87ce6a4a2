"""Quantize an ONNX file with nvidia-modelopt, on the CPU: ``python modelopt_quantize.py MODEL.onnx OUT.onnx SIDE``.

Runs in an environment of its own, which has nvidia-modelopt and no fxc. Placement does not hang on the data: two random images.
"""

import sys

import numpy as np
import onnx


def main(source: str, destination: str, side: int) -> None:
    """Quantize to int8 with float32 beside it, as our file for TensorRT up to 10.x has it."""
    from modelopt.onnx.quantization import quantize

    name = onnx.load(source, load_external_data=False).graph.input[0].name
    images = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    quantize(
        source,
        "int8",
        calibration_data={name: images},
        output_path=destination,
        calibration_method="max",
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        log_level="ERROR",
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
