"""The options that several commands share, so that a word means the same in each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fxc.compiler.errors import UsageError


def target_names(incomplete: str) -> list[str]:
    """Target names that begin with what was typed, for shell completion."""
    import fxc

    return [t.name for t in fxc.targets() if t.name.startswith(incomplete)]


ModelText = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="torchvision:NAME, file.py:factory, file.pt2, or a folder that 'fxc prune' wrote.",
        show_default=False,
    ),
]
BundlePath = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="Folder that 'fxc compile' wrote.", show_default=False)
]
TargetName = Annotated[
    str,
    typer.Option(
        "--target", "-t", help="What to compile for; 'fxc targets' lists them.", autocompletion=target_names
    ),
]
TargetNames = Annotated[
    list[str],
    typer.Option(
        "--target",
        "-t",
        help="What to compile for; 'fxc targets' lists them. Repeat it: one capture, one calibration, one report.",
        autocompletion=target_names,
    ),
]
JetPack = Annotated[
    str | None,
    typer.Option(
        "--jetpack",
        metavar="X.Y",
        help="JetPack on the Jetson: 4.6, 5.0, 5.1, 6.0, 6.1, 6.2, 7.0 or 7.2. Makes the bundle for it alone.",
    ),
]
TensorRT = Annotated[
    str | None,
    typer.Option(
        "--tensorrt",
        metavar="X.Y",
        help="TensorRT on the device: 8.5, 10.3, 11.4. Makes the bundle for it alone.",
    ),
]
IOS = Annotated[
    str | None,
    typer.Option("--ios", metavar="N", help="Oldest iOS that a Core ML model is for: 15, 16, 17 or 18."),
]
Ane = Annotated[
    bool,
    typer.Option("--ane", help="Write a Core ML model as the Neural Engine likes it, its numbers unchanged."),
]
Batches = Annotated[
    str | None,
    typer.Option(
        "--batches", metavar="N,N|N..N", help="Batch sizes that a Core ML model takes: 1,4,8, or 1..8. [1]"
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option("--labels", metavar="FILE", help="Classes of a Core ML classifier, one per line."),
]
About = Annotated[
    list[str] | None,
    typer.Option(
        "--about",
        metavar="KEY=TEXT",
        help="Of a Core ML model: author=…, license=…, description=…, version=… Repeat it.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="Of a torchvision model: a weight's name, DEFAULT, none (random), or a .pt or .safetensors file.",
    ),
]
InputShapes = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        metavar="[NAME=]N,N,..[:DTYPE]",
        help="Shape of an input, batch included: 1,3,224,224. Repeat it for several inputs.",
    ),
]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Fix the batch to this size.")]
StaticBatch = Annotated[bool, typer.Option("--static-batch", help="Fix the batch to the example's.")]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--outputs", metavar="NAME", help="Cut the graph at this layer (a detector's tail). Repeat it."
    ),
]
KeepFloat = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-float", metavar="PATTERN", help="Layers that stay in float: 'classifier.*'. Repeat it."
    ),
]
Observer = Annotated[
    str | None,
    typer.Option(
        "--observer", help="How ranges are found: minmax, moving_average, percentile, mse, entropy, or auto."
    ),
]
Percentile = Annotated[
    float | None, typer.Option("--percentile", help="In percent, for the percentile observer: 99.99.")
]
Equalize = Annotated[
    bool | None,
    typer.Option(
        "--equalize/--no-equalize",
        help="Even out channels whose ranges differ, where eight bits gain by it. [equalize]",
        show_default=False,
    ),
]
BiasCorrection = Annotated[
    str | None,
    typer.Option(
        "--bias-correction", metavar="HOW", help="none, analytic or empirical. [analytic]", show_default=False
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE.yaml", help="The words of quantization; flags win over it."),
]
DataText = Annotated[
    str | None,
    typer.Option(
        "--calibration-data",
        "--data",
        metavar="DATA",
        help="A folder of images, .npy, .npz, .pt, file.py:iterable, or statistics of 'fxc calibrate'.",
    ),
]
RequiredData = Annotated[
    str,
    typer.Option(
        "--calibration-data",
        "--data",
        metavar="DATA",
        help="A folder of images, .npy, .npz, .pt, or file.py:iterable.",
        show_default=False,
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option("--skip", metavar="PASS", help="Leave an optimization out. Repeat it."),
]
Name = Annotated[str | None, typer.Option("--name", help="The model's name in reports and files.")]
Mean = Annotated[
    str | None, typer.Option("--mean", metavar="M,M,M", help="Per channel, for images scaled to [0, 1].")
]
Std = Annotated[str | None, typer.Option("--std", metavar="S,S,S", help="Per channel.")]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="N[,N]", help="Side of the centre crop (height,width), pixels."),
]
ImageInput = Annotated[
    str | None,
    typer.Option(
        "--image-input",
        metavar="rgb|bgr|gray",
        help="The result takes uint8 images and normalises them itself, by --mean and --std or the weights' own.",
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Most samples that are used.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Load a .pt2 that could run code. Only for files that are your own.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the Python traceback of an error.")]


def floats(text: str | None, option: str) -> tuple[float, ...] | None:
    """``"0.5,0.5,0.5"`` as numbers.

    Raises:
        UsageError: not numbers.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} takes numbers between commas, got {text!r}") from error


def texts(given: list[str] | None, option: str) -> dict[str, str] | None:
    """``["author=Me"]`` as a mapping.

    Raises:
        UsageError: something without a key.
    """
    pairs = [text.partition("=") for text in given or ()]
    for key, mark, _ in pairs:
        if not key or not mark:
            raise UsageError(f"{option} takes KEY=TEXT, got {key!r}", fix=f'{option} author="…"')
    return {key: text for key, _, text in pairs} or None


def sizes(text: str | None, option: str) -> tuple[int, ...] | None:
    """``"224"`` or ``"192x320"`` as one or two positive integers.

    Raises:
        UsageError: anything else.
    """
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if len(parts) > 2 or not all(p.strip().isdecimal() and int(p) > 0 for p in parts):
        raise UsageError(f"{option} takes one or two positive integers, got {text!r}", fix=f"{option} 224")
    return tuple(int(p) for p in parts)
