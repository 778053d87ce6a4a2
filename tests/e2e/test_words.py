"""The user's say in quantization: the same words as keyword arguments, as a config and as a YAML file."""

from pathlib import Path
from typing import Any

import pytest

import fxc
from fxc.compiler.errors import UsageError
from tests.e2e.nets import compiled, content

YAML = """
observer: mse
keep_float: ["head"]
layers:
  "features.0.*": {observer: percentile, percentile: 99.9}
  "features.2.0": {keep_float: true}
"""
WORDS: dict[str, Any] = {
    "observer": "mse",
    "keep_float": ["head"],
    "layers": {
        "features.0.*": {"observer": "percentile", "percentile": 99.9},
        "features.2.0": {"keep_float": True},
    },
}


def files(artifact: fxc.Artifact) -> dict[str, bytes]:
    """What a compile decides: every file but the seconds."""
    return {k: v for k, v in content(artifact.path).items() if k != "timings.json"}


def test_every_way_to_say_it_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "quant.yaml").write_text(YAML)
    config = fxc.QuantConfig.read(tmp_path / "quant.yaml")
    said = [compiled(**WORDS), compiled(quantization=WORDS), compiled(quantization=config)]
    half = {k: v for k, v in WORDS.items() if k != "observer"}
    said.append(compiled(quantization=half, observer="mse"))
    assert all(files(a) == files(said[0]) for a in said[1:])
    assert files(said[0])["model.onnx"] != files(compiled())["model.onnx"]


def test_keep_float_is_obeyed_and_said() -> None:
    rows = {row["layer"]: row for row in compiled(**WORDS).report["layers"]}
    assert {k for k, v in rows.items() if not v["quantized"]} == {"head", "features.2.0"}
    assert rows["head"]["reason"] == "kept in float by the user"
    kernels = compiled(keep_float="head").report["kernels"]
    assert kernels["float_layers"] == ["head"]


@pytest.mark.parametrize("observer", ["minmax", "moving_average", "percentile", "mse", "entropy"])
def test_every_observer_makes_a_sound_artifact(observer: str) -> None:
    report = compiled(observer=observer).report
    assert all(row["file_db"] > 15 and row["lost_db"] <= 1.0 for row in report["accuracy"]["outputs"])


def test_observers_change_the_scales() -> None:
    def scales(**words: Any) -> list[float]:
        return [row["scale"] for row in compiled(**words).report["layers"]]

    assert scales(observer="mse") != scales(observer="minmax")
    # A percentile alone asks for its observer; another observer contradicts it.
    assert scales(percentile=90.0) == scales(observer="percentile", percentile=90.0) != scales()
    assert all(a < b for a, b in zip(scales(percentile=90.0), scales(observer="minmax"), strict=True))
    only_first = {"features.0.*": {"percentile": 90.0}}
    # What the layer reads and what it writes, which the next layer reads.
    assert [a == b for a, b in zip(scales(layers=only_first), scales(), strict=True)] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"quantization": {"observr": "mse"}}, "did you mean 'observer'"),
        ({"quantization": ["mse"]}, "got list"),
        ({"observer": "median"}, "moving_average"),
        ({"percentile": 12}, "(50, 100]"),
        ({"percentile": "99"}, "takes a number"),
        ({"observer": "mse", "percentile": 99.0}, "does nothing with observer 'mse'"),
        ({"layers": ["head"]}, "got list"),
        ({"layers": {"head": {"observr": "mse"}}}, "did you mean 'observer'"),
        ({"layers": {"head": {"keep_float": "yes"}}}, "true or false"),
        ({"layers": {"head": {"observer": "mse", "percentile": 99.0}}}, "'head'"),
        ({"layers": {"heed": {"observer": "mse"}}}, "did you mean head?"),
        ({"keep_float": ["haed"]}, "did you mean head?"),
        ({"keep_float": [3]}, "list of layer patterns"),
        ({"skip": ["fold_batchnorm"]}, "did you mean 'fold_batch_norm'"),
        ({"skip": 3}, "takes a list of names"),
        ({"outputs": ["feature.1.0"]}, "features.1.0"),
        ({"outputs": [3]}, "takes a list of names"),
        ({"dynamic_batch": False}, "captured with a dynamic batch"),
    ],
)
def test_a_wrong_word_is_refused_with_the_right_one(words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        compiled(**words)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b", "observer: [", "observer: mse\nkeep: x"])
def test_a_broken_config_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "quant.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        fxc.QuantConfig.read(tmp_path / "quant.yaml")
    assert "quant.yaml" in str(caught.value)


def test_skipped_passes_are_left_out() -> None:
    def run(artifact: fxc.Artifact) -> list[str]:
        return [row["pass"] for row in artifact.report["passes"]]

    assert "cse{}" in run(compiled())
    assert "cse{}" not in run(compiled(skip=["cse"]))
    assert run(compiled(skip="cse")) == run(compiled(skip=["cse"]))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("cpu-int9", "cpu-int8"),
        ("jetson", "jetson-int8"),
        ("toaster", "known targets"),
        (None, "NoneType"),
        (3, "int"),
    ],
)
def test_an_unknown_target_names_its_neighbours(target: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        compiled(target=target)
    assert said in str(caught.value)
    with pytest.raises(UsageError):
        fxc.lint(None, target)
