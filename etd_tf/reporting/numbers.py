"""Numbers as people read them."""

import math

_THIN = "\u202f"  # narrow no-break space between number and unit


def count(value: float) -> str:
    """A whole number in full up to 9,999, then in thousands, millions or billions."""
    if abs(value) < 10_000:
        return f"{value:,.0f}"
    return _scaled(value, 1000, ("", "K", "M", "B", "T"), gap="")


def flops(value: float) -> str:
    """Floating-point operations with an SI prefix."""
    return _scaled(value, 1000, ("", "K", "M", "G", "T", "P", "E", "Z")) + "FLOP"


def size(value: float) -> str:
    """Bytes with a decimal prefix."""
    return _scaled(value, 1000, ("", "k", "M", "G", "T")) + "B"


def ratio(value: float) -> str:
    """A factor, e.g. `3.4x` with a multiplication sign."""
    return f"{significant(value, 2 if value < 10 else 3)}\u00d7"


def seconds(value: float) -> str:
    """A duration in its natural unit."""
    if value < 60:
        return f"{significant(value, 3)}{_THIN}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{_THIN}min {rest:02d}{_THIN}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{_THIN}h {minutes:02d}{_THIN}min"


def significant(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, exponents only where zeros would mislead."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    exponent = int(power)  # of the rounded value
    if not -4 <= exponent < 7:
        return f"{mantissa}e{exponent}"
    return f"{value:,.{max(digits - 1 - exponent, 0)}f}"


def _scaled(value: float, base: int, prefixes: tuple[str, ...], *, gap: str = _THIN) -> str:
    index = 0
    while abs(value) >= base * 0.9995 and index < len(prefixes) - 1:
        value /= base
        index += 1
    text = f"{value:.0f}" if index == 0 else significant(value, 3)
    return f"{text}{gap}{prefixes[index]}"
