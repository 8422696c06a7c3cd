"""The tokenizer that travels with a checkpoint."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

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
        files: Content of tokenizer files by name (see `TOKENIZER_FILES`); either
            `tokenizer.json` or `vocab.txt` (WordPiece) is needed.

    Attributes:
        files: The files, byte for byte.
        backend: The `tokenizers.Tokenizer`; it adds special tokens, never truncates
            and never pads unless told to.
        lowercase: Whether a WordPiece tokenizer lowercases its input.

    Raises:
        InputError: No usable vocabulary, or a special token is missing.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        settings = self._json("tokenizer_config.json") if "tokenizer_config.json" in files else {}
        self.lowercase = bool(settings.get("do_lower_case", True))
        if "tokenizer.json" in files:
            self.backend = self._from_tokenizer_json()
        elif "vocab.txt" in files:
            self.backend = self._from_vocabulary()
        else:
            raise InputError(
                f"No tokenizer: expected tokenizer.json or vocab.txt, found {sorted(files)}."
            )
        self.backend.no_padding()
        self.backend.no_truncation()
        vocabulary = self.backend.get_vocab()
        self._special_ids = {role: self._special_id(role, vocabulary) for role in _ROLE_NAMES}

    @classmethod
    def from_directory(cls, directory: str | Path) -> "Tokenizer":
        """Reads the tokenizer files of a checkpoint directory.

        Raises:
            InputError: The directory is missing or holds no usable tokenizer.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise InputError(f"Tokenizer directory {directory} does not exist.")
        paths = [directory / name for name in TOKENIZER_FILES]
        try:
            return cls({path.name: path.read_bytes() for path in paths if path.is_file()})
        except InputError as error:
            raise InputError(f"{directory}: {error}") from error

    @classmethod
    def from_wordpieces(cls, vocabulary: Sequence[str], *, lowercase: bool = True) -> "Tokenizer":
        """Builds a BERT WordPiece tokenizer from its vocabulary in id order."""
        settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase}
        return cls(
            {
                "vocab.txt": ("\n".join(vocabulary) + "\n").encode("utf-8"),
                "tokenizer_config.json": json.dumps(settings, indent=2).encode("utf-8"),
            }
        )

    def _json(self, name: str) -> dict[str, Any]:
        try:
            values = json.loads(self.files[name].decode("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{name} is not valid JSON ({error}).") from error
        if not isinstance(values, dict):
            raise InputError(f"{name} does not hold a JSON object.")
        return values

    def _from_tokenizer_json(self) -> tokenizers.Tokenizer:
        values = self._json("tokenizer.json")
        normalizer = values.get("normalizer")
        if isinstance(normalizer, dict) and normalizer.get("type") == "BertNormalizer":
            self.lowercase = bool(normalizer.get("lowercase", True))
        try:
            return tokenizers.Tokenizer.from_str(self.files["tokenizer.json"].decode("utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"tokenizer.json cannot be read ({error}).") from error

    def _from_vocabulary(self) -> tokenizers.Tokenizer:
        try:
            pieces = self.files["vocab.txt"].decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise InputError(f"vocab.txt is not UTF-8 ({error}).") from error
        while pieces and not pieces[-1].strip():
            pieces.pop()
        vocabulary = {piece.rstrip("\r"): index for index, piece in enumerate(pieces)}
        if "[UNK]" not in vocabulary:
            raise InputError("vocab.txt has no [UNK] entry; it is not a BERT vocabulary.")
        backend = tokenizers.Tokenizer(
            tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)
        )
        backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=self.lowercase)
        backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        backend.decoder = tokenizers.decoders.WordPiece()
        specials = [names[0] for names in _ROLE_NAMES.values() if names[0] in vocabulary]
        backend.add_special_tokens(specials)
        if "[CLS]" in vocabulary and "[SEP]" in vocabulary:
            backend.post_processor = tokenizers.processors.BertProcessing(
                ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
            )
        return backend

    def _special_id(self, role: str, vocabulary: Mapping[str, int]) -> int:
        for name in _ROLE_NAMES[role]:
            if name in vocabulary:
                return vocabulary[name]
        raise InputError(
            f"The vocabulary has no {role} token; expected one of {', '.join(_ROLE_NAMES[role])}."
        )

    @property
    def vocab_size(self) -> int:
        """Number of token ids, added tokens included."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

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
        """
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def save(self, directory: str | Path) -> None:
        """Writes the files, byte for byte, into an existing directory."""
        for name, content in self.files.items():
            (Path(directory) / name).write_bytes(content)

    def fingerprint(self) -> str:
        """SHA-256 of the vocabulary and normalisation, independent of file layout."""
        state = json.dumps(json.loads(self.backend.to_str()), sort_keys=True)
        return hashlib.sha256(state.encode("utf-8")).hexdigest()
