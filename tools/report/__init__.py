"""The HTML report of a compile."""

from fxc.tools.report.comparison import render_comparison
from fxc.tools.report.measured import Example, Measured, Row
from fxc.tools.report.page import render

__all__ = ["Example", "Measured", "Row", "render", "render_comparison"]
