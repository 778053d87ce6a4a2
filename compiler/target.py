"""What is known about a chip, as data. Torch-free, so that listing targets is instant."""

from __future__ import annotations

from dataclasses import dataclass, field

from fxc.compiler.quant import QuantScheme


@dataclass(frozen=True)
class Limits:
    """What the target's toolchain accepts.

    Attributes:
        max_rank: highest tensor rank, ``None`` for no limit.
        static_shapes: whether every dimension must be a number.
        dtypes: tensor dtypes that may appear, by name.
    """

    max_rank: int | None = None
    static_shapes: bool = False
    dtypes: tuple[str, ...] = ("float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")


@dataclass(frozen=True)
class Versions:
    """The versions of a device's own software that a target may be narrowed to.

    Attributes:
        words: by which a user names them, ``("jetpack", "tensorrt")``.
        narrow: reference ``"module:function"``. The function takes a target and versions by word, and gives the target for
            these alone: other ``opset`` and ``options``, and ``made_for`` filled in. It raises :class:`UsageError` for a
            version that does not exist, or that the target is not for. Torch-free.
    """

    words: tuple[str, ...] = ()
    narrow: str = ""


@dataclass(frozen=True)
class Speed:
    """What a device does at most, for estimates of latency that nothing measured.

    Attributes:
        macs: multiply-accumulates per second.
        bandwidth: bytes of memory per second.
        bytes_each: of one number, weight or activation.
        source: where the figures are from, in words.
    """

    macs: float
    bandwidth: float
    bytes_each: float
    source: str


@dataclass(frozen=True)
class Target:
    """One ``<device>-<precision>``.

    Attributes:
        name: ``"cpu-int8"``.
        device: what the file runs on, in words.
        precision: ``"int8"``, ``"fp32"``, ``"bf16"``, …
        backend: the room under ``backends/`` that emits and runs it.
        format: the file format it ends in.
        toolchain: package that writes or runs the file, and ``extra``, the pip extra that installs it.
        scheme: quantization scheme, ``None`` for a float target.
        opset: ONNX opset that is emitted, where the format is ONNX.
        options: what the backend alone understands (inference precision, …); plain data.
        host: what this host can do with the file: ``"executed"``, ``"simulated"`` or ``"emitted"``.
        channel_multiple: widths that are a multiple of this run best.
        notes: one line for ``fxc targets``.
        samples: whether its files hold samples of the calibration data, for a toolkit that quantizes by itself.
        versions: what it may be narrowed to; no words where there is nothing to choose.
        made_for: what it was narrowed to, in words.
        speed: what the device does at most; ``None`` where no source says, or where the name stands for several devices.
    """

    name: str
    device: str
    precision: str
    backend: str
    format: str
    toolchain: str
    extra: str
    scheme: QuantScheme | None = None
    limits: Limits = field(default_factory=Limits)
    opset: int = 17
    options: dict[str, str] = field(default_factory=dict)
    host: str = "executed"
    channel_multiple: int = 1
    notes: str = ""
    samples: bool = False
    versions: Versions = field(default_factory=Versions)
    made_for: str = ""
    speed: Speed | None = None

    @property
    def quantized(self) -> bool:
        """Whether programs for this target are quantized."""
        return self.scheme is not None
