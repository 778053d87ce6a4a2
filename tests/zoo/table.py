"""``tests/zoo/zoo.md`` from stored results: the bars first, then every model by family."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tests.zoo.bars import judge, unmeasured
from tests.zoo.store import Result

FAMILIES = {
    "AlexNet, VGG": ("alexnet", "vgg"),
    "SqueezeNet": ("squeezenet",),
    "Inception": ("googlenet", "inception"),
    "ResNet": ("resnet", "resnext", "wide_resnet"),
    "DenseNet": ("densenet",),
    "MobileNet, MnasNet, ShuffleNet": ("mobilenet", "mnasnet", "shufflenet"),
    "EfficientNet": ("efficientnet",),
    "RegNet": ("regnet",),
    "ConvNeXt": ("convnext",),
    "Transformers": ("vit", "swin", "maxvit"),
    "Segmentation and detection": ("fcn", "deeplabv3", "lraspp", "yolo"),
}
COLUMNS = (
    "model | px | M par | GMAC | images | float error | norms | cpu-int8 dB graph / file | MACs | "
    "ort-int8 dB graph / file | MACs | size | codes | compile s | peak GB"
)


def render(
    title: str, results: Sequence[Result], missing: Sequence[str], command: str, facts: Sequence[str] = ()
) -> str:
    """The whole page.

    Args:
        results: measured or failed models.
        missing: names that this sweep has not reached yet.
        command: that rewrites the page.
        facts: lines about how the sweep was run.
    """
    parts = [f"# {title}", _intro(command), *facts, _bars(results, missing), _left_norms(results)]
    parts += [_family(name, prefixes, results) for name, prefixes in FAMILIES.items()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _intro(command: str) -> str:
    return (
        f"Rewritten by `{command}`. Livened random weights, one process per model; read the decibels as agreement between\n"
        "graph and file, not as a trained model's accuracy: random weights amplify noise. *float error* is that of the\n"
        "optimized float program against the eager module, the larger of ‖a−b‖₂/‖b‖₂ and max|a−b|/max|b|. *norms* are the\n"
        "batch norms folded of those in the captured graph. *dB* is the SQNR of the outputs (of several, the worst)\n"
        "against the eager float module on held-out images: of the quantized graph in PyTorch, then of the emitted file,\n"
        "read back, in its runtime. *MACs* is the share of conv, linear and matmul multiply-accumulates that the runtime\n"
        "itself reports as integer kernels; a star marks pure conv nets, whose graph has no layer norm and no attention.\n"
        "*size* is the file's bytes over the float weights'. *codes*: quantized tensors compared one by one in ONNX\n"
        "Runtime on the graph's own inputs, the largest difference, and the share that differs. *compile s* is processor\n"
        "time of compiling for both targets from one capture and one calibration, capture not counted, and *peak GB* the\n"
        "highest resident memory meanwhile, eager module included. *images* are those of calibration and those held out."
    )


def _bars(results: Sequence[Result], missing: Sequence[str]) -> str:
    failed = unmeasured(results)
    measured = len(results) - len(failed)
    lines = ["## Bars", "", "| bar | holds | exceptions |", "|---|---|---|"]
    lines.append(f"| captured, compiled and run | {measured} of {len(results)} | {_exceptions(failed)} |")
    lines += [f"| {v.bar.text} | {v.held} of {v.judged} | {_exceptions(v.broken)} |" for v in judge(results)]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)}."]
    return "\n".join(lines)


def _exceptions(broken: dict[str, str]) -> str:
    return "; ".join(f"{name}: {_cell(reason)}" for name, reason in broken.items())


def _left_norms(results: Iterable[Result]) -> str:
    rows = [result.row for result in results if result.row is not None]
    total = sum(row["norms"]["total"] for row in rows)
    folded = sum(row["norms"]["folded"] for row in rows)
    reasons: Counter[str] = Counter()
    for row in rows:
        reasons.update(row["norms"]["reasons"])
    text = f"Of {total} batch norms {folded} are folded"
    if not reasons:
        return f"{text}."
    why = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{text}. No layer beside them can take the others, which become one scale and one shift: {why}."


def _family(title: str, prefixes: tuple[str, ...], results: Sequence[Result]) -> str:
    mine = [result for result in results if result.name.startswith(prefixes)]
    if not mine:
        return ""
    mine.sort(key=lambda result: (result.row is None, (result.row or {}).get("macs", 0), result.name))
    head = [f"## {title}", "", f"| {COLUMNS} |", "|" + "---|" * (COLUMNS.count("|") + 1)]
    return "\n".join(head + [line(result) for result in mine])


def line(result: Result) -> str:
    """One row of the table."""
    row = result.row
    if row is None:
        return f"| {result.name} | failed: {_cell(result.reason)} |" + "|" * (COLUMNS.count("|") - 1)
    ov, ort = row["targets"]["cpu-int8"], row["targets"]["ort-int8"]
    cells = [
        row["name"] + ("\\*" if row["pure_conv"] else ""),
        str(row["resolution"]) + ("" if row["dynamic"] else " fixed batch"),
        f"{row['parameters'] / 1e6:.1f}",
        f"{row['macs'] / 1e9:.2f}",
        f"{row['calibration']} / {row['held_out']}",
        f"{max(row['error_l2'], row['error_max']):.1e}",
        f"{row['norms']['folded']} / {row['norms']['total']}" if row["norms"]["total"] else "–",
        *(_decibels(ov), _share(ov["coverage"]), _decibels(ort), _share(ort["coverage"])),
        f"{ov['ratio']:.3f}",
        f"{row['layers']}, {row['worst']}, {row['flips']:.0e}",
        f"{row['spent']['cpu_seconds']:.0f}",
        "–" if row["spent"]["peak_gb"] is None else f"{row['spent']['peak_gb']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _decibels(target: dict[str, Any]) -> str:
    return f"{target['graph_db']:.2f} / {target['file_db']:.2f}"


def _share(coverage: float | None) -> str:
    return "unknown" if coverage is None else f"{coverage:.2%}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
