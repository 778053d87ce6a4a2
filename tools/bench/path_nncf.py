"""The path that NNCF's examples describe for OpenVINO: convert, quantize the OpenVINO model, save."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openvino as ov
import torch

from fxc.tools.bench.clock import Laps
from fxc.tools.bench.contestants import Built
from fxc.tools.bench.subject import Subject


def build(subject: Subject, folder: Path, options: Mapping[str, Any]) -> Built:
    """Convert, quantize with the default preset (which corrects biases), save in float32."""
    # Of the peers' extra, which the rest of the tool does without. Its import is no part of the measured time.
    import nncf

    file = folder / "int8.xml"
    laps = Laps()
    with laps("convert"), torch.no_grad():
        # With gradients the trace of an attention layer differs from its own check, which runs without them.
        model = ov.convert_model(subject.model, example_input=subject.example)
    with laps("quantize"):
        # One image per step: NNCF's guide says that larger batches give wrong statistics on transformers.
        images = [x.numpy() for x in subject.calibration.split(1)]
        quantized = nncf.quantize(
            model,
            nncf.Dataset(images),
            subset_size=len(images),
            model_type=nncf.ModelType.TRANSFORMER if subject.attention else None,
        )
    with laps("save"):
        ov.save_model(quantized, file, compress_to_fp16=False)
    return Built(file, laps.seconds)
