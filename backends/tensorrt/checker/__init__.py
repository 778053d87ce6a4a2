"""Judges an ONNX file by TensorRT's rules of explicit quantization, without TensorRT and without what made the file.

Shares no code with placement, lowering or emitter: it reads the file as a stranger would.
"""

from fxc.backends.tensorrt.checker.judge import RULES, check_file
from fxc.backends.tensorrt.checker.rule import Finding, Rule, Severity

__all__ = ["RULES", "Finding", "Rule", "Severity", "check_file"]
