"""Settings: one dataclass field says everything about one setting.

From the field follow the flag with its help and default, the range check, the choices and
whether an unfinished run may go on with another value.

Example:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Training(Settings):
        title = "Training"
        steps: int = setting(1000, "Optimizer steps.", least=1)
        log_every: int = setting(10, "Steps between log lines.", least=1, free=True)
"""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from etd_tf.errors import InputError

_KEY = "setting"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a field says beside its name, type and default.

    Attributes:
        help: One or two sentences for the help page, without the default.
        flag: The flag's name; None for the field's, empty for settings of Python alone.
        least: Smallest value.
        above: Value that must be exceeded.
        most: Largest value.
        below: Value that must not be reached.
        choices: Returns the names to choose from.
        free: Whether an unfinished run may go on with another value.
        required: Whether the command cannot run without the flag.
    """

    help: str
    flag: str | None = None
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    choices: Callable[[], Sequence[str]] | None = None
    free: bool = False
    required: bool = False

    def limits(self) -> str:
        """The range in words; empty where there is none."""
        bounds = ((">=", self.least), (">", self.above), ("<=", self.most), ("<", self.below))
        return " and ".join(f"{sign} {value:g}" for sign, value in bounds if value is not None)

    def admits(self, value: float) -> bool:
        """Whether a number is finite and in range."""
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )


def setting(
    default: Any,
    help: str,
    *,
    flag: str | None = None,
    choices: Iterable[str] | Callable[[], Iterable[str]] | None = None,
    free: bool = False,
    required: bool = False,
    **bounds: float,
) -> Any:
    """Declares a setting as the default of a dataclass field.

    Args:
        default: The default, the same in Python and on the command line. `MISSING` of
            `dataclasses` makes the argument necessary.
        help: One or two sentences, without the default.
        flag: The flag's name; default: the field's. Empty for settings of Python alone.
        choices: The names to choose from, or a function that returns them when a command
            needs them.
        free: An unfinished run may go on with another value.
        required: The command cannot run without the flag.
        **bounds: `least`, `above`, `most` and `below`, for numbers and for each number of
            a list.

    Returns:
        The field.
    """
    listed = choices
    if listed is not None and not callable(listed):
        names = tuple(listed)
        listed = functools.partial(tuple, names)
    said = Setting(help, flag, choices=listed, free=free, required=required, **bounds)  # type: ignore[arg-type]
    if isinstance(default, list | dict | set):
        raise TypeError(f"The default {default!r} can change; give a tuple.")
    return dataclasses.field(default=default, metadata={_KEY: said})


class NamedSetting(typing.NamedTuple):
    """A setting of a class.

    Attributes:
        name: The field's name.
        flag: The flag's name; empty for settings of Python alone.
        kind: `bool`, `int`, `float`, `str` or `pathlib.Path`; of a list, what is in it.
        is_list: Whether it is a tuple of them.
        optional: Whether None is a value.
        default: The default; `dataclasses.MISSING` where there is none.
        said: What else the field says.
    """

    name: str
    flag: str
    kind: type
    is_list: bool
    optional: bool
    default: Any
    said: Setting


_READ: dict[type, tuple[NamedSetting, ...]] = {}


def settings_of(cls: type) -> tuple[NamedSetting, ...]:
    """Lists the settings of a dataclass in their order; other fields are left out."""
    if cls not in _READ:
        _READ[cls] = tuple(_read(cls))
    return _READ[cls]


def _read(cls: type) -> Iterator[NamedSetting]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        said: Setting | None = field.metadata.get(_KEY)
        if said is not None:
            flag = field.name if said.flag is None else said.flag
            kind, is_list, optional = _kind(hints[field.name])
            yield NamedSetting(field.name, flag, kind, is_list, optional, field.default, said)


def _kind(hint: Any) -> tuple[type, bool, bool]:
    """The element type of an annotation, whether it is a list, and whether None is allowed."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    optional = type(None) in options
    first = next(option for option in options if option is not type(None))
    if typing.get_origin(first) is tuple:
        return typing.get_args(first)[0], True, optional
    return first, False, optional


class Settings:
    """Base of frozen dataclasses whose fields are settings.

    Attributes:
        title: Heading of the settings on a help page.
    """

    title: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for one in settings_of(type(self)):
            check_value(one, getattr(self, one.name))

    def idle(self) -> Mapping[str, str]:
        """Says why settings have no effect beside the others, by name; changed ones alone."""
        return {}

    def changed(self) -> Iterator[str]:
        """Names the settings that differ from their defaults."""
        for one in settings_of(type(self)):
            if getattr(self, one.name) != one.default:
                yield one.name


def check_value(one: NamedSetting, value: Any) -> None:
    """Checks a value against what its setting says.

    Args:
        one: The setting.
        value: A value of it.

    Raises:
        InputError: It has another type, is out of range or is no choice.
    """
    if value is None and one.optional:
        return
    if one.is_list and not isinstance(value, tuple | list):
        raise InputError(f"{one.name}={value!r}: expected a list.")
    for item in value if one.is_list else (value,):
        _check_item(one, value, item)


def _check_item(one: NamedSetting, value: Any, item: Any) -> None:
    if one.kind is bool and not isinstance(item, bool):
        raise InputError(f"{one.name}={value!r}: expected True or False.")
    if one.kind in (int, float):
        number = int if one.kind is int else (int, float)
        right = isinstance(item, number) and not isinstance(item, bool)
        if not right or not one.said.admits(item):
            what = "whole number" if one.kind is int else "finite number"
            raise InputError(
                f"{one.name}={value!r}: expected a {what} {one.said.limits()}".rstrip() + "."
            )
    if one.said.choices is not None and item not in (known := tuple(one.said.choices())):
        raise InputError(f"{one.name}={item!r} is unknown; choose from {', '.join(known)}.")
