"""A report as ``compile`` writes it, made by hand: a small net, every section filled."""

from __future__ import annotations

from typing import Any

REASONS = {
    "head.softmax": "softmax stays in float: the runtime has no integer kernel for it",
    "stem.hardswish": "hardswish reads an 8-bit tensor but its output range is not shared",
}


def sample_report(layers: int = 9) -> dict[str, Any]:
    """``layers`` convolutions, the last but one in float, and one linear."""
    rows = [_conv(i) for i in range(layers)]
    rows[-2] |= {"quantized": False, "reason": "keep_float matches layer*", "sqnr_db": None}
    for key in ("scale", "zero_point", "dtype"):
        rows[-2].pop(key)
    rows.append({**_conv(3), "layer": "head", "op": "linear", "macs": 5120, "sqnr_db": 29.4})
    names = [f"block{i}.add" for i in range(layers + 6)]
    tensors = [
        {"layer": n, "reason": "only one of the two inputs of the addition is on integers"} for n in names
    ]
    return {
        "format": 1,
        "model": {
            "name": "DigitsNet",
            "parameters": 10409418,
            "macs": 69248000,
            "inputs": [{"name": "image", "shape": ["batch", 1, 8, 8], "dtype": "float32"}],
            "outputs": [{"name": "logits", "shape": ["batch", 10], "dtype": "float32"}],
            "dynamic_batch": True,
        },
        "target": {"name": "cpu-int8", "device": "x86-64 CPU", "precision": "int8", "notes": "OpenVINO"},
        "passes": [
            {"pass": "canonicalize", "modified": True, "drift": 0.0},
            {"pass": "fold_batch_norm", "modified": True, "drift": 3.2e-7},
            {"pass": "insert_qdq{share_ratio=4.0}", "modified": True, "drift": None},
            {"pass": "common_subexpressions", "modified": False, "drift": None},
        ],
        "notes": [
            {
                "kind": "info",
                "text": "captured by torch.export with a dynamic batch",
                "layer": None,
                "by": "capture",
            },
            {
                "kind": "declined",
                "text": "the sum has two consumers",
                "layer": "block1.add",
                "by": "fuse_add",
            },
            {
                "kind": "declined",
                "text": "the sum has two consumers",
                "layer": "block2.add",
                "by": "fuse_add",
            },
        ],
        "calibration": {"source": "data", "said": "calibration data", "images": 256},
        "layers": rows,
        "float_tensors": tensors + [{"layer": k, "reason": v} for k, v in REASONS.items()],
        "accuracy": {
            "outputs": [{"name": "logits", "graph_db": 31.42, "file_db": 31.4, "lost_db": 0.02}],
            "samples": 4,
            "how": "measured on this host: the emitted file, read back from disk, against the float program",
        },
        "kernels": {
            "integer": 14,
            "float": 1,
            "macs": 69248000,
            "mac_coverage": 0.9987,
            "by_implementation": {"Convolution brgconv_avx512_I8": 13, "FullyConnected brgemm_avx512_F32": 1},
            "float_layers": ["layer7.conv"],
        },
        "size": {
            "float_weights_bytes": 41637672,
            "model_bytes": 10519000,
            "ratio": 0.2526,
            "files": ["model.onnx"],
        },
        "tools": {"torch": "2.15.0", "onnx": "1.19.0", "openvino": "2026.1"},
    }


def _conv(index: int) -> dict[str, Any]:
    return {
        "layer": f"layers.{index}.conv1",
        "op": "conv2d",
        "macs": 4_000_000 * (1 + index % 3),
        "quantized": True,
        "reason": None,
        "sqnr_db": 41.0 - 1.3 * index + 2 * (index % 2),
        "scale": 0.01957,
        "zero_point": 0,
        "dtype": "uint8",
    }
