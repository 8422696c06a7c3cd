"""The tokenizer that travels with a checkpoint."""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from etd_tf.errors import InputError
from etd_tf.storage.home import expand
from etd_tf.tokenization.backends import count_ids
from etd_tf.tokenization.directories import (
    find_directory,
    read_files,
    vocabulary_file,
    wordpiece_files,
)
from etd_tf.tokenization.files import VOCABULARY_FILES, TokenizerFiles

_PROBE = "A z\uffff\u4e00."  # with a character that no vocabulary has
_ROLE_NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}


class Tokenizer:
    """A Hugging Face `tokenizers.Tokenizer` together with the files that define it.

    Args:
        files: Content of tokenizer files by name (see `tokenizer_files`); one of
            `tokenizer.json`, `vocab.txt` (WordPiece) or `vocab.json` with `merges.txt`
            (byte-level BPE) is needed.

    Attributes:
        files: The files, byte for byte but for what `TokenizerFiles` changes.
        settings: The content of `tokenizer_config.json`; empty where there is none.
        backend: The `tokenizers.Tokenizer`; it adds special tokens, never truncates
            and never pads unless told to.
        lowercase: Whether a WordPiece tokenizer lowercases its input. Where no file says
            so, it does unless many pieces of the vocabulary have upper-case letters.
        strip_accents: Whether a WordPiece tokenizer drops accents; None: as `lowercase`.
        notes: What no file says and was decided here, one sentence each.
        special_tokens: The token of each role: `pad`, `unk`, `cls`, `sep` and `mask`.
        pad_id: The id of that token, as are `unk_id`, `cls_id`, `sep_id` and `mask_id`.
        vocab_size: The highest token id plus 1, added tokens included.

    Raises:
        InputError: No usable vocabulary, or a special token is missing.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        parts = TokenizerFiles(files)
        self.backend = parts.backend()
        self.files, self.settings, self.notes = parts.files, parts.settings, tuple(parts.notes)
        self.lowercase, self.strip_accents = parts.lowercase, parts.strip_accents
        vocabulary = self.backend.get_vocab()
        self.vocab_size = count_ids(vocabulary)
        declared = {**parts.json("special_tokens_map.json", optional=True), **parts.settings}
        self.special_tokens = _find_special_tokens(vocabulary, declared)
        ids = [vocabulary[token] for token in self.special_tokens.values()]
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = ids
        (probe,) = self.encode_batch([_PROBE])  # fails for parts that do not fit together
        around = self.backend.encode(_PROBE).ids
        if around != [self.cls_id, *probe, self.sep_id]:
            self.notes += (
                f"The files make {around} of a text that is {probe}; models get "
                f"{self.special_tokens['cls']} before a text and {self.special_tokens['sep']} "
                "behind it, and nothing else.",
            )

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[dict[str, bytes]]]:
        return Tokenizer, (self.files,)  # how it travels to other processes

    @classmethod
    def from_directory(cls, directory: str | Path) -> "Tokenizer":
        """Reads the tokenizer of a checkpoint.

        Args:
            directory: A Hugging Face or Google directory, a KerasHub preset, the path of a
                Google checkpoint without `.index`, or files of a tokenizer alone.

        Raises:
            InputError: The directory is missing or holds no usable tokenizer.
        """
        directory = find_directory(expand(directory))
        if not directory.is_dir():
            raise InputError(f"Tokenizer directory {directory} does not exist.")
        with _errors_named(directory):
            return cls(read_files(directory))._tell(directory)

    @classmethod
    def find(cls, directory: str | Path) -> "Tokenizer | None":
        """Reads the tokenizer of a checkpoint that may have none, from where `from_directory` does.

        Raises:
            InputError: There are vocabulary files, but no usable tokenizer.
        """
        directory = find_directory(expand(directory))
        with _errors_named(directory):
            files = read_files(directory)
            if not any(name in files for name in VOCABULARY_FILES):
                return None
            return cls(files)._tell(directory)

    def _tell(self, directory: Path) -> "Tokenizer":
        for note in self.notes:
            logging.warning("%s: %s", directory, note)
        return self

    @classmethod
    def from_wordpieces(
        cls,
        vocabulary: Sequence[str],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
    ) -> "Tokenizer":
        """Builds a BERT WordPiece tokenizer from its vocabulary in id order."""
        content = vocabulary_file(vocabulary)
        return cls(wordpiece_files(content, lowercase=lowercase, strip_accents=strip_accents))

    @property
    def wordpieces(self) -> list[str] | None:
        """The WordPiece vocabulary in id order, or None for another kind of tokenizer."""
        if type(self.backend.model).__name__ != "WordPiece":
            return None
        by_id = {index: piece for piece, index in self.backend.get_vocab().items()}
        return [by_id.get(index, f"[unused-{index}]") for index in range(max(by_id) + 1)]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Tokenises texts in parallel, without special tokens.

        Returns:
            One list of token ids a text, of any length.

        Raises:
            InputError: The tokenizer's parts do not fit together.
        """
        try:
            encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"The tokenizer cannot tokenise text ({error}).") from error
        return [encoding.ids for encoding in encodings]

    def save_vocabulary(self, path: str | Path) -> None:
        """Writes the WordPiece vocabulary as text, one piece a line in id order.

        Raises:
            InputError: The tokenizer is not a WordPiece one.
        """
        pieces = self.wordpieces
        if pieces is None:
            kind = type(self.backend.model).__name__
            raise InputError(f"A {kind} tokenizer has no WordPiece vocabulary to write.")
        Path(path).write_bytes(vocabulary_file(pieces))

    def save(self, directory: str | Path) -> None:
        """Writes the files, byte for byte, into an existing directory."""
        for name, content in self.files.items():
            (Path(directory) / name).write_bytes(content)

    def fingerprint(self) -> str:
        """SHA-256 of the vocabulary and normalisation, independent of file layout."""
        state = json.dumps(json.loads(self.backend.to_str()), sort_keys=True)
        return hashlib.sha256(state.encode("utf-8")).hexdigest()


@contextlib.contextmanager
def _errors_named(directory: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{directory}: {error}") from error


def _find_special_tokens(
    vocabulary: Mapping[str, int], declared: Mapping[str, Any]
) -> dict[str, str]:
    """Takes each role's token from the settings, else the first usual name that exists."""
    tokens = {}
    for role, usual in _ROLE_NAMES.items():
        token = declared.get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        names = (token, *usual) if isinstance(token, str) else usual
        found = next((name for name in names if name in vocabulary), None)
        if found is None:
            raise InputError(
                f"The vocabulary has no {role} token; expected one of {', '.join(names)}."
            )
        tokens[role] = found
    return tokens
