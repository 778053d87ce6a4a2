"""From a model argument to a model that can be captured."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from fxc.compiler.errors import ArtifactError, UsageError
from fxc.compiler.serialize import load_program
from fxc.tools.cli.modelspec import ModelSpec, ShapeSpec
from fxc.tools.data.preprocess import Preprocessing, from_weights
from fxc.tools.data.pyfile import call_user, load_attribute

SEED = 0
RANDOM = "random weights: no accuracy can come from this model; --weights DEFAULT loads trained ones"
_WEIGHT_FILES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class LoadedModel:
    """A model with what is known about its inputs.

    Attributes:
        model: what ``fxc.capture`` takes.
        name: for reports.
        args, kwargs: example inputs, ``None`` where capture shall find them.
        preprocessing: the weights' own, if it has any.
        categories: class names, if the weights have any.
        warnings: what must be said loudly.
    """

    model: Any
    name: str
    args: tuple[Any, ...] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    categories: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def load_model(
    spec: ModelSpec, *, weights: str | None = None, shapes: Sequence[ShapeSpec] = (), batch: int | None = None
) -> LoadedModel:
    """The model behind ``spec`` with its weights, in eval mode.

    Raises:
        UsageError: unknown name or weight, a factory that fails, or words that do not go together.
        ArtifactError: weights that cannot be fetched or read.
    """
    if spec.kind != "torchvision" and weights not in (None, "none") and not _is_file(weights):
        raise UsageError(
            f"--weights {weights} names a torchvision weight, {spec.name} is not from torchvision"
        )
    if spec.kind in ("pt2", "program"):
        loaded = _from_file(spec, weights)
    elif spec.kind == "python":
        loaded = _from_python(spec, weights)
    else:
        loaded = _from_torchvision(spec.name, weights)
    return _with_examples(loaded, shapes, batch)


def _from_file(spec: ModelSpec, weights: str | None) -> LoadedModel:
    assert spec.path is not None
    if weights not in (None, "none"):
        raise UsageError(f"{spec.path} has its own weights", fix="leave --weights out")
    if spec.kind == "pt2":
        return LoadedModel(spec.path, spec.name)
    program = load_program(spec.path)
    return LoadedModel(program, program.name)


def _from_python(spec: ModelSpec, weights: str | None) -> LoadedModel:
    assert spec.path is not None
    value = load_attribute(spec.path, spec.attribute)
    if isinstance(value, type) or not isinstance(value, nn.Module):
        if not callable(value):
            raise UsageError(
                f"{spec.path}:{spec.attribute} is a {type(value).__name__}, not a model or a factory"
            )
        value = call_user(spec.path, spec.attribute, value)
    model, args = (
        (value[0], tuple(value[1])) if isinstance(value, tuple) and len(value) == 2 else (value, None)
    )
    if not isinstance(model, (nn.Module, torch.export.ExportedProgram)):
        raise UsageError(
            f"{spec.path}:{spec.attribute} gives a {type(model).__name__}",
            fix="return an nn.Module, or (module, example_inputs)",
        )
    if _is_file(weights) and isinstance(model, nn.Module):
        _read_weights(model, Path(str(weights)))
    return LoadedModel(model.eval() if isinstance(model, nn.Module) else model, spec.name, args)


def _from_torchvision(name: str, weights: str | None) -> LoadedModel:
    _known(name)
    choices = torchvision.models.get_model_weights(name)
    default = getattr(choices, "DEFAULT", None) or next(iter(choices), None)
    if weights in (None, "none"):
        return LoadedModel(_random(name), name, _image(default), warnings=(f"{name} has {RANDOM}",))
    if _is_file(weights):
        model = _random(name)
        _read_weights(model, Path(str(weights)))
        return LoadedModel(model, name, _image(default), preprocessing=default and from_weights(default))
    chosen = _weight(choices, str(weights), name)
    own = from_weights(chosen)
    names = tuple(chosen.meta.get("categories") or ())
    return LoadedModel(_fetched(name, chosen), name, _image(chosen), {}, own, names)


def _known(name: str) -> None:
    names = torchvision.models.list_models()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        raise UsageError(
            f"torchvision has no model {name!r}",
            fix=f"did you mean {', '.join(near)}?" if near else "torchvision.models.list_models() lists them",
        )


def _weight(choices: Any, wanted: str, name: str) -> Any:
    for choice in (*choices, *((choices.DEFAULT,) if hasattr(choices, "DEFAULT") else ())):
        if wanted == choice.name or wanted.split(".")[-1] == choice.name or wanted == "DEFAULT":
            return choices.DEFAULT if wanted == "DEFAULT" else choice
    known = ", ".join(["DEFAULT", *(c.name for c in choices), "none"])
    raise UsageError(
        f"{name} has no weights called {wanted!r}", fix=f"known: {known}, or a .pt or .safetensors file"
    )


def _random(name: str) -> nn.Module:
    """The architecture with seeded random weights: the same ones in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return torchvision.models.get_model(name, weights=None).eval()


