"""What one child process is asked to do, as plain data. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

DEFAULT = "fxc"
"""The contestant with fxc's defaults; ``fxc:<name>`` are variants of it."""


@dataclass(frozen=True)
class Plan:
    """One model under measurement.

    Attributes:
        model: a torchvision name, or ``file.py:factory``, ``file.py:factory(argument)``.
        contestants: who takes part, fxc first.
        variants: quantization words (as :func:`fxc.compile` takes them) of the contestants ``fxc:<name>``.
        data: ``file.py:function`` that gives images (``function(n, resolution, seed=…)``), the tool's own if empty.
        rounds: measured rounds, after one that warms up.
        calls: timed inferences in a round of latency.
        cold: fresh processes per contestant.
        resolution: side of the square images.
        images, batch: calibration images, and how many go through torch at once.
        held_out: images on which quality is judged.
        threads: of torch, OpenVINO and ONNX Runtime alike.
        hints: OpenVINO's ``INFERENCE_PRECISION_HINT`` values to time at.
    """

    model: str
    contestants: tuple[str, ...] = (DEFAULT,)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: str = ""
    rounds: int = 10
    calls: int = 20
    cold: int = 3
    resolution: int = 224
    images: int = 32
    batch: int = 8
    held_out: int = 32
    threads: int = 2
    hints: tuple[str, ...] = ("f32",)

    def text(self) -> str:
        """JSON, for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Plan:
        """The plan that :meth:`text` wrote."""
        raw = json.loads(text)
        return cls(**{**raw, "contestants": tuple(raw["contestants"]), "hints": tuple(raw["hints"])})

    def options(self, contestant: str) -> Mapping[str, Any]:
        """The quantization words of ``contestant``; none for a peer."""
        return self.variants.get(contestant.partition(":")[2], {})
