"""fxc beside ONNX Runtime's path and NNCF: compile time, latency, quality and memory, in interleaved rounds."""
