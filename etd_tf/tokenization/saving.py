"""A tokenizer for other programs: what they make of it, and files that leave them no choice."""

import json
from pathlib import Path
from typing import Any

from etd_tf.tokenization.files import MORE_SPECIALS, takes_settings
from etd_tf.tokenization.tokenizer import Tokenizer

_ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_WORDPIECE = {
    "unk_token": "[UNK]",
    "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 100,
}
_READ_AS_IT_IS = "PreTrainedTokenizerFast"  # the class that builds nothing of its own
_OF_CLASSES = (
    *("auto_map", "add_prefix_space", "do_lower_case", "strip_accents"),
    "tokenize_chinese_chars",
)


def save_for_transformers(
    tokenizer: Tokenizer, directory: str | Path, *, max_length: int, num_segments: int
) -> None:
    """Writes files from which `AutoTokenizer` builds the same tokenizer without a guess."""
    directory = Path(directory)
    tokenizer.save(directory)
    if "tokenizer.json" not in tokenizer.files:
        (directory / "tokenizer.json").write_text(tokenizer.backend.to_str(), encoding="utf-8")
    settings = dict(tokenizer.settings)
    settings.pop("auto_map", None)  # its code does not travel
    for name in MORE_SPECIALS:
        if isinstance(settings.get(name), list):  # what else they say is in tokenizer.json
            settings[name] = [
                t.get("content") if isinstance(t, dict) else t for t in settings[name]
            ]
    plain = not different_options(tokenizer, strip_accents=tokenizer.strip_accents)
    if plain and takes_settings(str(settings.setdefault("tokenizer_class", "BertTokenizer"))):
        # Transformers goes by these, whatever tokenizer.json says.
        settings["do_lower_case"] = tokenizer.lowercase
        settings["strip_accents"] = tokenizer.strip_accents
        settings["tokenize_chinese_chars"] = splits_chinese(tokenizer)
    else:
        settings = {name: v for name, v in settings.items() if name not in _OF_CLASSES}
        settings["tokenizer_class"] = _READ_AS_IT_IS
    for role, token in tokenizer.special_tokens.items():
        settings.setdefault(f"{role}_token", token)
    if num_segments == 1:  # no table for the second segment of a pair
        settings.setdefault("model_input_names", ["input_ids", "attention_mask"])
    longest = settings.get("model_max_length")
    fits = isinstance(longest, int) and 0 < longest <= max_length
    settings["model_max_length"] = longest if fits else max_length
    content = json.dumps(settings, indent=2) + "\n"
    (directory / "tokenizer_config.json").write_text(content, encoding="utf-8")


def splits_chinese(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer with BERT's normaliser makes each Chinese character a word."""
    return bool(tokenizer.backend.normalizer.handle_chinese_chars)


def fits_bert(tokenizer: Tokenizer) -> bool:
    """Whether it is WordPiece with BERT's special tokens, which programs take for granted."""
    return tokenizer.wordpieces is not None and tokenizer.special_tokens == _ROLES


def different_options(
    tokenizer: Tokenizer,
    *,
    strip_accents: bool | None = None,
    split_chinese: bool | None = None,
) -> list[str]:
    """Says how BERT's tokenizer, with the same case, differs.

    Args:
        tokenizer: The tokenizer.
        strip_accents: Whether BERT's drops accents; None: where it lowercases.
        split_chinese: Whether it makes each Chinese character a word; None: as the tokenizer.

    Returns:
        What the tokenizer does, one phrase each; empty where both give the same ids.
    """
    state = json.loads(tokenizer.backend.to_str())
    normalizer, splitter = state.get("normalizer") or {}, state.get("pre_tokenizer") or {}
    found = []
    if tokenizer.wordpieces is None:
        found.append(f"is {state['model'].get('type')}, not WordPiece")
    elif any(state["model"].get(name, usual) != usual for name, usual in _WORDPIECE.items()):
        found.append("has other settings of WordPiece")
    if splitter.get("type") != "BertPreTokenizer":
        found.append(f"splits words with {splitter.get('type', 'nothing')}")
    if normalizer.get("type") != "BertNormalizer":
        return [*found, f"normalises with {normalizer.get('type', 'nothing')}"]
    return found + _different_normalizer(normalizer, strip_accents, split_chinese)


def _different_normalizer(
    options: dict[str, Any], strip_accents: bool | None, split_chinese: bool | None
) -> list[str]:
    lowercase, strips = options["lowercase"], options["strip_accents"]
    strips = lowercase if strips is None else strips
    splits = options["handle_chinese_chars"]
    found = []
    if strips != (lowercase if strip_accents is None else strip_accents):
        found.append("strips accents" if strips else "keeps accents")
    if split_chinese not in (None, splits):
        found.append(f"{'splits' if splits else 'does not split'} Chinese characters")
    if not options["clean_text"]:
        found.append("keeps control characters")
    return found


def different_tokens(tokenizer: Tokenizer) -> list[str]:
    """Says which special and added tokens BERT's tokenizer does not know.

    Returns:
        Phrases as of `different_options`.
    """
    found = []
    if tokenizer.special_tokens != _ROLES:
        found.append(f"has the special tokens {', '.join(tokenizer.special_tokens.values())}")
    roles = set(tokenizer.special_tokens.values())
    added = tokenizer.backend.get_added_tokens_decoder().values()
    others = sorted(token.content for token in added if token.content not in roles)
    if others:
        found.append(f"has the added tokens {', '.join(others[:5])}")
    return found
