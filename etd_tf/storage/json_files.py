"""JSON files: reading what anybody may have written, and writing what everybody can read."""

import json
import math
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.storage.atomic import write_atomically


def read_json_object(path: Path, *, max_bytes: int = 64 << 20) -> dict[str, Any]:
    """Reads a file of at most so many bytes that must hold one JSON object.

    Raises:
        InputError: The file is missing, unreadable, too large, not UTF-8, not JSON or
            not an object.
    """
    values = _read(path, max_bytes)
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a JSON {type(values).__name__}, expected an object.")
    return values


def read_json_list(path: Path, *, max_bytes: int = 64 << 20) -> list[Any]:
    """Reads a file that must hold one JSON array; see `read_json_object`."""
    values = _read(path, max_bytes)
    if not isinstance(values, list):
        raise InputError(f"{path} holds a JSON {type(values).__name__}, expected an array.")
    return values


def _read(path: Path, max_bytes: int) -> Any:
    try:
        if path.stat().st_size > max_bytes:
            raise InputError(
                f"{path} is larger than {max_bytes} bytes; not a JSON file of a model."
            )
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or endless digits
        raise InputError(f"{path} is not valid JSON ({error}).") from error


def write_json(path: str | Path, values: Any) -> None:
    """Writes values atomically; numbers that JSON does not know become null."""
    write_atomically(path, json.dumps(standard_json(values), indent=2) + "\n")


def standard_json(value: Any) -> Any:
    """Replaces numbers that JSON does not know (NaN, infinity) by None, at any depth."""
    if isinstance(value, dict):
        return {key: standard_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [standard_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
