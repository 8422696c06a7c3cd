"""Where the tokenizer files of a checkpoint are, whatever its format."""

import json
from collections.abc import Sequence
from pathlib import Path

from etd_tf.errors import InputError
from etd_tf.tokenization.files import (
    MODEL_FILES,
    TOKENIZER_FILES,
    VOCABULARY_FILES,
    TokenizerFiles,
)

SIDECAR = "etd_tf"
"""Folder of a checkpoint with what its format has no place for, such as some tokenizers."""

_PRESET_VOCABULARY = "assets/tokenizer/vocabulary.txt"  # of KerasHub
_MAX_FILE_BYTES = 256 << 20


def find_directory(path: Path) -> Path:
    """The directory of a checkpoint, which Google's name without the ends of their files."""
    return path.parent if Path(f"{path}.index").is_file() else path


def read_files(directory: Path) -> dict[str, bytes]:
    """Reads the tokenizer files of a directory of any format.

    Args:
        directory: A Hugging Face or Google directory, a KerasHub preset, or files of a
            tokenizer alone.

    Returns:
        Their content by Hugging Face's names, and what the model says about them (see
        `MODEL_FILES`); what there is, maybe nothing.

    Raises:
        InputError: One is damaged, or too large to be one.
    """
    if any((directory / SIDECAR / name).is_file() for name in VOCABULARY_FILES):
        directory /= SIDECAR
    elif (directory / _PRESET_VOCABULARY).is_file():
        return _read_preset(directory)
    names = [n for n in (*TOKENIZER_FILES, *MODEL_FILES) if (directory / n).is_file()]
    return {name: _read(directory / name) for name in names}


def _read_preset(directory: Path) -> dict[str, bytes]:
    # KerasHub's tokenizer.json has nothing but the name in common with Hugging Face's.
    described = {"tokenizer.json": _read(directory / "tokenizer.json")}
    settings = TokenizerFiles(described).json("tokenizer.json").get("config")
    settings = settings if isinstance(settings, dict) else {}
    vocabulary = _read(directory / _PRESET_VOCABULARY)
    return wordpiece_files(
        vocabulary,
        lowercase=bool(settings.get("lowercase", False)),
        strip_accents=bool(settings.get("strip_accents", False)),
    )


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"{path.name} is missing.")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise InputError(f"{path.name} is larger than {_MAX_FILE_BYTES} bytes.")
    return path.read_bytes()


def wordpiece_files(
    vocabulary: bytes, *, lowercase: bool, strip_accents: bool | None
) -> dict[str, bytes]:
    """The files of a BERT tokenizer.

    Args:
        vocabulary: One piece a line, in id order, as UTF-8.
        lowercase: Whether it lowercases.
        strip_accents: Whether it drops accents; None: as `lowercase`.
    """
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase}
    if strip_accents is not None:
        settings["strip_accents"] = strip_accents
    return {
        "vocab.txt": vocabulary.rstrip(b"\n") + b"\n",
        "tokenizer_config.json": json.dumps(settings, indent=2).encode("utf-8"),
    }


def vocabulary_file(pieces: Sequence[str]) -> bytes:
    """The content of `vocab.txt`: one piece a line, in id order."""
    return ("\n".join(pieces) + "\n").encode("utf-8")
