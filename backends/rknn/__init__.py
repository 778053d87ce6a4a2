"""Rockchip's RKNN-Toolkit2: ONNX in, ``.rknn`` files for RK35xx and RV11xx chips out, in a process of its own."""
