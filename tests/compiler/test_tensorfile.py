"""Tensor files are read; files of code are refused and do not run."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fxc.compiler.errors import CalibrationError, InputError
from fxc.compiler.tensorfile import load_tensor_file
from tests.compiler.hostile_pt2 import Evil


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8, torch.int64])
def test_pt(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    torch.save(tensor, tmp_path / "a.pt")
    found = load_tensor_file(tmp_path / "a.pt")
    assert isinstance(found, torch.Tensor)
    assert found.dtype == dtype
    assert torch.equal(found, tensor)


def test_pt_of_a_dict_and_of_a_parameter(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2), "y": torch.zeros(1)}, tmp_path / "a.pt")
    found = load_tensor_file(tmp_path / "a.pt")
    assert isinstance(found, dict)
    assert list(found) == ["x", "y"]
    torch.save(torch.nn.Parameter(torch.ones(2)), tmp_path / "b.pt")
    parameter = load_tensor_file(tmp_path / "b.pt")
    assert isinstance(parameter, torch.Tensor)
    assert not parameter.requires_grad


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "u1", "<i8", "?"])
def test_npy_and_npz(tmp_path: Path, dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", x=array, y=array + array)
    found, named = load_tensor_file(tmp_path / "a.npy"), load_tensor_file(tmp_path / "a.npz")
    assert isinstance(found, torch.Tensor)
    assert isinstance(named, dict)
    assert np.array_equal(found.numpy(), array)
    assert np.array_equal(named["x"].numpy(), array)


def _evil_npy(path: Path, marker: Path) -> None:
    array = np.empty(1, dtype=object)
    array[0] = Evil(marker)
    np.save(path, array, allow_pickle=True)


def _evil_npz(path: Path, marker: Path) -> None:
    array = np.empty(1, dtype=object)
    array[0] = Evil(marker)
    np.savez(path, x=array)


@pytest.mark.parametrize("kind", ["torch.save", "pickle", "npy", "npz"])
def test_code_does_not_run(tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / {"torch.save": "e.pt", "pickle": "p.pt", "npy": "e.npy", "npz": "e.npz"}[kind]
    if kind == "torch.save":
        torch.save(Evil(marker), path)
        torch.load(path, weights_only=False)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Evil(marker)))
        pickle.loads(path.read_bytes())  # noqa: S301  the attack itself
    else:
        (_evil_npy if kind == "npy" else _evil_npz)(path, marker)
        loaded = np.load(path, allow_pickle=True)
        _ = loaded["x"] if kind == "npz" else None
    assert marker.exists(), "the attack does not work: the test has no teeth"
    marker.unlink()
    with pytest.raises(CalibrationError, match="more than tensors") as caught:
        load_tensor_file(path, error=CalibrationError)
    assert str(path) in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".pt", ".npy", ".npz", ".txt"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00", b"PK\x03\x04", None])
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    path = tmp_path / f"a{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_tensor_file(path)
    assert path.name in str(caught.value)


def test_other_content(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(InputError, match="holds a list"):
        load_tensor_file(tmp_path / "a.pt")


def test_an_archive_that_unpacks_to_far_too_much(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(80 << 20, dtype=np.uint8))
    with pytest.raises(InputError):
        load_tensor_file(tmp_path / "a.npz")
