"""Flags: made from settings classes, and read back into them."""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from absl import flags, logging

from etd_tf.errors import InputError
from etd_tf.settings import (
    MISSING,
    NamedOptions,
    NamedPart,
    NamedSetting,
    NamedTexts,
    Setting,
    Settings,
    listed,
    members_of,
    setting,
    settings_of,
)
from etd_tf.storage.home import expand
from etd_tf.storage.sources import find_student

# Flags about the output directory are not settings of a run.
_NOT_SETTINGS = ("flagfile", "undefok", "overwrite", "dry_run")
_DEFINERS: dict[type, Any] = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
}

Made = TypeVar("Made", bound=Settings)


@dataclasses.dataclass(frozen=True)
class DryRun(Settings):
    """Whether a command only looks."""

    title = "Run"

    dry_run: bool = setting(
        False, "Check everything, print what there is to do and the expected cost, and stop."
    )


class FlagSet:
    """Flags of one command, in titled groups; a private `absl.flags.FlagValues`.

    Args:
        *classes: The settings behind the flags, in the order of the help page.

    Attributes:
        values: The absl flag values; attribute access gives the parsed value.
        groups: Flag names by group title, in order of definition.
        required: Flags without which the command cannot run.
    """

    def __init__(self, *classes: type[Settings]) -> None:
        self.values = flags.FlagValues()
        self.groups: dict[str, list[str]] = {}
        self.required: list[str] = []
        self._replaces: dict[str, tuple[str, ...]] = {}
        # Flags by the name of their field; by `part.field` for a field of a part.
        self._fields: dict[str, set[str]] = {}
        for cls in classes:
            self._define_all(cls, "", frozenset())

    def _define_all(
        self,
        cls: type[Settings],
        prefix: str,
        without: frozenset[str],
        group: str = "",
        part: str = "",
    ) -> None:
        for one in members_of(cls):
            if isinstance(one, NamedPart):
                said, inner = one.said, prefix + one.said.prefix
                if said.switch and prefix + one.name not in without:
                    self._define(_switch(one), prefix + one.name, one.of.title)
                left_out = without | {inner + name for name in said.without}
                self._define_all(one.of, inner, left_out, said.group, f"{one.name}.")
            elif isinstance(one, NamedOptions):
                for option in itertools.chain.from_iterable(one.said.settings().values()):
                    if option.flag not in self.values and option.flag not in without:
                        self._define(option, option.flag, cls.title)
            elif isinstance(one, NamedSetting) and one.flag and prefix + one.flag not in without:
                titled = group or one.said.group or cls.title
                self._define(one, prefix + one.flag, titled, part)

    def _define(self, one: NamedSetting, name: str, group: str, part: str = "") -> None:
        said = one.said
        default = None if one.default is MISSING else one.default
        if one.is_list:
            items = [] if default is None else [f"{item}" for item in default]
            flags.DEFINE_list(name, items, _help(one), flag_values=self.values)
        elif one.kind in _DEFINERS:
            bounds = {"lower_bound": said.least, "upper_bound": said.most}
            kept = {} if one.kind is bool else bounds
            _DEFINERS[one.kind](name, default, said.help(), flag_values=self.values, **kept)
        elif said.choices is not None and one.default in (names := list(said.choices())):
            flags.DEFINE_enum(name, default, names, said.help(), flag_values=self.values)
        else:
            text = None if default is None else str(default)
            flags.DEFINE_string(name, text, _help(one), flag_values=self.values)
        self.groups.setdefault(group, []).append(name)
        self._fields.setdefault(part + one.name, set()).add(name)
        if said.required:
            self.required.append(name)
        if said.replaces:
            self._replaces[name] = said.replaces

    def check_required(self) -> None:
        """Checks that all required flags have a value.

        Raises:
            InputError: One has none; the message is its help.
        """
        given = [others for name, others in self._replaces.items() if self.values[name].value]
        spared = {*itertools.chain.from_iterable(given)}
        for name in self.required:
            if self.values[name].value is None and name not in spared:
                raise InputError(f"--{name} is missing: {self.values[name].help}")

    def read(self, cls: type[Made], **given: Any) -> Made:
        """Makes settings of the parsed flags.

        Args:
            cls: One of the classes behind the flags, or of their parts.
            **given: Fields that are not what a flag says.

        Raises:
            InputError: A value is not valid, or a flag that was set has no effect.
        """
        return self._read(cls, "", frozenset(), given)

    def _read(
        self, cls: type[Made], prefix: str, without: frozenset[str], given: Mapping[str, Any]
    ) -> Made:
        found = dict(given)
        for one in members_of(cls):
            if one.name in found:
                continue
            if isinstance(one, NamedPart):
                found[one.name] = self._read_part(one, prefix, without)
            elif isinstance(one, NamedOptions):
                if not one.said.chosen:
                    found[one.name] = self._read_all(one.said.settings().values())
                elif one.said.chosen in found:  # else flags choose nothing here
                    found[one.name] = self._read_options(one, found[one.said.chosen])
            elif isinstance(one, NamedTexts):
                found[one.name] = self.texts()
            elif one.flag and prefix + one.flag not in without:
                found[one.name] = self._value(one, prefix + one.flag)
        try:
            made = cls(**found)
        except InputError as error:
            # Here it is known whose field is meant where several have the name.
            own = {one.name: prefix + one.flag for one in settings_of(cls) if one.flag}
            renamed = {name: flag for name, flag in own.items() if name != flag}
            raise InputError(_translated(str(error), renamed)) from error
        for name, why in made.idle().items():
            self.tell_idle(prefix + name, why, refuses=cls.refuses_idle)
        return made

    def _read_part(self, one: NamedPart, prefix: str, without: frozenset[str]) -> Settings | None:
        switch, inner = prefix + one.name, prefix + one.said.prefix
        if one.said.switch and not self.values[switch].value:
            for option in settings_of(one.of):
                if self._is_changed(inner + option.flag):
                    self.tell_idle(inner + option.flag, f"it goes with {switch}=True")
            return None
        return self._read(one.of, inner, without | {inner + name for name in one.said.without}, {})

    def _read_options(self, one: NamedOptions, chosen: str | tuple[str, ...]) -> dict[str, Any]:
        known = one.said.settings()
        names = (chosen,) if isinstance(chosen, str) else chosen
        if one.said.names is not None:
            names = tuple(itertools.chain.from_iterable(map(one.said.names, names)))
        readers: dict[str, list[str]] = {}
        for name, options in known.items():
            for option in options:
                readers.setdefault(option.flag, []).append(name)
        for flag, users in readers.items():
            if self._is_changed(flag) and not {*users} & {*names}:
                self.tell_idle(flag, f"it is for {one.said.chosen}={', '.join(users)}")
        if isinstance(chosen, str):
            return self._read_all([known.get(chosen, ())])
        # Who has the field for the names refuses unknown ones.
        return {name: self._read_all([known[name]]) for name in names if name in known}

    def _read_all(self, groups: Iterable[Iterable[NamedSetting]]) -> dict[str, Any]:
        return {
            option.name: self._value(option, option.flag) for group in groups for option in group
        }

    def _is_changed(self, name: str) -> bool:
        return name in self.values and self.values[name].value != self.values[name].default

    def tell_idle(self, name: str, why: str, *, refuses: bool = True) -> None:
        """Refuses a flag that has no effect, or only says so.

        Args:
            name: The flag.
            why: The reason, after a colon.
            refuses: Whether it is an error.

        Raises:
            InputError: It is.
        """
        told = self.translate(f"--{name} has no effect here: {why}.")
        if refuses:
            raise InputError(f"{told} Leave it out.")
        logging.warning("%s", told)

    def refuse_beside(self, name: str, *others: str) -> None:
        """Refuses every flag that was set beside one, and `others`, that leave nothing to say."""
        for flag in itertools.chain.from_iterable(self.groups.values()):
            if flag not in (name, *others) and self._is_changed(flag):
                self.tell_idle(flag, f"{name}=... says all that there is to say")

    def _value(self, one: NamedSetting, flag: str) -> Any:
        value = self.values[flag].value
        if value is None:
            return None
        if one.is_list:
            return tuple(_items(one.kind, flag, value))
        if one.kind is Path:
            return expand(value)
        parts = str(value).split(",")
        if one.or_numbers and all(part.strip().isdigit() for part in parts):
            return tuple(map(int, parts))
        return value

    def texts(self) -> dict[str, str]:
        """Every flag's value as text, in the form a flagfile takes; unset flags are left out."""
        found = {}
        for name in self.values:
            flag = self.values[name]
            if flag.value is None or name in _NOT_SETTINGS:
                continue
            if flag.boolean:
                found[name] = str(flag.value).lower()
            else:  # the serializer quotes commas inside of a list's items
                serialize = flag.serializer.serialize if flag.serializer else str
                found[name] = serialize(flag.value)
        return found

    def translate(self, message: str) -> str:
        """Says a message of the library, which speaks of Python arguments, with these flags.

        Args:
            message: The message, with arguments as in `overwrite=True`, `steps=5` and
                `output_dir`.

        Returns:
            The message with `--overwrite`, `--steps=5` and `--output_dir`. Names of fields
            become those of their flags where there is only one; a field of a part is named
            with it, as in `student.num_layers=3`.
        """
        ours = {name: name for names in self.groups.values() for name in names}
        for field, names in self._fields.items():
            if field not in ours and len(names) == 1:
                ours[field] = next(iter(names))
        return _translated(message, ours)


