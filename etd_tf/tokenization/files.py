"""The files that define a tokenizer, and the tokenizer that they define."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import normalizers

from etd_tf.errors import InputError
from etd_tf.tokenization.backends import (
    byte_level_backend,
    count_ids,
    with_added_tokens,
    wordpiece_backend,
)

# Everything Transformers may have written beside the weights. Kept byte for byte where
# nothing has to change, so that a student's tokenizer is exactly its teacher's.
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
MODEL_FILES = ("config.json", "sentence_bert_config.json")
"""Files of the model that say something about its tokenizer."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Settings of BERT's tokenizer by their names in tokenizer.json.
_NORMALIZATION = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# Classes of Transformers, without "Tokenizer" and "Fast", whose vocabulary means what ours does.
WORDPIECE_CLASSES = (
    *("Bert", "DistilBert", "Electra", "MobileBert", "SqueezeBert", "ConvBert", "LayoutLM"),
    *("Lxmert", "MPNet", "Retribert", "DPRReader", "DPRQuestionEncoder", "DPRContextEncoder"),
)
_BYTE_LEVEL = ("Roberta", "Longformer", "Bart", "LED")
MORE_SPECIALS = ("additional_special_tokens", "extra_special_tokens")
# Settings of what we do not build, by the values at which they change nothing.
_FOREIGN: dict[str, tuple[Any, ...]] = {
    "auto_map": (None, {}),
    "word_tokenizer_type": (None, "basic"),
    "subword_tokenizer_type": (None, "wordpiece"),
    "do_word_tokenize": (None, True),
    "do_subword_tokenize": (None, True),
    "do_basic_tokenize": (None, True),
    "never_split": (None, []),
}
_HOW_TO_CONVERT = (
    "Transformers writes tokenizer.json, which is read whatever the class: "
    "AutoTokenizer.from_pretrained(...).save_pretrained(directory)."
)
_CASED_SHARE = 0.05  # of the pieces with letters; an uncased vocabulary has a few by accident
_SUFFIX_SHARE = 0.1


