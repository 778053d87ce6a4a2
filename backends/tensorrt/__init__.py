"""NVIDIA GPUs by TensorRT."""
