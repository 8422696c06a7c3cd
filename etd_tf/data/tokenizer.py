"""The tokenizer that travels with a checkpoint."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from etd_tf.data.tokenizer_backends import byte_level_backend, count_ids, wordpiece_backend
from etd_tf.errors import InputError

# Everything Transformers may have written beside the weights. Kept byte for byte, so
# that a student's tokenizer is exactly its teacher's.
TOKENIZER_FILES = (
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
)
_VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")
_MAX_FILE_BYTES = 256 << 20
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
        files: Content of tokenizer files by name (see `TOKENIZER_FILES`); one of
            `tokenizer.json`, `vocab.txt` (WordPiece) or `vocab.json` with `merges.txt`
            (byte-level BPE) is needed.

    Attributes:
        files: The files, byte for byte.
        settings: The content of `tokenizer_config.json`; empty where there is none.
        backend: The `tokenizers.Tokenizer`; it adds special tokens, never truncates
            and never pads unless told to.
        lowercase: Whether a WordPiece tokenizer lowercases its input. Where no file says
            so, it does unless the vocabulary has upper-case letters.
        strip_accents: Whether a WordPiece tokenizer drops accents; None: as `lowercase`.
        special_tokens: The token of each role: `pad`, `unk`, `cls`, `sep` and `mask`.
        vocab_size: The highest token id plus 1, added tokens included.

    Raises:
        InputError: No usable vocabulary, or a special token is missing.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.settings = self._json("tokenizer_config.json", optional=True)
        self.lowercase = bool(self.settings.get("do_lower_case", True))
        self.strip_accents = _switch(self.settings.get("strip_accents"))
        if "tokenizer.json" in files:
            self.backend = self._from_tokenizer_json()
        elif "vocab.txt" in files:
            self.backend = self._from_vocabulary()
        elif "vocab.json" in files and "merges.txt" in files:
            self.backend = self._from_merges()
        else:
            raise InputError(
                "No usable tokenizer: expected tokenizer.json, vocab.txt, or vocab.json with "
                f"merges.txt, found {sorted(files) or 'nothing'}. Transformers writes "
                "tokenizer.json: AutoTokenizer.from_pretrained(...).save_pretrained(directory)."
            )
        self.backend.no_padding()
        self.backend.no_truncation()
        vocabulary = self.backend.get_vocab()
        self.vocab_size = count_ids(vocabulary)
        self.special_tokens = self._find_special_tokens(vocabulary)
        self._special_ids = {role: vocabulary[t] for role, t in self.special_tokens.items()}
        self.encode_batch([_PROBE])  # fails for parts that do not fit together

    @classmethod
    def from_directory(cls, directory: str | Path) -> "Tokenizer":
        """Reads the tokenizer files of a checkpoint directory.

        Raises:
            InputError: The directory is missing or holds no usable tokenizer.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise InputError(f"Tokenizer directory {directory} does not exist.")
        try:
            return cls(_read_files(directory))
        except InputError as error:
            raise InputError(f"{directory}: {error}") from error

    @classmethod
    def find(cls, directory: str | Path) -> "Tokenizer | None":
        """Reads the tokenizer of a directory that may have none.

        Raises:
            InputError: There are vocabulary files, but no usable tokenizer.
        """
        directory = Path(directory)
        if not any((directory / name).is_file() for name in _VOCABULARY_FILES):
            return None
        return cls.from_directory(directory)

    @classmethod
    def from_wordpieces(
        cls,
        vocabulary: Sequence[str],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
    ) -> "Tokenizer":
        """Builds a BERT WordPiece tokenizer from its vocabulary in id order."""
        settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase}
        if strip_accents is not None:
            settings["strip_accents"] = strip_accents
        return cls(
            {
                "vocab.txt": _vocabulary_file(vocabulary),
                "tokenizer_config.json": json.dumps(settings, indent=2).encode("utf-8"),
            }
        )

    def _json(self, name: str, *, optional: bool = False) -> dict[str, Any]:
        if optional and name not in self.files:
            return {}
        try:
            values = json.loads(self.files[name].decode("utf-8"))
        except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or endless digits
            raise InputError(f"{name} is not valid JSON ({error}).") from error
        if not isinstance(values, dict):
            raise InputError(f"{name} does not hold a JSON object.")
        return values

    def _text(self, name: str) -> str:
        try:
            return self.files[name].decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is not UTF-8 ({error}).") from error

    def _from_tokenizer_json(self) -> tokenizers.Tokenizer:
        normalizer = self._json("tokenizer.json").get("normalizer")
        if isinstance(normalizer, dict) and normalizer.get("type") == "BertNormalizer":
            self.lowercase = bool(normalizer.get("lowercase", True))
            self.strip_accents = _switch(normalizer.get("strip_accents"))
        try:
            return tokenizers.Tokenizer.from_str(self._text("tokenizer.json"))
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"tokenizer.json cannot be read ({error}).") from error

    def _from_vocabulary(self) -> tokenizers.Tokenizer:
        pieces = self._text("vocab.txt").split("\n")
        while pieces and not pieces[-1].strip():
            pieces.pop()
        vocabulary = {piece.rstrip("\r"): index for index, piece in enumerate(pieces)}
        if "[UNK]" not in vocabulary:
            raise InputError("vocab.txt has no [UNK] entry; it is not a BERT vocabulary.")
        if "do_lower_case" not in self.settings:
            self.lowercase = not any(map(_has_upper_case, vocabulary))
        return wordpiece_backend(
            vocabulary,
            lowercase=self.lowercase,
            strip_accents=self.strip_accents,
            split_chinese=bool(self.settings.get("tokenize_chinese_chars", True)),
        )

    def _from_merges(self) -> tokenizers.Tokenizer:
        lines = [line for line in self._text("merges.txt").split("\n") if line.strip()]
        merges: Any = [tuple(ln.split()) for ln in lines if not ln.startswith("#version")]
        prefix_space = bool(self.settings.get("add_prefix_space", False))
        try:
            return byte_level_backend(
                self._json("vocab.json"), merges, add_prefix_space=prefix_space
            )
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"vocab.json and merges.txt cannot be read ({error}).") from error

    def _find_special_tokens(self, vocabulary: Mapping[str, int]) -> dict[str, str]:
        """Takes each role's token from the settings, else the first usual name that exists."""
        declared = {**self._json("special_tokens_map.json", optional=True), **self.settings}
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

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""
        return self._special_ids["pad"]

    @property
    def unk_id(self) -> int:
        """Id of the unknown token."""
        return self._special_ids["unk"]

    @property
    def cls_id(self) -> int:
        """Id of the first token of every sequence."""
        return self._special_ids["cls"]

    @property
    def sep_id(self) -> int:
        """Id of the separator token."""
        return self._special_ids["sep"]

    @property
    def mask_id(self) -> int:
        """Id of the token that replaces masked ones."""
        return self._special_ids["mask"]

    @property
    def wordpieces(self) -> list[str] | None:
        """The WordPiece vocabulary in id order, or None for another kind of tokenizer."""
        if type(self.backend.model).__name__ != "WordPiece":
            return None
        by_id = {index: piece for piece, index in self.backend.get_vocab().items()}
        return [by_id.get(index, f"[unused-{index}]") for index in range(max(by_id) + 1)]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Tokenises texts in parallel, without special tokens.

        Args:
            texts: Raw texts.

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
        Path(path).write_bytes(_vocabulary_file(pieces))

    def save(self, directory: str | Path) -> None:
        """Writes the files, byte for byte, into an existing directory."""
        for name, content in self.files.items():
            (Path(directory) / name).write_bytes(content)

    def fingerprint(self) -> str:
        """SHA-256 of the vocabulary and normalisation, independent of file layout."""
        state = json.dumps(json.loads(self.backend.to_str()), sort_keys=True)
        return hashlib.sha256(state.encode("utf-8")).hexdigest()


def _switch(value: Any) -> bool | None:
    """A setting that may be left open; None for anything that is no boolean."""
    return value if isinstance(value, bool) else None


def _read_files(directory: Path) -> dict[str, bytes]:
    files = {}
    for path in (directory / name for name in TOKENIZER_FILES):
        if not path.is_file():
            continue
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InputError(f"{path.name} is larger than {_MAX_FILE_BYTES} bytes.")
        files[path.name] = path.read_bytes()
    return files


def _vocabulary_file(pieces: Sequence[str]) -> bytes:
    return ("\n".join(pieces) + "\n").encode("utf-8")


def _has_upper_case(piece: str) -> bool:
    bracketed = piece.startswith("[") and piece.endswith("]")  # [CLS], [unused7]
    return not bracketed and piece != piece.lower()
