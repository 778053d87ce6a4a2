"""The table of a sweep: ``tests/zoo/random.md``."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Summary:
    """What the examples of a sweep showed, together."""

    models: int = 0
    operators: Counter[str] = field(default_factory=Counter)
    models_with: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, line: dict[str, Any]) -> None:
        """One example."""
        self.models += 1
        self.steps.update(line.get("steps", ()))
        self.operators.update(line.get("operators", {}))
        self.models_with.update(line.get("operators", {}).keys())
        self.counts.update(line.get("counts", {}))
        self.seconds.update(line.get("seconds", {}))
        for kind, value in ({} if line.get("fault") else line.get("worst", {})).items():
            self.worst[kind] = max(self.worst.get(kind, 0.0), value)
        if "error" in line:
            (self.faults if line["fault"] else self.failures).append(line)


def gather(folder: Path, first: int, examples: int) -> Summary:
    """Everything that is stored of examples ``first`` to ``first + examples``."""
    summary = Summary()
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if first <= line["index"] < first + examples:
                summary.add(line)
    return summary


def broken(path: Path) -> list[int]:
    """Examples in a file of results that broke a promise."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [line["index"] for line in lines if "error" in line and not line["fault"]]


def verdict(s: Summary, examples: int) -> str:
    """What it came to, in one line."""
    which = ", ".join(str(line["index"]) for line in s.failures)
    promises = f"{len(s.failures)} broke a promise: {which}" if which else "every promise held"
    return f"{s.models} of {examples} models ran; {promises}; OpenVINO's own faults: {len(s.faults)}"


def render(summary: Summary, examples: int, seed: int, code: str, hundreds: list[str]) -> str:
    """The page as Markdown; ``code`` is the version of what ran, ``hundreds`` the operators in the models of ``make test``."""
    return "\n".join(
        [
            *_head(summary, examples, seed, code),
            *_stages(summary),
            *_operators(summary, hundreds),
            *_failures(summary),
        ]
    )


def _head(s: Summary, examples: int, seed: int, code: str) -> list[str]:
    steps = sum(s.steps.values())
    codes, differ = s.counts["ort-int8 codes"], s.counts["ort-int8 codes that differ"]
    return [
        "# Random models",
        "",
        "Each is made of operators that were drawn at random, with their shapes and parameters, and taken through capture,",
        "every pass (its promise checked, and `modified` by structural hash), both rooms' rules, and float and int8 files in",
        f"ONNX Runtime and OpenVINO. Rewritten by `python -m tests.random.sweep`. Code {code}.",
        "",
        f"- **{s.models} of {examples} models** (seed {seed}) with {steps} steps of {len(s.steps)} kinds; "
        f"**{len(s.operators)} ATen operators** in the captured graphs",
        f"- **{len(s.failures)} promises broken**; {len(s.faults)} models on which OpenVINO "
        "fails, or differs, while ONNX Runtime computes the same file rightly",
        f"- {s.counts['ort-int8 tensors']} quantized tensors compared code by code in ONNX Runtime: largest difference "
        f"{s.worst.get('ort-int8 codes', 0):.0f}, {differ} of {codes} codes differ, "
        f"{s.counts['ort-int8 codes left open']} of them because the value lies within float rounding of a border",
        f"- {s.counts['ort-int8 outputs']} int8 outputs held against the quantized graph's distance to float in ONNX Runtime, "
        f"{s.counts['cpu-int8 outputs']} in OpenVINO",
        f"- {sum(s.seconds.values()) / max(s.models, 1):.3f} s of processor time per model",
        "",
    ]


def _stages(s: Summary) -> list[str]:
    lines = ["| stage | seconds per model | largest float error |", "|---|---|---|"]
    for name, seconds in s.seconds.items():
        worst = s.worst.get(name)
        lines.append(f"| {name} | {seconds / s.models:.4f} | {'' if worst is None else f'{worst:.1e}'} |")
    return [*lines, ""]


def _operators(s: Summary, hundreds: list[str]) -> list[str]:
    lines = ["## Operators in the captured graphs", ""]
    if hundreds:
        lines += [f"{len(hundreds)} of them are in the two hundred models of `make test` too.", ""]
    lines += ["| operator | nodes | models | in `make test` |", "|---|---|---|---|"]
    for name in sorted({*s.operators, *hundreds}):
        lines.append(
            f"| {name} | {s.operators[name]} | {s.models_with[name]} | {'yes' if name in hundreds else ''} |"
        )
    return [*lines, ""]


def _failures(s: Summary) -> list[str]:
    lines = [*_listed("Promises broken", s.failures)]
    return [*lines, *_listed("Files that ONNX Runtime computes rightly and OpenVINO does not", s.faults)]


def _listed(title: str, found: list[dict[str, Any]]) -> list[str]:
    lines = [f"## {title}", ""]
    for line in found:
        first = line["error"].strip().splitlines()[0]
        lines += [f"{line['index']}: {first}", "", "```python", line.get("spec", ""), "```", ""]
    return [*lines, *([] if found else ["none", ""])]