def _translated(message: str, names: Mapping[str, str]) -> str:
    """Puts flags for names, by name, where these are no part of a path or a quotation."""
    if not names:
        return message
    known = "|".join(map(re.escape, names))
    start = rf"(?<![\w./'\"-])({known})"
    message = re.sub(rf"{start}=True\b", lambda found: f"--{names[found[1]]}", message)
    message = re.sub(rf"{start}=False\b", lambda found: f"--no{names[found[1]]}", message)
    message = re.sub(rf"{start}=", lambda found: f"--{names[found[1]]}=", message)
    # Without a value only what is no English word: steps is one, batch_size is not.
    words = rf"{start}(?=[\s),:;]|\.(?:\s|$)|$)"
    return re.sub(
        words, lambda found: f"--{names[found[1]]}" if "_" in found[1] else found[0], message
    )


def _switch(one: NamedPart) -> NamedSetting:
    """The switch of a part as a setting."""
    said = Setting(functools.partial(str, one.said.switch))
    return NamedSetting(one.name, one.name, bool, False, False, False, True, said)


def _help(one: NamedSetting) -> str:
    """The help, with the choices where absl does not name them."""
    told = one.said.help()
    names = tuple(one.said.choices()) if one.said.choices else ()
    if all(name in told for name in names):
        return told
    return f"{told} One{' or more' if one.is_list else ''} of: {', '.join(names)}."


def _items(kind: Any, flag: str, texts: list[str]) -> Iterator[Any]:
    if kind not in (int, float):
        yield from map(getattr(kind, "parse", kind), texts)
        return
    try:
        yield from map(kind, texts)
    except ValueError as error:
        raise InputError(
            f"--{flag}={listed(texts)} is not a comma-separated list of "
            f"{'whole ' if kind is int else ''}numbers."
        ) from error


def model_source(model: str) -> str:
    """Names the student inside a run directory; anything else stays as it is."""
    folder = expand(model)
    student = find_student(folder)
    return model if student == folder else str(student)
