"""Tokenizers built from vocabularies: BERT's WordPiece and RoBERTa's byte-level BPE."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from etd_tf.errors import InputError
from etd_tf.storage.text_files import HALF_PAIR

_WORDPIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BYTE_LEVEL_SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")
_MAX_TOKEN = 1000  # characters; an automaton looks for all added tokens at once
_SWITCHES = ("single_word", "lstrip", "rstrip", "normalized", "special")
_MAX_GAPS = 10_000  # ids without a token, beyond one a token


def count_ids(vocabulary: Mapping[str, int]) -> int:
    """Finds the size of the table that a vocabulary's ids point into.

    Returns:
        The highest id plus 1.

    Raises:
        InputError: It is empty, or its ids are spread over a multiple of their number: a
            small file would ask for a lot of memory.
    """
    size = max(vocabulary.values(), default=-1) + 1
    if not 0 < size <= 2 * len(vocabulary) + _MAX_GAPS:
        raise InputError(
            f"The vocabulary has {len(vocabulary)} tokens and ids up to {size - 1}; it is damaged. "
            "Copy or download the tokenizer again."
        )
    return size


def wordpiece_backend(
    vocabulary: Mapping[str, int],
    *,
    lowercase: bool,
    strip_accents: bool | None,
    split_chinese: bool,
) -> tokenizers.Tokenizer:
    """Builds BERT's tokenizer.

    Args:
        vocabulary: Id of each word piece; has `[UNK]`.
        lowercase: Lowercase the text.
        strip_accents: Drop accents; None: as `lowercase`.
        split_chinese: Make each Chinese character a word.

    Source: Devlin et al. 2018 (arXiv 1810.04805), google-research/bert `tokenization.py`.
    """
    model = models.WordPiece(dict(vocabulary), unk_token="[UNK]", max_input_chars_per_word=100)
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=split_chinese
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([token for token in _WORDPIECE_SPECIALS if token in vocabulary])
    if "[CLS]" in vocabulary and "[SEP]" in vocabulary:
        backend.post_processor = processors.BertProcessing(
            ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
        )
    return backend


def byte_level_backend(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], *, add_prefix_space: bool
) -> tokenizers.Tokenizer:
    """Builds RoBERTa's tokenizer.

    Args:
        vocabulary: Id of each token.
        merges: Pairs in the order they are merged.
        add_prefix_space: Treat the first word as if a space came before it.

    Raises:
        Exception: The merges do not fit the vocabulary (the library has no own error class).

    Source: Liu et al. 2019 (arXiv 1907.11692), section 4.4.
    """
    backend = tokenizers.Tokenizer(models.BPE(dict(vocabulary), list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", vocabulary["</s>"]),
        ("<s>", vocabulary["<s>"]),
        add_prefix_space=add_prefix_space,
    )
    mask = tokenizers.AddedToken("<mask>", lstrip=True, special=True)  # takes the space before it
    plain = [token for token in _BYTE_LEVEL_SPECIALS if token in vocabulary]
    backend.add_special_tokens([*plain, mask])
    return backend


def with_added_tokens(
    backend: tokenizers.Tokenizer, added: Mapping[int, Any]
) -> tokenizers.Tokenizer:
    """Adds the tokens that a vocabulary file does not hold.

    Args:
        backend: The tokenizer of the vocabulary; may be changed in place.
        added: By id `{"content": TOKEN, ...}` with the fields of `tokenizers.AddedToken`.

    Raises:
        InputError: An entry is malformed, or a token would get another id.
    """
    if not added:
        return backend
    size = count_ids(backend.get_vocab())  # ids are line numbers; repeated lines leave gaps
    if backend.get_vocab_size() < size <= max(added):
        backend = _without_gaps(backend)
    for index, values in sorted(added.items()):
        token = _added_token(index, values)
        known = backend.token_to_id(token.content)
        if known is None and index != size:
            raise InputError(
                f"Added token {token.content!r} has id {index}, but the vocabulary ends at "
                f"{size - 1}. Files of one tokenizer belong together: copy or download them again."
            )
        if known not in (None, index):
            raise InputError(
                f"Added token {token.content!r} has id {index}, but the vocabulary gives it "
                f"{known}."
            )
        size += known is None
        backend.add_tokens([token])
    return backend


def _added_token(index: int, values: Any) -> tokenizers.AddedToken:
    content = values.get("content") if isinstance(values, dict) else None
    content = content if isinstance(content, str) else ""
    if HALF_PAIR.search(content) or not 0 < len(content) <= _MAX_TOKEN:
        raise InputError(
            f"Added token {index} is {str(values)[:100]!r}; expected an object with content of "
            f"1 to {_MAX_TOKEN} characters."
        )
    switches = {name: values[name] is True for name in _SWITCHES if name in values}
    return tokenizers.AddedToken(content, **switches)


def _without_gaps(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Fills the ids without a piece, as the library counts pieces to number added tokens.

    The fillers hold spaces, so no word is one.
    """
    state = json.loads(backend.to_str())
    vocabulary = state["model"]["vocab"]
    for index in set(range(count_ids(vocabulary))) - set(vocabulary.values()):
        vocabulary[f"[no piece {index}]"] = index
    return tokenizers.Tokenizer.from_str(json.dumps(state))
