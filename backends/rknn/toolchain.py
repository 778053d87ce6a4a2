"""RKNN-Toolkit2's environment. Torch-free."""

from __future__ import annotations

from fxc.compiler.toolchain.spec import Toolchain

RKNN = Toolchain(
    name="rknn",
    package="rknn-toolkit2",
    module="rknn.api",
    # The toolkit imports pkg_resources, which later versions of setuptools no longer have.
    requirements=("rknn-toolkit2==2.5.0", "setuptools==69.5.1"),
    # What the toolkit's own bounds (torch <= 2.4.0, numpy <= 1.26.4, onnx 1.16.1 to 1.18.0, protobuf 4.21.6 to 4.25.4)
    # led to when the tests of this room were run, so that every installation gives the same files.
    constraints=(
        "fast-histogram==0.14",
        "filelock==4.2.11",
        "flatbuffers==25.12.19",
        "fsspec==2026.9.0",
        "jinja2==3.1.6",
        "markupsafe==3.0.4",
        "mpmath==1.3.0",
        "numpy==1.26.4",
        "onnx==1.18.0",
        "onnxruntime<=1.26.0",
        "opencv-python==4.11.0.86",
        "packaging==26.3",
        "protobuf==4.25.4",
        "psutil==7.2.2",
        "ruamel-yaml==0.19.1",
        "setuptools==69.5.1",
        "sympy==1.14.0",
        "torch==2.4.0",
        "tqdm==4.70.1",
        "typing-extensions==4.16.0",
    ),
    pythons=("3.11", "3.10", "3.12"),
    machines=("linux-x86_64", "linux-aarch64"),
    space=6 << 30,
    variables={"ORT_DISABLE_TELEMETRY": "1"},
)
"""``rknn-toolkit2`` has wheels for Python 3.6 to 3.12; these are the ones that its worker script is written for."""
