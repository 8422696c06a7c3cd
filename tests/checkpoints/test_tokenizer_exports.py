"""Every property of a tokenizer in every format: the same ids, or a note that says no."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.checkpoints.loading import load_checkpoint, save_checkpoint
from etd_tf.export import FORMATS, TextEncoder, litert, why_not_encodable
from etd_tf.tokenization.files import WORDPIECE_CLASSES
from etd_tf.tokenization.saving import save_for_transformers
from etd_tf.tokenization.tokenizer import Tokenizer
from tests.helpers import random_parameters, tiny_config

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [
    *SPECIALS,
    "\u7684",
    "\u4eba",
    "##\u4eba",
    "e",
    "\u00e9",
    "E",
    "\u00c9",
    "cat",
    "co",
    "##vid",
]
TEXTS = ["\u7684\u4eba e", "\u00e9 E \u00c9", "cat [MASK] covid [NEW] covid"]


def bert(*, vocabulary: Sequence[str] = PIECES, added: Any = None, **options: Any) -> Tokenizer:
    values = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **options}
    files = {
        "vocab.txt": "\n".join(vocabulary).encode(),
        "tokenizer_config.json": json.dumps(values).encode(),
        "added_tokens.json": json.dumps(added or {}).encode(),
    }
    return Tokenizer(files)


def another(
    normalizer: Any, splitter: Any, model: Any = None, declared: str = "BertTokenizer"
) -> Tokenizer:
    """A `tokenizer.json` that says something else than the class beside it."""
    vocabulary = {piece: index for index, piece in enumerate(PIECES)}
    backend = tokenizers.Tokenizer(model or models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    backend.add_special_tokens(SPECIALS)
    code = {"AutoTokenizer": ["x.Y", None]}
    settings = json.dumps({"tokenizer_class": declared, "auto_map": code}).encode()
    return Tokenizer(
        {"tokenizer.json": backend.to_str().encode(), "tokenizer_config.json": settings}
    )


def unigram() -> Any:
    pieces = [(piece, -1.0 - index / 10) for index, piece in enumerate([*SPECIALS, "\u2581e"])]
    return models.Unigram(pieces, unk_id=1)


BERT = normalizers.BertNormalizer(lowercase=False)
SPLIT = pre_tokenizers.BertPreTokenizer()
PROPERTIES: dict[str, Tokenizer] = {
    "lower case": bert(),
    "cased": bert(do_lower_case=False),
    "lower case, accents kept": bert(strip_accents=False),
    "cased, accents stripped": bert(do_lower_case=False, strip_accents=True),
    "Chinese not split": bert(tokenize_chinese_chars=False),
    "Chinese not split, in tokenizer.json": another(
        normalizers.BertNormalizer(lowercase=False, handle_chinese_chars=False), SPLIT
    ),
    "added": bert(added={"covid": len(PIECES)}),
    "added after repeats": bert(
        vocabulary=[*PIECES, "", "", "x"], added={"[NEW]": len(PIECES) + 3}
    ),
    "another normalizer": another(normalizers.NFD(), SPLIT),
    "a prefix": another(normalizers.Prepend("E"), SPLIT),
    "another splitter": another(BERT, pre_tokenizers.WhitespaceSplit()),
    "another model": another(None, pre_tokenizers.Metaspace(), unigram()),
}
NOTES = {  # what a format cannot express, by its words; the ids are the same elsewhere
    "keras_hub": {
        "Chinese not split": "does not split Chinese characters",
        "Chinese not split, in tokenizer.json": "does not split Chinese characters",
        "added": "added tokens covid",
        "added after repeats": r"added tokens \[NEW\]",
    },
    "google": {
        "lower case, accents kept": "keeps accents",
        "cased, accents stripped": "strips accents",
        "Chinese not split": "does not split Chinese characters",
        "Chinese not split, in tokenizer.json": "does not split Chinese characters",
        "added": "added tokens covid",
        "added after repeats": r"added tokens \[NEW\]",
    },
    "saved_model": {
        "added": "added token 'covid' is not a bracketed",
        "added after repeats": r"added token '\[NEW\]' is not a bracketed",
    },
}
OTHERS = {
    "another normalizer": "normalises with NFD",
    "a prefix": "normalises with Prepend",
    "another splitter": "splits (words )?with WhitespaceSplit",
    "another model": "WordPiece",
}


def written(form: str, tokenizer: Tokenizer, path: Path, monkeypatch: Any) -> str:
    """Writes a checkpoint and returns the note."""
    if form == "saved_model":  # its text input is what `TextEncoder` computes
        return why_not_encodable(tokenizer) or ""
    if form == "litert":  # the files beside the model
        monkeypatch.setattr(litert, "_convert", lambda *_, **__: b"")
        monkeypatch.setattr(litert, "_difference", lambda *_: 0.0)
    config = tiny_config(vocab_size=tokenizer.vocab_size, hidden_act="gelu_new", num_layers=1)
    checkpoint = Checkpoint(config, random_parameters(config), tokenizer=tokenizer)
    return FORMATS[form]().write(checkpoint, path).note


def read_ids(form: str, tokenizer: Tokenizer, path: Path) -> Any:
    """The ids of the program that reads the format."""
    if form == "saved_model":
        encode = TextEncoder(tokenizer, max_length=64)
        return encode.tokenize(np.array(TEXTS, object)).to_list()
    if form == "keras_hub":
        keras_hub = pytest.importorskip("keras_hub")
        theirs = keras_hub.models.BertTokenizer.from_preset(str(path))
        return [np.asarray(theirs(text)).tolist() for text in TEXTS]
    transformers = pytest.importorskip("transformers")
    if form == "google":  # google-research/bert has the vocabulary and the case
        theirs = transformers.BertTokenizer.from_pretrained(
            str(path / "vocab.txt"), do_lower_case=tokenizer.lowercase
        )
    else:
        theirs = transformers.AutoTokenizer.from_pretrained(str(path))
    return theirs(TEXTS, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", PROPERTIES)
@pytest.mark.parametrize("form", FORMATS)
def test_same_ids_or_a_note(form: str, name: str, tmp_path: Path, monkeypatch: Any) -> None:
    tokenizer, path = PROPERTIES[name], tmp_path / "out"
    note = written(form, tokenizer, path, monkeypatch)
    words = NOTES.get(form, {}).get(name)
    if form in NOTES:
        words = words or OTHERS.get(name)
    if words:
        assert re.search(words, note), note
        return
    assert "token" not in note.replace("Takes token ids.", "")
    assert read_ids(form, tokenizer, path) == tokenizer.encode_batch(TEXTS)


FOREIGN = ("Roberta", "XLMRoberta", "GPT2", "T5", "Llama", "Camembert", "Deberta", "Herbert", "My")


@pytest.mark.parametrize("kind", ["Tokenizer", "TokenizerFast"])
@pytest.mark.parametrize("model", [*WORDPIECE_CLASSES, *FOREIGN, "PreTrained"])
def test_whatever_class_is_declared(model: str, kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    for lowercase in (True, False):
        tokenizer = another(
            normalizers.BertNormalizer(lowercase=lowercase), SPLIT, None, model + kind
        )
        save_for_transformers(tokenizer, tmp_path, max_length=64, num_segments=2)
        theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
        assert theirs(TEXTS, add_special_tokens=False)["input_ids"] == tokenizer.encode_batch(TEXTS)


def test_the_padding_is_the_tokenizer_s(tmp_path: Path) -> None:
    pieces = ["[UNK]", "[PAD]", *PIECES[2:]]
    config = tiny_config(vocab_size=len(pieces))
    checkpoint = Checkpoint(config, random_parameters(config), tokenizer=bert(vocabulary=pieces))
    save_checkpoint(checkpoint, tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text())["pad_token_id"] == 1
    built = Checkpoint(config, random_parameters(config)).encoder
    models = [checkpoint, load_checkpoint(tmp_path / "out")]
    models.append(Checkpoint.from_encoder(built, tokenizer=checkpoint.tokenizer))
    for model in models:
        assert model.config.pad_token_id == 1
        mask = model.encoder.padding_mask({"token_ids": np.array([[2, 0, 3, 1]])})
        assert np.asarray(mask).tolist() == [[1, 1, 1, 0]]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
