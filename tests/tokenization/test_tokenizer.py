"""The tokenizer: kinds of files, equality with Transformers, refusals."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.tokenization.tokenizer import Tokenizer
from tests.helpers import WORDPIECES, tiny_tokenizer

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def vocabulary_file(*pieces: str) -> bytes:
    return "\n".join([*SPECIALS, *pieces]).encode() + b"\n"


def test_wordpieces_by_hand() -> None:
    tokenizer = tiny_tokenizer()
    vocabulary = {piece: index for index, piece in enumerate(WORDPIECES)}
    pieces = ["the", "cat", "s", "##a", "##d", "##ing", "!", "[UNK]"]
    expected = [vocabulary[piece] for piece in pieces]
    assert tokenizer.encode_batch(["The CAT sading! \u4e2d"]) == [expected]
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.encode_batch(["", " "]) == [[], []]


def test_ids_of_the_roles() -> None:
    tokenizer = tiny_tokenizer()
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id)
    assert (*ids, tokenizer.mask_id) == (0, 1, 2, 3, 4)
    assert tokenizer.special_tokens == dict(
        zip(("pad", "unk", "cls", "sep", "mask"), SPECIALS, strict=True)
    )
    assert tokenizer.vocab_size == len(WORDPIECES)
    assert tokenizer.wordpieces == list(WORDPIECES)


@pytest.mark.parametrize(
    ("files", "lowercase"),
    [
        ({"vocab.txt": vocabulary_file("cat", "\u211d", "[unused1]")}, True),
        ({"vocab.txt": vocabulary_file("cat", "Cat")}, False),
        (
            {
                "vocab.txt": vocabulary_file("cat", "Cat"),
                "tokenizer_config.json": b'{"do_lower_case": true}',
            },
            True,
        ),
        (
            {
                "vocab.txt": vocabulary_file("cat"),
                "tokenizer_config.json": b'{"do_lower_case": false}',
            },
            False,
        ),
    ],
)
def test_case(files: dict[str, bytes], lowercase: bool) -> None:
    tokenizer = Tokenizer(files)
    assert tokenizer.lowercase == lowercase
    cat = WORDPIECE_CAT if lowercase else 1
    if b"Cat" not in files["vocab.txt"]:
        assert tokenizer.encode_batch(["CAT"]) == [[cat]]


WORDPIECE_CAT = 5


@pytest.mark.parametrize(("strip", "expected"), [(None, 6), (True, 6), (False, 5)])
def test_accents(strip: bool | None, expected: int) -> None:
    tokenizer = Tokenizer.from_wordpieces([*SPECIALS, "\u00e9", "e"], strip_accents=strip)
    assert tokenizer.encode_batch(["\u00c9"]) == [[expected]]


def test_windows_line_ends_and_blank_last_lines() -> None:
    content = vocabulary_file("cat").replace(b"\n", b"\r\n") + b"\r\n\r\n"
    assert Tokenizer({"vocab.txt": content}).wordpieces == [*SPECIALS, "cat"]


def test_padding_and_truncation_of_the_file_are_ignored() -> None:
    backend = tokenizers.Tokenizer.from_str(tiny_tokenizer().backend.to_str())
    backend.enable_truncation(3)
    backend.enable_padding(length=9)
    tokenizer = Tokenizer({"tokenizer.json": backend.to_str().encode()})
    assert len(tokenizer.encode_batch(["the cat sat on the mat"])[0]) == 6


def test_saved_files_are_byte_identical(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == tokenizer.files
    again = Tokenizer.from_directory(tmp_path)
    assert again.fingerprint() == tokenizer.fingerprint()
    assert again.settings["tokenizer_class"] == "BertTokenizer"


def test_fingerprint_sees_vocabulary_and_case_only() -> None:
    plain = tiny_tokenizer()
    as_json = Tokenizer({"tokenizer.json": plain.backend.to_str().encode()})
    assert as_json.fingerprint() == plain.fingerprint()
    cased = Tokenizer.from_wordpieces(WORDPIECES, lowercase=False)
    shorter = Tokenizer.from_wordpieces(WORDPIECES[:-1])
    assert len({t.fingerprint() for t in (plain, cased, shorter)}) == 3


@settings(max_examples=50)
@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_text_has_ids_in_the_vocabulary(texts: list[str]) -> None:
    tokenizer = tiny_tokenizer()
    encoded = tokenizer.encode_batch(texts)
    assert len(encoded) == len(texts)
    assert all(0 <= index < tokenizer.vocab_size for ids in encoded for index in ids)
    assert [tokenizer.encode_batch([text])[0] for text in texts] == encoded


def test_equals_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    vocabulary = {piece: index for index, piece in enumerate(WORDPIECES)}
    theirs = transformers.BertTokenizer(vocab=vocabulary)
    texts = ["The cat, sad!", "Na\u00efve\u00a0caf\u00e9", "[MASK] \u4e2d", "x" * 101, "a\tb\x00c"]
    expected = theirs(texts, add_special_tokens=False)["input_ids"]
    assert tiny_tokenizer().encode_batch(texts) == expected


def slow_files() -> dict[str, bytes]:
    """What slow tokenizers of Transformers saved after `add_tokens(["[E1]"])`."""
    token = {"content": "[E1]", "special": True, "normalized": False}
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "added_tokens_decoder": {str(len(WORDPIECES)): token, "0": {"content": "[PAD]"}},
    }
    return {
        "vocab.txt": "\n".join(WORDPIECES).encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
        "added_tokens.json": json.dumps({"[E1]": len(WORDPIECES)}).encode(),
    }


def test_added_tokens_of_slow_tokenizers(tmp_path: Path) -> None:
    tokenizer = Tokenizer(slow_files())
    assert tokenizer.vocab_size == len(WORDPIECES) + 1
    plain = Tokenizer.from_wordpieces(WORDPIECES).encode_batch(["the", "cat"])
    added = [len(WORDPIECES)]
    assert tokenizer.encode_batch(["the [E1] cat"]) == [[*plain[0], *added, *plain[1]]]
    older = slow_files() | {"tokenizer_config.json": b"{}"}
    assert Tokenizer(older).encode_batch(["The[E1]"]) == [[*plain[0], *added]]
    tokenizer.save(tmp_path)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    texts = ["the [E1] cat", "[E1]", "THE e1"]
    assert theirs(texts, add_special_tokens=False)["input_ids"] == tokenizer.encode_batch(texts)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ({"[E1]": 9000}, "has id 9000, but the vocabulary ends at"),
        ({"[CLS]": 0}, "but the vocabulary gives it"),
        ({"": len(WORDPIECES)}, "expected an object with content"),
        ({"\ud800": len(WORDPIECES)}, "expected an object with content"),
        ({"x" * 1001: len(WORDPIECES)}, "1 to 1000 characters"),
    ],
)
def test_added_tokens_must_fit(added: dict[str, int], message: str) -> None:
    files = slow_files() | {"added_tokens.json": json.dumps(added).encode()}
    files["tokenizer_config.json"] = b"{}"
    with pytest.raises(InputError, match=message):
        Tokenizer(files)


@pytest.mark.parametrize("lowercase", [True, False])
def test_settings_outdo_tokenizer_json(lowercase: bool, tmp_path: Path) -> None:
    """Transformers builds BERT's normalizer from the settings."""
    pieces = [*WORDPIECES, "CAT"]
    other = Tokenizer.from_wordpieces(pieces, lowercase=not lowercase).backend.to_str()
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase}
    files = {
        "tokenizer.json": other.encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
    }
    tokenizer = Tokenizer(files)
    expected = Tokenizer.from_wordpieces(pieces, lowercase=lowercase)
    assert (tokenizer.lowercase, tokenizer.fingerprint()) == (lowercase, expected.fingerprint())
    assert tokenizer.encode_batch(["CAT"]) == expected.encode_batch(["CAT"])
    tokenizer.save(tmp_path)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    assert (
        theirs("CAT", add_special_tokens=False)["input_ids"] == tokenizer.encode_batch(["CAT"])[0]
    )


