"""One room per toolchain, all with the same file names; ``onnx`` is the lowering that several share."""
