"""From a float program to one with explicit quantize and dequantize operators."""
