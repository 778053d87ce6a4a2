"""CPUs by ONNX Runtime."""
