"""Numbers as a reader wants them. ``None`` is an en dash: not measured, or no statement possible."""

from __future__ import annotations

ABSENT = "–"


def count(value: float | None) -> str:
    """``11173962`` as ``11.2 M``."""
    return ABSENT if value is None else _scaled(value, 1000, ("", "k", "M", "G", "T"))


def size(value: float | None) -> str:
    """Bytes, in powers of 1024: ``11 173 962`` as ``10.7 MiB``."""
    return ABSENT if value is None else _scaled(value, 1024, ("B", "KiB", "MiB", "GiB"))


def decibel(value: float | None) -> str:
    """``31.4 dB``; 200 dB is how equality is recorded."""
    if value is None:
        return ABSENT
    return "equal" if value >= 200 else f"{value:.1f} dB"


def percent(value: float | None) -> str:
    """A fraction as ``99.8 %``; never rounded up to 100 %."""
    if value is None:
        return ABSENT
    shown = f"{100 * value:.1f}"
    return f"{'>99.9' if shown == '100.0' and value < 1 else shown} %"


def scientific(value: float | None) -> str:
    """A small number as ``3.1e-07``; zero as ``0``."""
    if value is None:
        return ABSENT
    return "0" if value == 0 else f"{value:.1e}"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    scaled, unit = float(value), units[0]
    for unit in units:
        if abs(scaled) < step or unit == units[-1]:
            break
        scaled /= step
    digits = 0 if unit == units[0] or abs(scaled) >= 100 else 1
    return f"{scaled:.{digits}f} {unit}".rstrip()
