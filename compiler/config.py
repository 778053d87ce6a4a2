"""The user's say in quantization: the same words as keyword arguments, command-line flags and a YAML file.

```yaml
observer: mse                  # minmax | moving_average | percentile | mse | entropy | auto
percentile: 99.99              # with observer: percentile
equalize: true                 # even out channels whose ranges differ, where eight bits gain by it
bias_correction: empirical     # none | analytic (the default) | empirical
keep_float: ["classifier.*"]   # layers that stay in float, as shell patterns
layers:                        # per-layer overrides; later patterns win
  "features.0.*": {observer: percentile, percentile: 99.9}
  "head": {keep_float: true}
```
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import yaml

from fxc.compiler.errors import UsageError
from fxc.compiler.quant import OBSERVERS, Observer, QuantSpec

BIAS_CORRECTIONS = ("none", "analytic", "empirical")


@dataclass(frozen=True)
class LayerConfig:
    """Overrides for the layers that one pattern names; ``None`` leaves the target's choice.

    A percentile without an observer means ``observer="percentile"``.
    """

    keep_float: bool | None = None
    observer: Observer | None = None
    percentile: float | None = None

    def __post_init__(self) -> None:
        if self.observer is not None and self.observer not in OBSERVERS:
            raise UsageError(
                f"unknown observer {self.observer!r}", fix=f"known observers: {', '.join(OBSERVERS)}"
            )
        if self.percentile is not None and not 50.0 < self.percentile <= 100.0:
            raise UsageError(f"percentile must lie in (50, 100], got {self.percentile}")
        if self.percentile is not None and self.observer is None:
            # Said here, where nothing is merged yet: else another place's observer would make this percentile void.
            object.__setattr__(self, "observer", "percentile")


@dataclass(frozen=True)
class QuantConfig:
    """How the user wants a program quantized.

    Attributes:
        observer, percentile: how activation ranges are found, for every tensor; ``None`` is the target's default. A
            percentile without an observer means ``observer="percentile"``.
        keep_float: shell patterns (``fnmatch``) over layer names, ``"classifier.*"``.
        layers: pattern to overrides; where several match, later ones win.
        equalize: whether channels whose ranges differ are evened out first; ``None`` is yes.
        bias_correction: ``"none"``, ``"analytic"`` (from channel means) or ``"empirical"`` (from a few samples); ``None``
            is analytic.
    """

    observer: Observer | None = None
    percentile: float | None = None
    keep_float: tuple[str, ...] = ()
    layers: Mapping[str, LayerConfig] = field(default_factory=dict)
    equalize: bool | None = None
    bias_correction: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "observer", LayerConfig(None, self.observer, self.percentile).observer)
        if isinstance(self.keep_float, str) or not all(isinstance(p, str) for p in self.keep_float):
            raise UsageError("keep_float takes a list of layer patterns", fix='keep_float=["classifier.*"]')
        if self.equalize is not None and not isinstance(self.equalize, bool):
            raise UsageError(f"equalize takes true or false, got {self.equalize!r}")
        if self.bias_correction is not None and self.bias_correction not in BIAS_CORRECTIONS:
            known = ", ".join(BIAS_CORRECTIONS)
            raise UsageError(f"unknown bias_correction {self.bias_correction!r}", fix=f"known: {known}")

    @classmethod
    def parse(cls, mapping: Mapping[str, Any]) -> QuantConfig:
        """A config from plain data, such as a YAML file's.

        Raises:
            UsageError: an unknown word (nearest ones suggested) or a value of the wrong kind.
        """
        _known(mapping, [f.name for f in fields(cls)], "quantization config")
        layers = mapping.get("layers") or {}
        if not isinstance(layers, Mapping):
            raise UsageError("layers: takes a mapping from pattern to overrides")
        patterns = mapping.get("keep_float") or ()
        _one_observer(mapping, "quantization config")
        return cls(
            observer=mapping.get("observer"),
            percentile=_number(mapping.get("percentile")),
            keep_float=tuple(patterns) if not isinstance(patterns, str) else (patterns,),
            layers={str(k): _layer(str(k), v) for k, v in layers.items()},
            equalize=mapping.get("equalize"),
            bias_correction=mapping.get("bias_correction"),
        )

    @classmethod
    def read(cls, path: str | Path) -> QuantConfig:
        """A config from a YAML file.

        Raises:
            UsageError: unreadable file, not a mapping, or unknown words.
        """
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"cannot read the config {path}", why=str(error)) from error
        if not isinstance(data, Mapping):
            raise UsageError(f"{path}: a mapping is expected", fix="observer: mse")
        try:
            return cls.parse(data)
        except UsageError as error:
            raise UsageError(error.what, where=str(path), why=error.why, fix=error.fix) from error

    def merged(self, other: QuantConfig) -> QuantConfig:
        """This config with ``other``'s words on top."""
        return QuantConfig(
            observer=other.observer or self.observer,
            percentile=other.percentile if other.percentile is not None else self.percentile,
            keep_float=self.keep_float + other.keep_float,
            layers={**self.layers, **other.layers},
            equalize=other.equalize if other.equalize is not None else self.equalize,
            bias_correction=other.bias_correction or self.bias_correction,
        )

    def for_layer(self, names: tuple[str, ...]) -> LayerConfig:
        """The overrides that hold for a node with these layer names."""
        found = LayerConfig(observer=self.observer, percentile=self.percentile)
        for pattern, layer in self.layers.items():
            if any(fnmatchcase(name, pattern) for name in names):
                changes = {f.name: v for f in fields(layer) if (v := getattr(layer, f.name)) is not None}
                found = replace(found, **changes)
        if found.keep_float is None and any(fnmatchcase(n, p) for n in names for p in self.keep_float):
            found = replace(found, keep_float=True)
        return found

    def text(self) -> str:
        """Quoted JSON, for a pass's text form."""
        return json.dumps(json.dumps(asdict(self), sort_keys=True))

    def patterns(self) -> tuple[str, ...]:
        """Every pattern that must match some layer."""
        return (*self.keep_float, *self.layers)


