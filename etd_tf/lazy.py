"""Public names that are loaded on first use, so that a package costs nothing to import."""

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any


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
    """Lets TensorFlow find Keras where `TF_USE_LEGACY_KERAS` asks for one that is not installed.

    Other libraries advise to set it. TensorFlow, and what is built on it, then finds no Keras.
    """
    variable = "TF_USE_LEGACY_KERAS"
    if os.environ.get(variable) and importlib.util.find_spec("tf_keras") is None:
        del os.environ[variable]


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
