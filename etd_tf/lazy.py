"""Public names that are loaded on first use, so that a package costs nothing to import."""

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_KERAS_FILE = {
    "floatx": ("float32", "float16", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
}
_BACKENDS = ("tensorflow", "jax", "torch", "openvino")


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Makes a package's `__getattr__`.

    Args:
        package: The package's `__name__`.
        homes: Module of each public name, below `package`; `"."` for names that are
            modules themselves.

    Returns:
        The function; it raises AttributeError for any other name.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name] == ".":
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return load


class LazyModule:
    """A module that is imported when something of it is first used.

    So a file can hold light descriptions and the functions that need a heavy library.

    Args:
        name: The module's full name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, value)  # the next time costs nothing
        return value


def find_keras() -> None:
    """Lets Keras be found where the settings of other programs ask for what is not installed.

    Other libraries advise to set `TF_USE_LEGACY_KERAS`. TensorFlow, and what is built on it, then
    finds no Keras. And Keras ends where `KERAS_BACKEND` or `keras.json` names a missing backend,
    and where `keras.json` has a float type that Keras has not.
    """
    variable = "TF_USE_LEGACY_KERAS"
    if os.environ.get(variable) and importlib.util.find_spec("tf_keras") is None:
        del os.environ[variable]
    if "keras" in sys.modules:
        return
    settings = _keras_file()
    wanted = os.environ.get("KERAS_BACKEND") or str(settings.get("backend", ""))
    known = not wanted or (wanted in _BACKENDS and importlib.util.find_spec(wanted) is not None)
    if not known:
        os.environ["KERAS_BACKEND"] = _BACKENDS[0]  # without a word: commands do so anyway

    if any(settings.get(name, usual[0]) not in usual for name, usual in _KERAS_FILE.items()):
        os.environ["KERAS_HOME"] = os.devnull


def _keras_file() -> dict[str, Any]:
    """What the user's `keras.json` says; nothing where there is none."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    path = os.path.join(home, "keras.json")
    if not os.path.isfile(path):
        return {}
    import json  # not needed where nothing is set

    try:
        with open(path, encoding="utf-8") as file:
            return dict(json.load(file))
    except (OSError, ValueError, TypeError):
        return {}  # Keras passes over it, too


keras: Any = LazyModule("keras")
ops: Any = LazyModule("keras.ops")
tf: Any = LazyModule("tensorflow")


@contextlib.contextmanager
def float32_keras() -> Iterator[None]:
    """Makes float32 what Keras makes without a dtype, whatever its global settings are."""
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