def tuned(spec: QuantSpec, layer: LayerConfig) -> QuantSpec:
    """``spec`` with the observer that the user asked for; fixed ranges stay."""
    if spec.fixed is not None:
        return spec
    if layer.observer is not None:
        spec = replace(spec, observer=layer.observer)
    if layer.percentile is not None:
        spec = replace(spec, percentile=layer.percentile)
    return spec


def _layer(pattern: str, value: Any) -> LayerConfig:
    if not isinstance(value, Mapping):
        raise UsageError(f"layers: {pattern!r} takes a mapping", fix=f'"{pattern}": {{keep_float: true}}')
    _known(value, [f.name for f in fields(LayerConfig)], f"layers: {pattern!r}")
    keep = value.get("keep_float")
    if keep is not None and not isinstance(keep, bool):
        raise UsageError(f"layers: {pattern!r}: keep_float takes true or false, got {keep!r}")
    _one_observer(value, f"layers: {pattern!r}")
    return LayerConfig(keep, cast(Any, value.get("observer")), _number(value.get("percentile")))


def _one_observer(words: Mapping[str, Any], what: str) -> None:
    observer = words.get("observer")
    if words.get("percentile") is not None and observer not in (None, "percentile"):
        raise UsageError(
            f"{what}: a percentile does nothing with observer {observer!r}",
            fix="observer: percentile, or leave the percentile out",
        )


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"percentile takes a number, got {value!r}")
    return float(value)


def _known(mapping: Mapping[str, Any], words: list[str], what: str) -> None:
    for word in mapping:
        if word not in words:
            near = difflib.get_close_matches(str(word), words, n=1)
            raise UsageError(
                f"{what}: unknown word {word!r}",
                fix=f"did you mean {near[0]!r}?" if near else f"known words: {', '.join(words)}",
            )
