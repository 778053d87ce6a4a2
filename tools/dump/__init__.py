"""Dumps: the graph after every pass as text and picture, and a page to step through them."""

from fxc.tools.dump.explorer import DumpInstrument

__all__ = ["DumpInstrument"]
