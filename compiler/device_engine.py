"""What a room gives back that built and ran an engine on this machine, for a bundle's recorded inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class EngineLayer:
    """One layer of an engine, as the toolchain describes it.

    Attributes:
        name: the toolchain's own.
        kind: its type there.
        precision: what it computes in: ``"int8"``, ``"fp16"``, ``"bf16"``, ``"fp32"``, …; ``"unknown"`` if nothing says it.
        parts: names of the nodes of the model file that became part of it.
        implementation: the kernel, in the toolchain's words.
    """

    name: str
    kind: str
    precision: str
    parts: tuple[str, ...] = ()
    implementation: str = ""


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that was built and run here.

    Attributes:
        file: the engine.
        outputs: the folder of its answers, as ``fxc verify --device-outputs`` reads it.
        layers: all that compute; empty where the toolchain describes none.
        missed: layers that the model file asks to run on integers and that do not, with what they run in.
        said: what else there is to know, in sentences.
        tools: versions of what took part.
    """

    file: Path
    outputs: Path
    layers: tuple[EngineLayer, ...] = ()
    missed: Mapping[str, str] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
