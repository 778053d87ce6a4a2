"""Data that a user names on the command line: calibration batches and labelled samples.

This face stays empty so that ``fxc.tools.data.spec`` and ``fxc.tools.data.pyfile`` are imported without torch.
"""
