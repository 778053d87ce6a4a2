"""What a number was measured on. Torch-free."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "onnxscript", "openvino", "nncf", "numpy")
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16")


def facts(threads: int) -> dict[str, str]:
    """Processor, cores, load, threads and versions, in words."""
    name, flags = _processor()
    return {
        "processor": f"{name} ({', '.join(f for f in _FLAGS if f in flags) or 'no vector flags known'})",
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} usable",
        "load average": f"{os.getloadavg()[0]:.1f} when it ended" if hasattr(os, "getloadavg") else "unknown",
        "threads": f"{threads} for torch, OpenVINO and ONNX Runtime alike",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }


def listed(found: Mapping[str, str]) -> str:
    """The facts as a list in Markdown."""
    return "\n".join(f"- {name}: {text}" for name, text in found.items())


def _processor() -> tuple[str, set[str]]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    pairs = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]
    known = dict(reversed(pairs))
    return known.get("model name") or platform.processor() or platform.machine(), set(
        known.get("flags", "").split()
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