def byte_level_files() -> dict[str, bytes]:
    """A small RoBERTa tokenizer as its two original files."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *alphabet, "th", "the", "\u0120the", "<mask>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = "#version: 0.2\nt h\nth e\n\u0120 the\n"
    return {"vocab.json": json.dumps(vocabulary).encode(), "merges.txt": merges.encode()}


def test_byte_level_bpe_from_its_two_files() -> None:
    tokenizer = Tokenizer(byte_level_files())
    assert (tokenizer.cls_id, tokenizer.pad_id, tokenizer.sep_id) == (0, 1, 2)
    assert tokenizer.wordpieces is None
    vocabulary = tokenizer.backend.get_vocab()
    ids = tokenizer.encode_batch(["the the<mask>"])[0]
    assert ids == [vocabulary["the"], vocabulary["\u0120the"], vocabulary["<mask>"]]


def test_byte_level_bpe_equals_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    files = byte_level_files()
    tokenizer = Tokenizer(files)
    vocabulary = json.loads(files["vocab.json"])
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the")]
    mask = tokenizers.AddedToken("<mask>", lstrip=True, special=True)  # as in roberta-base
    theirs = transformers.RobertaTokenizer(vocab=vocabulary, merges=merges, mask_token=mask)
    texts = ["the cat  the", "\u00e9 the <mask> x", "#the"]
    assert tokenizer.encode_batch(texts) == theirs(texts, add_special_tokens=False)["input_ids"]
    theirs.save_pretrained(str(tmp_path))
    saved = Tokenizer.from_directory(tmp_path)
    assert saved.encode_batch(texts) == tokenizer.encode_batch(texts)


def test_unigram_from_tokenizer_json() -> None:
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("\u2581the", -1.0), ("\u2581", -2.0), ("c", -3.0), ("at", -3.0), ("<mask>", 0.0)]
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=3))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    backend.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer = Tokenizer({"tokenizer.json": backend.to_str().encode()})
    assert tokenizer.encode_batch(["the cat<mask>"]) == [[4, 5, 6, 7, 8]]
    assert tokenizer.mask_id == 8


def test_roles_are_read_from_the_settings() -> None:
    pieces = ["<p>", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<c>"]
    settings_file = json.dumps({"pad_token": "<p>", "cls_token": {"content": "<c>"}})
    tokenizer = Tokenizer(
        {"vocab.txt": "\n".join(pieces).encode(), "tokenizer_config.json": settings_file.encode()}
    )
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id) == (0, 5, 3)


def changed_json(far: int = 0, **model: object) -> dict[str, bytes]:
    """A `tokenizer.json` with changes of its model; `far` is the id of one more token."""
    values = json.loads(tiny_tokenizer().backend.to_str())
    values["model"] |= model
    if far:
        values["model"]["vocab"]["zzz"] = far
    if model.get("vocab") == {}:
        values["added_tokens"], values["post_processor"] = [], None
    return {"tokenizer.json": json.dumps(values).encode()}


BAD_FILES: dict[str, tuple[dict[str, bytes], str]] = {
    "nothing": ({}, "expected tokenizer.json, vocab.txt"),
    "sentencepiece": ({"sentencepiece.bpe.model": b""}, "save_pretrained"),
    "broken JSON": ({"tokenizer.json": b"{"}, "not valid JSON"),
    "JSON of something": ({"tokenizer.json": b"{}"}, "cannot be read"),
    "JSON list": ({"tokenizer.json": b"[]"}, "JSON object"),
    "not UTF-8": ({"vocab.txt": b"\xff\xfe"}, "not UTF-8"),
    "no unknown token": ({"vocab.txt": b"cat\ndog\n"}, r"no \[UNK\]"),
    "no mask": ({"vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n"}, "no mask token"),
    "broken settings": (
        {"vocab.txt": vocabulary_file(), "tokenizer_config.json": b"nope"},
        "tokenizer_config.json is not valid JSON",
    ),
    "endless digits": (
        {"vocab.txt": vocabulary_file(), "tokenizer_config.json": b'{"x": ' + b"9" * 5000 + b"}"},
        "tokenizer_config.json is not valid JSON",
    ),
    "no token": (changed_json(vocab={}), "has 0 tokens"),
    "an id of billions": (changed_json(far=2**32 - 1), "ids up to 4294967295"),
    "an unknown token that is none": (changed_json(unk_token="zz"), "cannot tokenise text"),
    "merges": (
        {"vocab.json": b'{"\\u0120": 0}', "merges.txt": b"x y\n"},
        "merges.txt cannot be read",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_refuses(case: str) -> None:
    files, message = BAD_FILES[case]
    with pytest.raises(InputError, match=message):
        Tokenizer(files)


def test_directories(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Tokenizer.from_directory(tmp_path / "absent")
    assert Tokenizer.find(tmp_path) is None
    (tmp_path / "vocab.txt").write_bytes(b"cat\n")
    with pytest.raises(InputError, match=str(tmp_path)):
        Tokenizer.find(tmp_path)


def test_vocabulary_of_another_kind_cannot_be_written(tmp_path: Path) -> None:
    tokenizer = Tokenizer(byte_level_files())
    with pytest.raises(InputError, match="BPE tokenizer has no WordPiece vocabulary"):
        tokenizer.save_vocabulary(tmp_path / "vocab.txt")


def test_written_vocabulary_reads_back(tmp_path: Path) -> None:
    tiny_tokenizer().save_vocabulary(tmp_path / "vocab.txt")
    read: Any = Tokenizer.from_directory(tmp_path)
    assert read.wordpieces == list(WORDPIECES)
    assert read.fingerprint() == tiny_tokenizer().fingerprint()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