class TokenizerFiles:
    """What the files of a tokenizer say.

    Args:
        files: Content by name (see `TOKENIZER_FILES`), maybe with `MODEL_FILES`.

    Attributes:
        files: The files of the tokenizer alone, without byte order marks. `tokenizer.json` has
            the tokens that other files add, and no padding, cutting or chance. Where a file of
            the model changes the tokenizer, they say so.
        settings: The content of `tokenizer_config.json`; empty where there is none.
        lowercase: Whether a WordPiece tokenizer lowercases its input. Where no file says
            so, it does unless many pieces of the vocabulary have upper-case letters.
        strip_accents: Whether a WordPiece tokenizer drops accents; None: as `lowercase`.
        notes: What no file says and was decided here, one sentence each.

    Raises:
        InputError: A file cannot be read.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = {name: text.removeprefix(_BYTE_ORDER_MARK) for name, text in files.items()}
        self.files = {name: text for name, text in self._files.items() if name not in MODEL_FILES}
        self.settings = self.json("tokenizer_config.json", optional=True)
        self.lowercase = _switch(self.settings.get("do_lower_case")) is not False
        self.strip_accents = _switch(self.settings.get("strip_accents"))
        self.notes: list[str] = []

    def backend(self) -> tokenizers.Tokenizer:
        """Builds the tokenizer.

        Raises:
            InputError: There is no usable vocabulary, files do not fit together, or they are
                those of a tokenizer that is not built here.
        """
        backend = self._completed(self._backend())
        sentences = self.json("sentence_bert_config.json", optional=True)
        if sentences.get("do_lower_case") is True:
            self._lowercase_first(backend)
        longest = sentences.get("max_seq_length")
        if type(longest) is int and longest > 0:
            self._change_settings(model_max_length=longest)
        return backend

    def _completed(self, backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
        """Adds the tokens that other files name, and takes out what is no property of texts."""
        dropout = getattr(backend.model, "dropout", None)
        changed = dropout or backend.padding is not None or backend.truncation is not None
        if dropout:
            backend.model.dropout = None
            self.notes.append("Its BPE leaves out merges by chance; here it does not.")
        backend.no_padding()
        backend.no_truncation()
        for find in (self._added_tokens, self._special_tokens):
            tokens = find(backend)
            backend, changed = with_added_tokens(backend, tokens), changed or bool(tokens)
        if changed and "tokenizer.json" in self.files:
            self.files["tokenizer.json"] = backend.to_str().encode("utf-8")
        return backend

    def _backend(self) -> tokenizers.Tokenizer:
        if "tokenizer.json" in self._files:
            return self._from_tokenizer_json()
        if "vocab.txt" in self._files:
            self._check_class(WORDPIECE_CLASSES, "vocab.txt")
            return self._from_vocabulary()
        if "vocab.json" in self._files and "merges.txt" in self._files:
            self._check_class(_BYTE_LEVEL, "vocab.json and merges.txt")
            return self._from_merges()
        raise InputError(
            "No usable tokenizer: expected tokenizer.json, vocab.txt, or vocab.json with "
            f"merges.txt, found {sorted(self.files) or 'nothing'}. {_HOW_TO_CONVERT}"
        )

    def _check_class(self, known: Sequence[str], names: str) -> None:
        """Refuses a vocabulary that means something else to the tokenizer it was made for."""
        declared = self._declared_class()
        kind = str(declared or "").removesuffix("Fast").removesuffix("Tokenizer")
        strange = [n for n, usual in _FOREIGN.items() if self.settings.get(n) not in usual]
        if (declared and kind not in known) or strange:
            said = f"tokenizer_class {declared!r}" if declared else "no tokenizer_class"
            raise InputError(
                f"{names} cannot be read as the tokenizer's files demand: they have {said}"
                f"{''.join(f', {name}={self.settings[name]!r}' for name in strange)}. Expected "
                f"one of {', '.join(f'{name}Tokenizer' for name in known)}. {_HOW_TO_CONVERT}"
            )

    def _declared_class(self) -> Any:
        config = self.json("config.json", optional=True)
        return self.settings.get("tokenizer_class") or config.get("tokenizer_class")

    def _lowercase_first(self, backend: tokenizers.Tokenizer) -> None:
        """Lowercases the input, as sentence-transformers does before the tokenizer."""
        normalizer = backend.normalizer
        if isinstance(normalizer, normalizers.BertNormalizer):
            if normalizer.lowercase:
                return
            strip = bool(normalizer.strip_accents)  # None would now mean true
            normalizer.lowercase, normalizer.strip_accents = True, strip
            self.lowercase, self.strip_accents = True, strip
            self._change_settings(do_lower_case=True, strip_accents=strip)
        else:
            rest = [] if normalizer is None else [normalizer]
            backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])
        self.files["tokenizer.json"] = backend.to_str().encode("utf-8")

    def _change_settings(self, **changes: Any) -> None:
        self.settings |= changes
        content = json.dumps(self.settings, indent=2, ensure_ascii=False)
        self.files["tokenizer_config.json"] = content.encode("utf-8")

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
            follows = takes_settings(str(self._declared_class() or "BertTokenizer"))
            said = {
                theirs: self.settings[ours]
                for ours, theirs in _NORMALIZATION.items()
                if follows and ours in self.settings
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
        vocabulary = {piece.rstrip(" \t\r"): index for index, piece in enumerate(pieces)}
        if "[UNK]" not in vocabulary:
            raise InputError("vocab.txt has no [UNK] entry; it is not a BERT vocabulary.")
        if _switch(self.settings.get("do_lower_case")) is None:
            self._decide_case(vocabulary)
        return wordpiece_backend(
            vocabulary,
            lowercase=self.lowercase,
            strip_accents=self.strip_accents,
            split_chinese=bool(self.settings.get("tokenize_chinese_chars", True)),
        )

    def _decide_case(self, vocabulary: Mapping[str, int]) -> None:
        cased = [piece for piece in vocabulary if _has_case(piece)]
        upper = sum(piece != piece.lower() for piece in cased)
        self.lowercase = upper < _CASED_SHARE * len(cased) or not upper
        if upper:
            self.notes.append(
                f"No file says whether the tokenizer lowercases; {upper} of {len(cased)} pieces "
                f"with letters have capitals, so it does{'' if self.lowercase else ' not'}. "
                "If that is wrong, set do_lower_case in tokenizer_config.json."
            )

    def _from_merges(self) -> tokenizers.Tokenizer:
        lines = [line for line in self._text("merges.txt").split("\n") if line.strip()]
        merges: Any = [tuple(ln.split()) for ln in lines if not ln.startswith("#version")]
        prefix_space = bool(self.settings.get("add_prefix_space", False))
        vocabulary = self.json("vocab.json")
        _check_byte_level(vocabulary)
        try:
            return byte_level_backend(vocabulary, merges, add_prefix_space=prefix_space)
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"vocab.json and merges.txt cannot be read ({error}).") from error

    def _added_tokens(self, backend: tokenizers.Tokenizer) -> dict[int, Any]:
        """Tokens by id that are beside the vocabulary, as Transformers saves them."""
        declared = self.settings.get("added_tokens_decoder")
        if not isinstance(declared, dict):
            added = self.json("added_tokens.json", optional=True)
            declared = {str(index): {"content": token} for token, index in added.items()}
        known = backend.get_added_tokens_decoder()
        try:
            found = {int(index): token for index, token in declared.items()}
        except ValueError as error:
            raise InputError(f"The ids of added tokens are no numbers ({error}).") from error
        return {
            index: token
            for index, token in found.items()
            if index not in known or known[index].content != _content(token)
        }

    def _special_tokens(self, backend: tokenizers.Tokenizer) -> dict[int, Any]:
        """Further tokens by id that no word is made of, because a setting names them.

        Those that the vocabulary lacks get the next ids, as in Transformers.
        """
        declared = {**self.json("special_tokens_map.json", optional=True), **self.settings}
        more: list[Any] = []
        for name in MORE_SPECIALS:
            value = declared.get(name)
            more += value.values() if isinstance(value, dict) else value or []
        known = {token.content for token in backend.get_added_tokens_decoder().values()}
        found: dict[int, Any] = {}
        new = {text: token for token in more if (text := _content(token)) and text not in known}
        size = count_ids(backend.get_vocab()) if new else 0
        for text, token in new.items():
            values = token if isinstance(token, dict) else {"content": text}
            index = backend.token_to_id(text)
            found[size if index is None else index] = {**values, "special": True}
            size += index is None
        return found


def _content(token: Any) -> str | None:
    """The text of a token in any of the forms that settings have; None for anything else."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) and content else None


