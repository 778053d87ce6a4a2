"""The shared lowering: a program as an ONNX file."""
