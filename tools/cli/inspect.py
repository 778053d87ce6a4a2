"""``fxc inspect``: what is inside a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fxc.tools.cli import mlpackage
from fxc.tools.cli import options as o
from fxc.tools.cli.output import Result, columns, facts, shape, size
from fxc.tools.cli.summary import summary_rows

if TYPE_CHECKING:
    from fxc.compiler.artifact import Artifact


def inspect_command(
    bundle: o.BundlePath,
    layers: Annotated[bool, typer.Option("--layers", help="List every conv, linear and matmul.")] = False,
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> Result:
    """Show what a bundle holds, every hash checked on the way; or what a Core ML package (.mlpackage) does."""
    if mlpackage.is_package(bundle):
        return Result(*mlpackage.described(bundle))
    from fxc.tools.cli.bundle import one_bundle

    artifact = one_bundle(bundle)
    sizes = {
        f.relative_to(bundle).as_posix(): f.stat().st_size for f in sorted(bundle.rglob("*")) if f.is_file()
    }
    document = {
        "path": str(bundle),
        "hashes": "match",
        "manifest": artifact.manifest,
        "report": artifact.report,
        "bytes": sizes,
    }
    return Result(document, "\n\n".join(part for part in parts(artifact, sizes, layers) if part))


def parts(artifact: Artifact, sizes: dict[str, int], layers: bool) -> list[str]:
    """The paragraphs of the human form."""
    report = artifact.report
    model, target, tools = report["model"], report["target"], report.get("tools") or {}
    head = f"{model['name']} for {target['name']} ({target['device']})"
    words = [
        *(("input", _tensor(t)) for t in model["inputs"]),
        *(("output", _tensor(t)) for t in model["outputs"]),
        ("parameters", f"{model['parameters']:,}"),
        ("work", f"{model['macs']:,} multiply-accumulates for one sample"),
        *summary_rows(artifact),
        ("made with", ", ".join(f"{name} {version}" for name, version in sorted(tools.items()))),
        ("hashes", "every file matches the manifest"),
    ]
    notes = [
        f"note: {_place(n)}{n['text']}" for n in report.get("notes", []) if n["kind"] in ("info", "warning")
    ]
    floats = [f"in float: {_place(n)}{n['reason']}" for n in report.get("float_tensors", [])]
    files = columns([(name, size(count)) for name, count in sizes.items()], ("file", "size"))
    table = (
        _layers(report["layers"]) if layers and report.get("layers") else _counts(report.get("layers") or [])
    )
    return [f"{head}\n{facts(words)}", table, "\n".join([*notes, *floats]), files]


def _tensor(spec: dict[str, Any]) -> str:
    return f"{spec['name']}: {spec['dtype']}{shape(spec['shape'])}"


def _place(note: dict[str, Any]) -> str:
    return f"{note['layer']}: " if note.get("layer") else ""


def _counts(layers: list[dict[str, Any]]) -> str:
    quantized = sum(bool(row.get("quantized")) for row in layers)
    return (
        f"{len(layers)} conv, linear and matmul layers, {quantized} quantized (--layers lists them)"
        if layers
        else ""
    )


def _layers(layers: list[dict[str, Any]]) -> str:
    rows = [
        (
            row["layer"],
            row["op"],
            (row.get("dtype") or "int8") if row["quantized"] else "float",
            f"{row['macs']:,}",
            "" if row.get("sqnr_db") is None else f"{row['sqnr_db']:.1f}",
            row.get("reason") or "",
        )
        for row in layers
    ]
    return columns(rows, ("layer", "operator", "codes", "MACs", "SQNR dB", "why float"))