def _switch(value: Any) -> bool | None:
    """A setting that may be left open; None for anything that is no boolean."""
    return value if isinstance(value, bool) else None


def takes_settings(declared: str) -> bool:
    """Whether a class makes BERT's tokenizer of its settings; DPR's always lowercase."""
    kind = declared.removesuffix("Fast").removesuffix("Tokenizer")
    return kind in WORDPIECE_CLASSES and not kind.startswith("DPR")


def _has_case(piece: str) -> bool:
    names = piece[:1] + piece[-1:] in ("[]", "<>")  # [CLS], [unused7], <S>
    return not names and piece.lower() != piece.upper()


def _check_byte_level(vocabulary: Mapping[str, int]) -> None:
    """Refuses other kinds of BPE, whose files have the same names.

    Byte-level BPE writes a space as U+0120. Others mark the end of a word, or that it goes on.
    """
    for mark in ("</w>", "@@"):
        if sum(piece.endswith(mark) for piece in vocabulary) > _SUFFIX_SHARE * len(vocabulary):
            raise InputError(
                f"vocab.json is no vocabulary of byte-level BPE: its pieces end in {mark}. "
                + _HOW_TO_CONVERT
            )
    if vocabulary and not any("\u0120" in piece for piece in vocabulary):
        raise InputError(
            "vocab.json is no vocabulary of byte-level BPE: no piece has its sign of a space, "
            f"U+0120. {_HOW_TO_CONVERT}"
        )
