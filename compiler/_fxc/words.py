"""From the keyword arguments of the public functions to what the compiler works with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fxc.catalogue import Catalogue, resolve
from fxc.compiler.config import LayerConfig, QuantConfig
from fxc.compiler.errors import UsageError
from fxc.compiler.target import Target
from fxc.passes.image_input import CHANNELS, ImageInput


def names(word: str, given: Sequence[str] | None) -> tuple[str, ...]:
    """``given`` as a tuple; one name alone is a list of one.

    Raises:
        UsageError: something else than names.
    """
    if given is None or isinstance(given, str):
        return (given,) if given else ()
    if not isinstance(given, Iterable) or not all(isinstance(n, str) for n in given):
        raise UsageError(f"{word} takes a list of names, got {given!r}", fix=f'{word}=["…"]')
    return tuple(given)


def targets(catalogue: Catalogue, given: Any) -> tuple[Target, ...]:
    """The targets that a user names.

    Raises:
        UsageError: none, one of them twice, or an unknown one.
    """
    if isinstance(given, (str, Target)) or not isinstance(given, Iterable):
        return (_target(catalogue, given),)
    found = tuple(_target(catalogue, name) for name in given)
    if not found:
        raise UsageError("no target is given", fix='target="cpu-int8", or a list of them')
    known = [target.name for target in found]
    if twice := [name for name in known if known.count(name) > 1]:
        raise UsageError(f"the target {twice[0]} is given twice")
    return found


def _target(catalogue: Catalogue, given: Any) -> Target:
    return catalogue.target(given.name if isinstance(given, Target) else given)


def narrowed(catalogue: Catalogue, targets: Sequence[Target], given: Mapping[str, Any]) -> tuple[Target, ...]:
    """``targets`` for the versions of the devices' software that a user gave; those that do not know a word stay as they are.

    Args:
        given: word to version, ``{"jetpack": "6.2", "tensorrt": None}``.

    Raises:
        UsageError: a version that does not exist, that contradicts another, or a word that none of the targets knows.
    """
    said = {word: version for word, version in given.items() if version is not None}
    for word, version in said.items():
        _check_version(catalogue, targets, word, version)
    return tuple(_narrowed(target, said) for target in targets)


def device(
    labels: Sequence[str] | str | Path | None = None,
    about: Mapping[str, str] | None = None,
    ane: bool = False,
    **versions: str | None,
) -> dict[str, Any]:
    """What a user says of the device and its file, by the words that targets know; text each.

    Raises:
        UsageError: a value of the wrong kind, or a file of labels that cannot be read.
    """
    if not isinstance(ane, bool):
        raise UsageError(f"ane takes true or false, got {ane!r}")
    return {
        **versions,
        "ane": "on" if ane else None,
        "labels": None if labels is None else json.dumps(_labels(labels)),
        "about": None if about is None else json.dumps(_about(about)),
    }


def _labels(given: Sequence[str] | str | Path) -> list[str]:
    if isinstance(given, (str, Path)):
        try:
            text = Path(given).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"cannot read the labels {given}", why=str(error), fix="a text file with one class per line"
            ) from error
        return [line.strip() for line in text.splitlines() if line.strip()]
    found = list(given) if isinstance(given, Iterable) else [None]
    if not all(isinstance(label, str) for label in found):
        raise UsageError("labels takes one name for each class", fix='labels=["cat", "dog"], or a text file')
    return found


def _about(given: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(given, Mapping) or not all(isinstance(v, str) for v in (*given, *given.values())):
        raise UsageError(f"about takes texts by name, got {given!r}", fix='about={"author": "…"}')
    return dict(given)


def _check_version(catalogue: Catalogue, targets: Sequence[Target], word: str, version: Any) -> None:
    if not isinstance(version, str):
        raise UsageError(f"{word} takes a version as text, got {version!r}", fix=f'{word}="6.2"')
    if not any(word in target.versions.words for target in targets):
        takers = [t.name for t in catalogue.targets() if word in t.versions.words]
        raise UsageError(
            f"{word} {version if len(version) < 20 else '…'} says nothing about {', '.join(t.name for t in targets)}",
            fix=f"leave it out, or choose of {', '.join(takers) or 'no target'}",
        )


def _narrowed(target: Target, said: Mapping[str, str]) -> Target:
    own = {word: version for word, version in said.items() if word in target.versions.words}
    if not own:
        return target
    found = resolve(target.versions.narrow)(target, own)
    assert isinstance(found, Target)
    return found


def quantization(
    base: QuantConfig | Mapping[str, Any] | None, layers: Mapping[str, Any] | None, **words: Any
) -> QuantConfig:
    """The user's config, the single words on top.

    Raises:
        UsageError: an unknown word or a value of the wrong kind.
    """
    if isinstance(base, Mapping):
        base = QuantConfig.parse(base)
    if base is not None and not isinstance(base, QuantConfig):
        raise UsageError(f"quantization takes a QuantConfig or a mapping, got {type(base).__name__}")
    if layers is not None and not isinstance(layers, Mapping):
        raise UsageError(
            f"layers takes a mapping from pattern to overrides, got {type(layers).__name__}",
            fix='layers={"head.*": {"observer": "mse"}}',
        )
    plain = {k: v if not isinstance(v, LayerConfig) else vars(v) for k, v in (layers or {}).items()}
    return (base or QuantConfig()).merged(QuantConfig.parse({**words, "layers": plain}))


def preprocessing(given: Mapping[str, Any] | None, image_input: str | None) -> dict[str, Any]:
    """What a manifest says of how an image becomes an input.

    Raises:
        UsageError: no mapping.
    """
    if given is not None and not isinstance(given, Mapping):
        raise UsageError(f"preprocessing takes a mapping, got {type(given).__name__}")
    facts = {key: value for key, value in (given or {}).items() if key != "image_input"}
    return {**facts, "image_input": image_input} if image_input else facts


def image_input(order: str | None, preprocessing: Mapping[str, Any] | None) -> ImageInput | None:
    """What turns a model's input into an image of bytes; ``None`` if the user did not ask for it.

    Raises:
        UsageError: an unknown order, or no numbers to normalise by.
    """
    if order is None:
        return None
    known = preprocessing or {}
    if not isinstance(order, str) or order not in CHANNELS:
        raise UsageError(
            f"image_input={order!r} is no order of channels", fix=f"one of {', '.join(map(repr, CHANNELS))}"
        )
    if not {"mean", "std"} <= set(known):
        raise UsageError(
            f"image_input={order!r} needs to know how an image is normalised",
            why="mean and std are those of (x / 255 - mean) / std, one value per channel in the model's order",
            fix='image_input="rgb", preprocessing={"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}',
        )
    return ImageInput(order, *(_numbers(word, known[word]) for word in ("mean", "std")))


def _numbers(word: str, values: Any) -> tuple[float, ...]:
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"preprocessing: {word} takes one number per channel, got {values!r}") from error
    if not all(math.isfinite(value) for value in found):
        raise UsageError(f"preprocessing: {word} takes finite numbers, got {values!r}")
    return found