def _fetched(name: str, weights: Any) -> nn.Module:
    try:
        return torchvision.models.get_model(name, weights=weights).eval()
    except (OSError, RuntimeError) as error:
        raise ArtifactError(
            f"the weights {weights} could not be loaded",
            where=str(weights.url),
            why=f"{type(error).__name__}: {error}",
            fix="download that file elsewhere and pass its path as --weights, or use --weights none",
        ) from error


def _is_file(weights: str | None) -> bool:
    return weights is not None and weights.endswith(_WEIGHT_FILES)


def _read_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict from a tensor file; no code in it runs."""
    state = _state(path)
    if not isinstance(state, Mapping):
        fix = "save it with torch.save(model.state_dict(), path)"
        raise ArtifactError(f"{path} is no state dict", fix=fix)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ArtifactError(f"the weights in {path} do not fit the model", why=str(error)) from error


def _state(path: Path) -> Tensor | dict[str, Tensor]:
    from fxc.compiler.tensorfile import load_tensor_file

    if path.suffix != ".safetensors":
        return load_tensor_file(path, error=ArtifactError)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"cannot read {path}", why=str(error)) from error


def _image(weights: Any) -> tuple[Tensor] | None:
    """One seeded image of the size that the weights were trained for."""
    preprocessing = from_weights(weights) if weights is not None else None
    return None if preprocessing is None else (_values(ShapeSpec(None, (1, 3, *preprocessing.crop))),)


def _with_examples(loaded: LoadedModel, shapes: Sequence[ShapeSpec], batch: int | None) -> LoadedModel:
    if shapes:
        named = {s.name: _values(s) for s in shapes if s.name is not None}
        args = () if named else tuple(_values(s) for s in shapes)
        return LoadedModel(
            loaded.model, loaded.name, args, named, loaded.preprocessing, loaded.categories, loaded.warnings
        )
    if batch is None:
        return loaded
    own = loaded.args if loaded.args is not None else getattr(loaded.model, "example_input_array", None)
    if own is None:
        raise UsageError("--batch needs the shape of the input", fix=f"--input-shape {batch},3,224,224")
    widened = tuple(_repeated(x, batch) for x in (own if isinstance(own, (tuple, list)) else (own,)))
    return LoadedModel(
        loaded.model, loaded.name, widened, {}, loaded.preprocessing, loaded.categories, loaded.warnings
    )


def _repeated(value: Any, batch: int) -> Any:
    if not isinstance(value, Tensor) or not value.dim():
        return value
    return value[:1].expand(batch, *value.shape[1:]).contiguous()


def _values(shape: ShapeSpec) -> Tensor:
    """Seeded normal values for floats, zeros for everything else (an index must stay in range)."""
    dtype: torch.dtype = getattr(torch, shape.dtype)
    if not dtype.is_floating_point:
        return torch.zeros(shape.dims, dtype=dtype)
    return torch.randn(shape.dims, generator=torch.Generator().manual_seed(SEED)).to(dtype)
