#!/usr/bin/env python3
"""Build model.rknn from this bundle's ONNX file, where RKNN-Toolkit2 is installed.

    python3 build_rknn.py [--output model.rknn]

Needs rknn-toolkit2 (and setuptools<70, whose pkg_resources it imports) on an x86 or Arm64 Linux machine; no board.
"""

import argparse
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> int:
    """Build; 0 if that worked."""
    parser = argparse.ArgumentParser(description="Build model.rknn with RKNN-Toolkit2.")
    parser.add_argument("--output", default=os.path.join(HERE, "model.rknn"))
    output = parser.parse_args().output
    try:
        from rknn.api import RKNN
    except ImportError as error:
        print(f"RKNN-Toolkit2 cannot be imported: {error}. pip install rknn-toolkit2==2.5.0 'setuptools<70'")
        return 1
    with open(os.path.join(HERE, "build_rknn.json"), encoding="utf-8") as file:
        settings = json.load(file)
    tool = RKNN(verbose=True)
    steps = (
        ("config", lambda: tool.config(**settings["config"])),
        ("load_onnx", lambda: tool.load_onnx(model=os.path.join(HERE, settings["model"]))),
        ("build", lambda: tool.build(do_quantization=False)),
        ("export_rknn", lambda: tool.export_rknn(output)),
    )
    for name, step in steps:
        if step() != 0:
            print(f"RKNN-Toolkit2's {name} failed: see its messages above")
            return 1
    print(f"built {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
