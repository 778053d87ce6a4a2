"""Output SQNR and integer coverage: fxc and its variants against ONNX Runtime's file and NNCF's model. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxc.tools.bench import child
from fxc.tools.bench.contestants import PEERS, title
from fxc.tools.bench.figures import lead_interval
from fxc.tools.bench.plan import DEFAULT, Plan
from fxc.tools.bench.table import Table, failure, number

MODELS = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "vit_b_16",
    "swin_t",
)
LEAD = 0.5
"""dB that the best variant must lead the better peer by; the default must not be behind."""


def run(plan: Plan, log: Path) -> dict[str, Any]:
    """Measure one model; see :func:`fxc.tools.bench.job_quality.measure`."""
    return child.measure("fxc.tools.bench.job_quality:measure", plan, log)


def own(name: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A contestant's outputs in the runtime it made its file for: ONNX Runtime for ``ort``, else OpenVINO."""
    found: Mapping[str, Any] = (
        row.get("contestants", {}).get(name, {}).get("ort" if name == "ort" else "openvino", {})
    )
    return found


def better_peer(row: Mapping[str, Any]) -> str | None:
    """The peer with the higher SQNR, each in its own runtime."""
    present = [name for name in PEERS if "db" in own(name, row)]
    return max(present, key=lambda name: float(own(name, row)["db"]), default=None)


def lead(name: str, row: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """dB by which ``name`` leads the better peer, with its 95 % interval over the images."""
    peer = better_peer(row)
    if peer is None or "db" not in own(name, row):
        return None
    low, high = lead_interval(row["signal"], own(name, row)["noise"], own(peer, row)["noise"])
    return float(own(name, row)["db"] - own(peer, row)["db"]), low, high


def tables(plans: Mapping[str, Plan], rows: Mapping[str, Any]) -> list[Table]:
    """SQNR and lead, then coverage."""
    plan = next(iter(plans.values()))
    return [_quality(plan, rows), _coverage(plan, rows)]


def _quality(plan: Plan, rows: Mapping[str, Any]) -> Table:
    ours = [n for n in plan.contestants if n.partition(":")[0] == DEFAULT]
    heads = [
        "model",
        *(f"{title(n)} dB" for n in plan.contestants),
        *(f"{title(n)} lead (95 %)" for n in ours),
        "best",
    ]
    lines = [
        [model, *(_db(row, n) for n in plan.contestants), *(_lead(row, n) for n in ours), _best(row, ours)]
        for model, row in rows.items()
    ]
    notes = [
        f"SQNR of the outputs against the eager float module over {plan.held_out} held-out images; f32 hint. ORT's file runs in "
        "ONNX Runtime (in brackets: in OpenVINO), the others in OpenVINO. The lead is over the better peer; its interval is a "
        "bootstrap over the images, drawn alike for both.",
        *_verdicts(rows, ours),
    ]
    return Table("Output quality", heads, lines, notes)


def _verdicts(rows: Mapping[str, Any], ours: list[str]) -> list[str]:
    behind, short = [], []
    for model, row in rows.items():
        leads = {n: found[0] for n in ours if (found := lead(n, row)) is not None}
        if DEFAULT in leads and leads[DEFAULT] < 0.0:
            behind.append(f"{model} {leads[DEFAULT]:+.2f} dB")
        if leads and max(leads.values()) < LEAD:
            short.append(f"{model} {max(leads.values()):+.2f} dB")
    compared = any(lead(DEFAULT, row) is not None for row in rows.values())
    return [
        _verdict("the default is not behind the better peer", behind),
        _verdict(f"the best of ours leads by {LEAD} dB or more", short),
    ] * compared


def _verdict(what: str, exceptions: list[str]) -> str:
    return f"✗ {what}: but {', '.join(exceptions)}" if exceptions else f"✓ {what}"


def _db(row: Mapping[str, Any], name: str) -> str:
    mine = own(name, row)
    if "db" not in mine:
        return failure(
            {**row.get("contestants", {}), **{k: v for k, v in row.items() if k == "failed"}}, name
        )
    other = row["contestants"][name].get("openvino", {}) if name == "ort" else {}
    return f"{mine['db']:.2f}" + (f" ({other['db']:.2f})" if other else "")


def _lead(row: Mapping[str, Any], name: str) -> str:
    found = lead(name, row)
    return "–" if found is None else f"{found[0]:+.2f} ({found[1]:+.2f} … {found[2]:+.2f})"


def _best(row: Mapping[str, Any], ours: list[str]) -> str:
    present = [n for n in ours if "db" in own(n, row)]
    return title(max(present, key=lambda n: float(own(n, row)["db"]))) if present else "–"


def _coverage(plan: Plan, rows: Mapping[str, Any]) -> Table:
    heads = ["model", *(f"{title(n)} MACs / MB" for n in plan.contestants)]
    lines = [[model, *(_share(row, n) for n in plan.contestants)] for model, row in rows.items()]
    note = (
        "Share of multiply-accumulates (convolution, matmul, attention) of each file that OpenVINO compiles to kernels with "
        "integer inputs, counted alike for all; size of the file."
    )
    return Table("Integer coverage in OpenVINO", heads, lines, [note, *_uncovered(rows)])


def _share(row: Mapping[str, Any], name: str) -> str:
    found = row.get("contestants", {}).get(name, {})
    if found.get("coverage") is None:
        return "–"
    return f"{found['coverage']:.2%} / {number(found['megabytes'], 1)}"


def _uncovered(rows: Mapping[str, Any]) -> list[str]:
    pairs = {
        model: [row.get("contestants", {}).get(n, {}).get("coverage") for n in (DEFAULT, "nncf")]
        for model, row in rows.items()
    }
    known = {model: pair for model, pair in pairs.items() if None not in pair}
    below = [
        f"{m} {ours:.2%} against {theirs:.2%}" for m, (ours, theirs) in known.items() if ours < theirs - 1e-4
    ]
    return [_verdict("coverage is not below NNCF's", below)] if known else []
