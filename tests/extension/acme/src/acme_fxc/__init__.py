"""What Acme adds to fxc. Torch-free: the parts that need torch are named, not imported."""

from acme_fxc.target import ACME_FP32, ACME_INT8
from fxc import Extension

EXTENSION = Extension(
    name="acme",
    lowerings="acme_fxc.lowering:LOWERINGS",
    rules="acme_fxc.rules:RULES",
    tolerance=0.0,
    pruning="acme_fxc.pruning:PRUNING",
    targets=(ACME_INT8, ACME_FP32),
    rooms={"acme": "acme_fxc.room"},
)
