"""The path that ONNX Runtime's documentation describes for static quantization on x86."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from fxc.tools.bench.clock import Laps
from fxc.tools.bench.contestants import Built
from fxc.tools.bench.subject import Subject


class _Reader(CalibrationDataReader):
    """One image at a time: the exported model has batch 1."""

    def __init__(self, subject: Subject, name: str):
        self._feeds: Iterator[dict[str, Any]] = ({name: x.numpy()} for x in subject.calibration.split(1))

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def build(subject: Subject, folder: Path, options: Mapping[str, Any]) -> Built:
    """Export, prepare, quantize. u8 activations, s8 weights: the guide's choice for x86 with VNNI."""
    exported, prepared, quantized = (folder / f"{n}.onnx" for n in ("exported", "prepared", "int8"))
    laps = Laps()
    with laps("export"):
        program = torch.onnx.export(
            subject.model, (subject.example,), exported, dynamo=True, verbose=False, input_names=["input"]
        )
        del program
    with laps("quant_pre_process"):
        quant_pre_process(str(exported), str(prepared))
    with laps("quantize_static"):
        quantize_static(
            str(prepared),
            str(quantized),
            _Reader(subject, "input"),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return Built(quantized, laps.seconds)
