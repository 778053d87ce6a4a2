"""Torch dtypes as numpy dtypes, and torch tensors as numpy arrays without a copy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch

Array = np.ndarray[Any, Any]

_NUMPY: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
    torch.int8: np.dtype(np.int8),
    torch.uint8: np.dtype(np.uint8),
    torch.int16: np.dtype(np.int16),
    torch.uint16: np.dtype(np.uint16),
    torch.int32: np.dtype(np.int32),
    torch.int64: np.dtype(np.int64),
    torch.bool: np.dtype(np.bool_),
}
_TORCH = {numpy: torch_ for torch_, numpy in _NUMPY.items()}


def to_numpy_dtype(dtype: torch.dtype) -> np.dtype[Any] | None:
    """The numpy dtype of ``dtype``, or ``None`` where ONNX opset 13 to 19 has no such tensor."""
    return _NUMPY.get(dtype)


def to_torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """The torch dtype of a numpy one that :func:`to_numpy_dtype` gave."""
    return _TORCH[dtype]


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether values are floating point, bfloat16 included."""
    return dtype.kind == "f" or dtype == _NUMPY[torch.bfloat16]


def promoted(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which PyTorch combines two tensors."""
    return _NUMPY[torch.promote_types(_TORCH[a], _TORCH[b])]


def to_array(tensor: torch.Tensor) -> Array:
    """The tensor's values; shares memory where the tensor is contiguous and on the CPU."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    # Not np.ascontiguousarray: it turns a 0-d array into shape (1,).
    return np.asarray(tensor.numpy(), order="C")
