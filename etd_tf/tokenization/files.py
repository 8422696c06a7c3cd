"""The files that define a tokenizer, and the tokenizer that they define."""

import json
from collections.abc import Mapping
from typing import Any

import tokenizers

from etd_tf.errors import InputError
from etd_tf.tokenization.backends import (
    byte_level_backend,
    with_added_tokens,
    wordpiece_backend,
)

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
VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")
# Settings of BERT's tokenizer by their names in tokenizer.json.
_NORMALIZATION = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


class TokenizerFiles:
    """What the files of a tokenizer say.

    Args:
        files: Content by name (see `TOKENIZER_FILES`).

    Attributes:
        settings: The content of `tokenizer_config.json`; empty where there is none.
        lowercase: Whether a WordPiece tokenizer lowercases its input. Where no file says
            so, it does unless the vocabulary has upper-case letters.
        strip_accents: Whether a WordPiece tokenizer drops accents; None: as `lowercase`.

    Raises:
        InputError: A file cannot be read.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self.settings = self.json("tokenizer_config.json", optional=True)
        self.lowercase = bool(self.settings.get("do_lower_case", True))
        self.strip_accents = _switch(self.settings.get("strip_accents"))

    def backend(self) -> tokenizers.Tokenizer:
        """Builds the tokenizer.

        Raises:
            InputError: There is no usable vocabulary, or files do not fit together.
        """
        if "tokenizer.json" in self._files:
            return self._from_tokenizer_json()
        if "vocab.txt" in self._files:
            return with_added_tokens(self._from_vocabulary(), self._added_tokens())
        if "vocab.json" in self._files and "merges.txt" in self._files:
            return with_added_tokens(self._from_merges(), self._added_tokens())
        raise InputError(
            "No usable tokenizer: expected tokenizer.json, vocab.txt, or vocab.json with "
            f"merges.txt, found {sorted(self._files) or 'nothing'}. Transformers writes "
            "tokenizer.json: AutoTokenizer.from_pretrained(...).save_pretrained(directory)."
        )

    def json(self, name: str, *, optional: bool = False) -> dict[str, Any]:
        """Reads a file that holds a JSON object; an empty one where it may be missing.

        Raises:
            InputError: It is something else.
        """
        if optional and name not in self._files:
            return {}
        try:
            values = json.loads(self._files[name].decode("utf-8"))
        except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or endless digits
            raise InputError(f"{name} is not valid JSON ({error}).") from error
        if not isinstance(values, dict):
            raise InputError(f"{name} does not hold a JSON object.")
        return values

    def _text(self, name: str) -> str:
        try:
            return self._files[name].decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is not UTF-8 ({error}).") from error

    def _from_tokenizer_json(self) -> tokenizers.Tokenizer:
        text, values = self._text("tokenizer.json"), self.json("tokenizer.json")
        normalizer = values.get("normalizer")
        if isinstance(normalizer, dict) and normalizer.get("type") == "BertNormalizer":
            found = {theirs: normalizer.get(theirs) for theirs in _NORMALIZATION.values()}
            said = {
                theirs: self.settings[ours]
                for ours, theirs in _NORMALIZATION.items()
                if _is_bert(self.settings) and ours in self.settings
            }
            if found | said != found:  # Transformers follows the settings
                normalizer.update(said)
                text = json.dumps(values, ensure_ascii=False)
            self.lowercase = bool(normalizer.get("lowercase", True))
            self.strip_accents = _switch(normalizer.get("strip_accents"))
        try:
            return tokenizers.Tokenizer.from_str(text)
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
                self.json("vocab.json"), merges, add_prefix_space=prefix_space
            )
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"vocab.json and merges.txt cannot be read ({error}).") from error

    def _added_tokens(self) -> dict[int, Any]:
        """Tokens beside the vocabulary by id, as Transformers' slow tokenizers save them."""
        declared = self.settings.get("added_tokens_decoder")
        if not isinstance(declared, dict):
            added = self.json("added_tokens.json", optional=True)
            declared = {str(index): {"content": token} for token, index in added.items()}
        try:
            return {int(index): token for index, token in declared.items()}
        except ValueError as error:
            raise InputError(f"The ids of added tokens are no numbers ({error}).") from error


def _switch(value: Any) -> bool | None:
    """A setting that may be left open; None for anything that is no boolean."""
    return value if isinstance(value, bool) else None


def _is_bert(settings: Mapping[str, Any]) -> bool:
    return str(settings.get("tokenizer_class", "")).startswith(("BertTokenizer", "DistilBert"))


def _has_upper_case(piece: str) -> bool:
    bracketed = piece.startswith("[") and piece.endswith("]")  # [CLS], [unused7]
    return not bracketed and piece != piece.lower()
