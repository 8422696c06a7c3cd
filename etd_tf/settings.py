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

import csv
import dataclasses
import functools
import io
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from etd_tf.errors import InputError

_KEY = "setting"
MISSING = dataclasses.MISSING


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a field says beside its name, type and default.

    Attributes:
        help: Returns one or two sentences for the help page, without the default.
        flag: The flag's name; None for the field's, empty for settings of Python alone.
        group: Heading on the help page; empty for the title of the class.
        least: Smallest value.
        above: Value that must be exceeded.
        most: Largest value.
        below: Value that must not be reached.
        choices: Returns the names to choose from.
        free: Whether an unfinished run may go on with another value.
        required: Whether the command cannot run without the flag.
        replaces: Required flags that the command can do without beside this one.
        some: Whether a list must not be empty.
        distinct: Whether a list must name nothing twice.
    """

    help: Callable[[], str]
    flag: str | None = None
    group: str = ""
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    choices: Callable[[], Iterable[str]] | None = None
    free: bool = False
    required: bool = False
    replaces: tuple[str, ...] = ()
    some: bool = False
    distinct: bool = False

    def limits(self) -> str:
        """The range in words; empty where there is none."""
        bounds = ((">=", self.least), (">", self.above), ("<=", self.most), ("<", self.below))
        return " and ".join(f"{sign} {value:,}" for sign, value in bounds if value is not None)

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
    help: str | Callable[[], str],
    *,
    choices: Iterable[str] | Callable[[], Iterable[str]] | None = None,
    **said: Any,
) -> Any:
    """Declares a setting as the default of a dataclass field.

    Args:
        default: The default, the same in Python and on the command line. `MISSING` makes
            the argument necessary.
        help: One or two sentences, without the default, or a function that returns them.
        choices: The names to choose from, or a function that returns them when a command
            needs them.
        **said: Further fields of `Setting`: `least=0`, `free=True` and so on. Bounds are
            for numbers, and for each number of a list.
    """
    if choices is not None and not callable(choices):
        choices = functools.partial(tuple, tuple(choices))
    if isinstance(default, list | dict | set):
        raise TypeError(f"The default {default!r} can change; give a tuple.")
    told = help if callable(help) else functools.partial(str, help)
    return dataclasses.field(
        default=default, metadata={_KEY: Setting(told, choices=choices, **said)}
    )


@dataclasses.dataclass(frozen=True)
class Part:
    """What the field of an object with settings of its own says.

    Attributes:
        prefix: Begins the names of its flags.
        without: Flags that it has elsewhere, but not here; the prefix is left out.
        switch: Help of a flag with the field's name that leaves the object out, as None.
        group: Heading on the help page; empty for those that its settings say.
        free: Whether an unfinished run may go on with other values.
    """

    prefix: str = ""
    without: tuple[str, ...] = ()
    switch: str = ""
    group: str = ""
    free: bool = False


def part(of: Callable[..., Any] | None, **said: Any) -> Any:
    """Declares a field for an object with settings of its own.

    A field of such a type without this is a part, too.

    Args:
        of: Makes the default; None for a default of None.
        **said: Fields of `Part`.
    """
    metadata = {_KEY: Part(**said)}
    if of is None:
        return dataclasses.field(default=None, metadata=metadata)
    return dataclasses.field(default_factory=of, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class OptionsOf:
    """What a field says that holds settings of chosen objects, by name.

    Attributes:
        objects: Returns what there is to choose from: settings, or classes of them, by name.
        chosen: The field with the chosen name, or with several: then the settings are in a
            mapping for each. Empty where the settings of all objects are in one.
        only: Names the settings of an object that count; None for all.
        names: Gives the names in one chosen value, where that can be more than a name.
        free: Whether an unfinished run may go on with other values.
    """

    objects: Callable[[], Mapping[str, Any]]
    chosen: str = ""
    only: Callable[[Any], Collection[str]] | None = None
    names: Callable[[str], Iterable[str]] | None = None
    free: bool = False

    def settings(self) -> dict[str, tuple["NamedSetting", ...]]:
        """The settings with a flag that count, by the name of their object."""
        found = {}
        for name, one in self.objects().items():
            known = settings_of(one if isinstance(one, type) else type(one))
            counts = None if self.only is None else self.only(one)
            found[name] = tuple(s for s in known if s.flag and (counts is None or s.name in counts))
        return found


def options_of(objects: Callable[[], Mapping[str, Any]], **said: Any) -> Any:
    """Declares a field for the settings of chosen objects, see `OptionsOf`."""
    return dataclasses.field(default_factory=dict, metadata={_KEY: OptionsOf(objects, **said)})


def flag_texts() -> Any:
    """Declares a field for the texts of all flags by name; empty without a command line."""
    return dataclasses.field(default_factory=dict, metadata={_KEY: _TEXTS})


_TEXTS = "texts"


class NamedSetting(typing.NamedTuple):
    """A setting of a class.

    Attributes:
        name: The field's name.
        flag: The flag's name; empty for settings of Python alone.
        kind: `bool`, `int`, `float`, `str` or `pathlib.Path`; of a list, what is in it.
        is_list: Whether it is a tuple of them.
        optional: Whether None is a value.
        or_numbers: Whether whole numbers are a value, too, beside a text.
        default: The default; `MISSING` where there is none.
        said: What else the field says.
    """

    name: str
    flag: str
    kind: Any
    is_list: bool
    optional: bool
    or_numbers: bool
    default: Any
    said: Setting


class NamedPart(typing.NamedTuple):
    """An object in a class that has settings of its own: name, class, what the field says."""

    name: str
    of: type["Settings"]
    said: Part


class NamedOptions(typing.NamedTuple):
    """Settings of chosen objects in a class: name, and what the field says."""

    name: str
    said: OptionsOf


class NamedTexts(typing.NamedTuple):
    """The field of a class that holds the texts of all flags."""

    name: str


Member = NamedSetting | NamedPart | NamedOptions | NamedTexts


_READ: dict[type, tuple[Member, ...]] = {}


def members_of(cls: type) -> tuple[Member, ...]:
    """Lists the settings of a dataclass and its parts in their order; other fields are left out."""
    if cls not in _READ:
        _READ[cls] = tuple(_read(cls))
    return _READ[cls]


def settings_of(cls: type) -> tuple[NamedSetting, ...]:
    """Lists the settings of a dataclass in their order, without those of its parts."""
    return tuple(one for one in members_of(cls) if isinstance(one, NamedSetting))


def _read(cls: type) -> Iterator[Member]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        said, hint = field.metadata.get(_KEY), hints[field.name]
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        optional = type(None) in options
        first, *others = (option for option in options if option is not type(None))
        if isinstance(said, Setting):
            flag = field.name if said.flag is None else said.flag
            is_list = typing.get_origin(first) is tuple
            kind = typing.get_args(first)[0] if is_list else first
            shape = (kind, is_list, optional, bool(others))
            yield NamedSetting(field.name, flag, *shape, field.default, said)
        elif isinstance(said, OptionsOf):
            yield NamedOptions(field.name, said)
        elif said == _TEXTS:
            yield NamedTexts(field.name)
        elif isinstance(first, type) and issubclass(first, Settings):
            yield NamedPart(field.name, first, said or Part())


def free_flags(cls: type, *, all_are: bool = False) -> frozenset[str]:
    """Names the flags of a class and its parts with which an unfinished run may go on.

    Args:
        cls: The class.
        all_are: Whether the class is a part of which all are free.
    """
    found: set[str] = set()
    for one in members_of(cls):
        if isinstance(one, NamedSetting) and one.flag and (one.said.free or all_are):
            found.add(one.flag)
        elif isinstance(one, NamedOptions) and (one.said.free or all_are):
            found |= {option.flag for known in one.said.settings().values() for option in known}
        elif isinstance(one, NamedPart):
            flags = free_flags(one.of, all_are=one.said.free or all_are) - {*one.said.without}
            found |= {f"{one.said.prefix}{flag}" for flag in flags}
    return frozenset(found)


def flags_of(made: "Settings", prefix: str = "") -> dict[str, str]:
    """Writes settings as the flags that make them; what has no flag is left out.

    Args:
        made: The settings; of chosen objects, those with one flag have one value.
        prefix: Begins the names of the flags.

    Returns:
        Texts by flag, in the form that a flagfile takes; those of None are left out.
    """
    values: dict[str, Any] = {}
    found: dict[str, str] = {}
    for one in members_of(type(made)):
        value = getattr(made, one.name)
        if isinstance(one, NamedPart):
            inner = prefix + one.said.prefix
            texts = {} if value is None else flags_of(value, inner)
            left_out = {inner + name for name in one.said.without}
            found |= {name: text for name, text in texts.items() if name not in left_out}
            values |= {one.name: value is not None} if one.said.switch else {}
        elif isinstance(one, NamedOptions) and one.said.chosen:
            chosen = getattr(made, one.said.chosen)
            given = {chosen: value} if isinstance(chosen, str) else value
            for name, options in given.items():
                known = one.said.settings()[name]
                values |= {o.flag: options[o.name] for o in known if o.name in options}
        elif isinstance(one, NamedSetting) and one.flag:
            values[one.flag] = value
    texts = {f"{prefix}{k}": _flag_text(v) for k, v in values.items() if v is not None}
    return {**found, **texts}


def _flag_text(value: Any) -> str:
    if isinstance(value, tuple | list):
        line = io.StringIO()  # commas inside of items are quoted
        csv.writer(line, lineterminator="").writerow(value)
        return line.getvalue()
    return str(value).lower() if isinstance(value, bool) else str(value)


class Settings:
    """Base of frozen dataclasses whose fields are settings.

    Attributes:
        title: Heading of the settings on a help page.
        refuses_idle: Whether a command refuses a flag that has no effect, or only says so.
    """

    title: ClassVar[str] = ""
    refuses_idle: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for one in settings_of(type(self)):
            check_value(one, getattr(self, one.name))

    def idle(self) -> Mapping[str, str]:
        """Says why settings have no effect beside the others, by flag; changed ones alone."""
        return {}

    def changed(self) -> Iterator[str]:
        """Names the settings, those of parts included, that differ from their defaults."""
        for one in members_of(type(self)):
            value = getattr(self, one.name)
            if isinstance(one, NamedSetting) and value != one.default:
                yield one.flag or one.name
            elif isinstance(one, NamedPart) and value is not None:
                yield from (f"{one.said.prefix}{flag}" for flag in value.changed())
            elif isinstance(one, NamedPart) and one.said.switch:
                yield one.name
            elif isinstance(one, NamedOptions) and not one.said.chosen:
                known = {o.name: o for group in one.said.settings().values() for o in group}
                yield from (name for name in value if value[name] != known[name].default)


def check_value(one: NamedSetting, value: Any) -> None:
    """Checks a value against what its setting says.

    Raises:
        InputError: It has another type, is out of range or is no choice.
    """
    if (value is None and one.optional) or (one.or_numbers and not isinstance(value, str)):
        return
    if not one.is_list:
        _check_items(one, value, (value,))
        return
    if not isinstance(value, tuple | list):
        raise InputError(f"{one.name}={value!r}: expected a list.")
    repeated = one.said.distinct and len(set(value)) < len(value)
    if repeated or (one.said.some and not value):
        wanted = ["at least one value"] * one.said.some + ["none twice"] * one.said.distinct
        known = f"; choose from {', '.join(one.said.choices())}" if one.said.choices else ""
        raise InputError(f"{one.name}={listed(value)}: expected {', '.join(wanted)}{known}.")
    _check_items(one, listed(value), value)


def _check_items(one: NamedSetting, shown: Any, items: Sequence[Any]) -> None:
    said = one.said
    if one.kind is bool and not isinstance(items[0], bool):
        raise InputError(f"{one.name}={shown!r}: expected True or False.")
    if one.kind in (int, float):
        number = int if one.kind is int else (int, float)
        right = (isinstance(item, number) and not isinstance(item, bool) for item in items)
        if not all(right) or not all(map(said.admits, items)):
            what = "whole number" if one.kind is int else "finite number"
            what = f"{what}s" if one.is_list else f"a {what}"
            raise InputError(f"{one.name}={shown}: expected {what} {said.limits()}".rstrip() + ".")
    if said.choices is not None:
        known = tuple(said.choices())
        unknown = [item for item in items if item not in known and item != one.default]
        if unknown:
            raise InputError(
                f"{one.name}={listed(unknown)} is unknown; choose from {', '.join(known)}."
            )


def check_known(what: str, cls: type, options: Iterable[str]) -> None:
    """Checks that a class has settings of some names."""
    known = [option.name for option in settings_of(cls)]
    unknown = sorted({*options} - {*known})
    if unknown:
        raise InputError(
            f"{what} has no option {', '.join(unknown)}. Its options: {', '.join(known) or 'none'}."
        )


def summaries(choices: Mapping[str, Any]) -> str:
    """Objects with a `summary`, or summaries, in one sentence for help pages, by name."""
    said = (f"{name}: {getattr(one, 'summary', one)}" for name, one in choices.items())
    return "; ".join(said) + "."


def listed(values: Iterable[Any]) -> str:
    """Values with commas between, as a flag takes them."""
    return ",".join(map(str, values))
