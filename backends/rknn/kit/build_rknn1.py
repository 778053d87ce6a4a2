#!/usr/bin/env python3
"""Build model.rknn for RV1126 or RV1109, where RKNN-Toolkit 1.7.5 is: not run by those who wrote it, the toolkit is not on PyPI.

    python3 build_rknn.py [--dataset FILE] [--float]

The file is written into a folder beside this one, FOLDER.device. The toolkit quantizes by itself, on the samples in dataset/:
more of them, a hundred images like those the camera will give, make better ranges. FILE has one sample a line: the name of a
.npy file [1, height, width, channels], or of an image where the manifest says that the model takes bytes.

Needs rknn-toolkit 1.7 and its Python (3.6 or 3.8).
"""

import argparse
import json
import os
import sys
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
MADE = HERE + ".device"  # beside the bundle, to which nothing may be added


def must(step: str, code: int) -> None:
    """End with the name of a step that the toolkit refused."""
    if code != 0:
        raise SystemExit(f"RKNN-Toolkit's {step} failed with {code}")


def dataset(request: Any) -> str:
    """The toolkit's list of samples, one a line, with their whole names."""
    path = os.path.join(MADE, "dataset.txt")
    with open(path, "w", encoding="utf-8") as file:
        for sample in request["dataset"]:
            file.write(" ".join(os.path.join(HERE, name) for name in sample) + "\n")
    return path


def main() -> int:
    """Configure, load, build, export."""
    parser = argparse.ArgumentParser(description="Build model.rknn with RKNN-Toolkit 1.7.")
    parser.add_argument("--dataset", help="list of calibration samples [those of the bundle]")
    parser.add_argument("--float", action="store_true", help="do not quantize: to see what eight bits cost")
    given = parser.parse_args()
    with open(os.path.join(HERE, "build_rknn.json"), encoding="utf-8") as file:
        request = json.load(file)
    try:
        from rknn.api import RKNN
    except ImportError as error:
        raise SystemExit(
            "this needs rknn-toolkit 1.7, from Rockchip's own repository; rknn-toolkit2 is another"
        ) from error
    if not os.path.isdir(MADE):
        os.makedirs(MADE)
    samples = os.path.abspath(given.dataset) if given.dataset else dataset(request)
    tool = RKNN(verbose=True)
    must("config", tool.config(**request["config"]) or 0)
    must("load_onnx", tool.load_onnx(model=os.path.join(HERE, request["model"])))
    must("build", tool.build(do_quantization=not given.float, dataset=samples))
    output = os.path.join(MADE, request["output"])
    must("export_rknn", tool.export_rknn(output))
    tool.release()
    print("wrote " + output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
