"""What tokenizer files say: classes, case, line numbers, byte order marks; Transformers agrees."""

import json
import string
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from absl import logging
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from etd_tf.errors import InputError
from etd_tf.tokenization.saving import save_for_transformers
from etd_tf.tokenization.tokenizer import Tokenizer
from tests.helpers import WORDPIECES, tiny_tokenizer
from tests.tokenization.test_tokenizer import SPECIALS, byte_level_files

MARK = b"\xef\xbb\xbf"
TEXTS = [
    "The CAT sat on the mat.",
    "\u00c9l\u00e8ve [MASK] \u0130stanbul",
    "\u4eba\u6709 x[NEW]y the[NEW] NEW",
    "covid covid19 acovid Covid",
]


def written(directory: Path, files: dict[str, Any]) -> Path:
    """Writes files: bytes, text or what becomes JSON."""
    for name, content in files.items():
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        (directory / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return directory


def theirs(directory: Path, texts: list[str]) -> Any:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(directory))
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def lines(*pieces: str) -> str:
    return "\n".join([*SPECIALS, *pieces]) + "\n"


LETTERS = [*string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase)]


@pytest.mark.parametrize("outliers", [[], ["<S>", "<T>"], ["Q"], ["[Unused]", "<Eop>", "##Q"]])
def test_a_few_capitals_do_not_make_a_vocabulary_cased(tmp_path: Path, outliers: list[str]) -> None:
    written(tmp_path, {"vocab.txt": lines(*outliers, *LETTERS, "\u82f9", "\u679c")})
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert tokenizer.lowercase
    assert len(tokenizer.notes) == any("Q" in piece for piece in outliers)
    written(tmp_path, {"config.json": {"model_type": "bert"}})  # for AutoTokenizer
    texts = ["Apple\u82f9\u679c", "APPLE", "\u00c0"]
    assert tokenizer.encode_batch(texts) == theirs(tmp_path, texts)


@pytest.mark.parametrize("value", [True, False])
def test_case_that_a_file_says_is_not_guessed(tmp_path: Path, value: bool) -> None:
    capitals = [*LETTERS, *string.ascii_uppercase]
    written(tmp_path, {"vocab.txt": lines(*capitals), "config.json": {"model_type": "bert"}})
    guessed = Tokenizer.from_directory(tmp_path)
    assert not guessed.lowercase
    assert "26 of 78 pieces" in guessed.notes[0]
    written(tmp_path, {"tokenizer_config.json": {"do_lower_case": None}})
    assert not Tokenizer.from_directory(tmp_path).lowercase  # null says nothing
    written(tmp_path, {"tokenizer_config.json": {"do_lower_case": value}})
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert (tokenizer.lowercase, tokenizer.notes) == (value, ())
    assert tokenizer.encode_batch(TEXTS) == theirs(tmp_path, TEXTS)


def test_a_guess_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: told.append(text % values))
    Tokenizer.from_directory(written(tmp_path, {"vocab.txt": lines("Cat", "cat")}))
    assert [str(tmp_path) in line and "1 of 2 pieces" in line for line in told] == [True]


FOREIGN: dict[str, dict[str, Any]] = {
    "Japanese words": {"tokenizer_class": "BertJapaneseTokenizer"},
    "another segmenter": {"tokenizer_class": "RoFormerTokenizer"},
    "fast": {"tokenizer_class": "HerbertTokenizerFast"},
    "of tokenizer.json alone": {"tokenizer_class": "PreTrainedTokenizerFast"},
    "nobody's": {"tokenizer_class": "MyTokenizer"},
    "words without a class": {"word_tokenizer_type": "mecab"},
    "pieces without a class": {"subword_tokenizer_type": "character"},
    "code": {"tokenizer_class": "BertTokenizer", "auto_map": {"AutoTokenizer": ["x.Y", None]}},
    "no words": {"do_basic_tokenize": False},
}


@pytest.mark.parametrize("case", FOREIGN)
@pytest.mark.parametrize("kind", ["vocab.txt", "merges.txt"])
def test_classes_that_are_not_built_are_refused(tmp_path: Path, case: str, kind: str) -> None:
    files = {"vocab.txt": lines(*LETTERS).encode()} if kind == "vocab.txt" else byte_level_files()
    written(tmp_path, {**files, "tokenizer_config.json": FOREIGN[case]})
    with pytest.raises(InputError, match=r"save_pretrained\(directory\)") as found:
        Tokenizer.find(tmp_path)
    assert all(str(value).partition("{")[0] in str(found.value) for value in FOREIGN[case])
    written(tmp_path, {"tokenizer.json": tiny_tokenizer().backend.to_str()})  # it is the tokenizer
    found_ids = Tokenizer.from_directory(tmp_path).encode_batch(TEXTS)
    assert found_ids == tiny_tokenizer().encode_batch(TEXTS)


def test_the_model_may_name_the_class(tmp_path: Path) -> None:
    config = {"model_type": "bert", "tokenizer_class": "BertJapaneseTokenizer"}
    written(tmp_path, {"vocab.txt": lines(*LETTERS), "config.json": config})
    with pytest.raises(InputError, match="BertJapaneseTokenizer"):
        Tokenizer.find(tmp_path)
    written(tmp_path, {"tokenizer_config.json": {"tokenizer_class": "BertTokenizerFast"}})
    assert Tokenizer.from_directory(tmp_path).wordpieces == [*SPECIALS, *LETTERS]


@pytest.mark.parametrize("end", ["</w>", "@@"])
def test_bpe_with_marked_ends_is_refused(end: str) -> None:
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "\u0120"]
    tokens += [*string.ascii_lowercase, *(letter + end for letter in string.ascii_lowercase)]
    vocabulary = json.dumps({token: index for index, token in enumerate(tokens)}).encode()
    with pytest.raises(InputError, match=f"end in {end}"):
        Tokenizer({"vocab.json": vocabulary, "merges.txt": b"#version: 0.2\n"})
    changed = vocabulary.replace(end.encode(), b"x").replace(b"\\u0120", b"\\u2581")
    with pytest.raises(InputError, match=r"U\+0120"):
        Tokenizer({"vocab.json": changed, "merges.txt": b"#version: 0.2\n"})


@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_byte_order_marks_and_line_ends_change_nothing(mark: bool, ends: str) -> None:
    files = {
        "vocab.txt": "\n".join(WORDPIECES).replace("\n", ends).encode(),
        "tokenizer_config.json": b'{"do_lower_case": false}',
        "added_tokens.json": json.dumps({"[NEW]": len(WORDPIECES)}).encode(),
    }
    plain = Tokenizer(files)
    assert plain.pad_id == 0
    found = Tokenizer({name: MARK + content for name, content in files.items()} if mark else files)
    assert (found.fingerprint(), found.files) == (plain.fingerprint(), files)
    merges = byte_level_files()
    merges["merges.txt"] = merges["merges.txt"].replace(b"\n", ends.encode())
    marked = {name: MARK + content for name, content in merges.items()} if mark else merges
    assert Tokenizer(marked).fingerprint() == Tokenizer(byte_level_files()).fingerprint()


@pytest.mark.parametrize("blank", [0, 2])
def test_added_tokens_come_after_the_last_line(tmp_path: Path, blank: int) -> None:
    pieces = [*SPECIALS, *LETTERS, "x", *[""] * blank, "a", "cat", "##x", "mat"]
    content = {"vocab.txt": "\n".join(pieces), "added_tokens.json": {"[NEW]": len(pieces)}}
    tokenizer = Tokenizer.from_directory(written(tmp_path, content))
    found = tokenizer.encode_batch(["mat [NEW] cat a"])
    last = len(pieces)
    assert found == [[last - 1, last, last - 3, last - 4]]
    assert tokenizer.vocab_size == last + 1
    assert tokenizer.encode_batch(["[no piece 5] no"]) == Tokenizer.from_wordpieces(
        pieces
    ).encode_batch(["[no piece 5] no"])


SWITCHES = st.fixed_dictionaries(
    {name: st.booleans() for name in ("single_word", "lstrip", "rstrip", "normalized", "special")}
)


NEW = {"content": "[NEW]", "lstrip": True, "rstrip": False, "single_word": False}
NAMED = {  # settings, and what else there is
    "additional": ({"additional_special_tokens": ["[NEW]"]}, {}),
    "extra": ({"extra_special_tokens": ["[NEW]"]}, {}),
    "by name": ({"extra_special_tokens": {"marker_token": "[NEW]"}}, {}),
    "in the map": ({}, {"special_tokens_map.json": {"additional_special_tokens": ["[NEW]"]}}),
    "with edges": (
        {"added_tokens_decoder": {"9": {**NEW, "normalized": False, "special": True}}},
        {},
    ),
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("json_file", [True, False])
@pytest.mark.parametrize("case", NAMED)
def test_tokens_that_settings_name_are_whole_and_travel(
    tmp_path: Path, case: str, json_file: bool, known: bool
) -> None:
    told, others = NAMED[case]
    pieces = [*SPECIALS, "the", "new", "x", "y", *["[NEW]"] * known]
    files = {"vocab.txt": "\n".join(pieces) + "\n"}
    roles = {f"{t[1:-1].lower()}_token": t for t in SPECIALS}
    options: dict[str, Any] = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **roles}
    if json_file:
        files = {
            "tokenizer.json": Tokenizer({"vocab.txt": files["vocab.txt"].encode()}).backend.to_str()
        }
    config = {"config.json": {"model_type": "bert"}}
    written(tmp_path, {**files, **others, **config, "tokenizer_config.json": options | told})
    tokenizer = Tokenizer.from_directory(tmp_path)
    ids = tokenizer.encode_batch(TEXTS)
    assert 9 in ids[2]
    assert ids == theirs(tmp_path, TEXTS)
    (tmp_path / "out").mkdir()
    written(tmp_path / "out", config)
    save_for_transformers(tokenizer, tmp_path / "out", max_length=9, num_segments=2)
    assert theirs(tmp_path / "out", TEXTS) == ids
    alone = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert [one.ids for one in alone.encode_batch(TEXTS, add_special_tokens=False)] == ids


@pytest.mark.parametrize("declared", ["BertTokenizer", "ElectraTokenizerFast", "", "config"])
def test_settings_count_for_every_class_that_takes_them(tmp_path: Path, declared: str) -> None:
    options: dict[str, Any] = {"do_lower_case": False, "tokenizer_class": declared}
    if declared in ("", "config"):
        del options["tokenizer_class"]
    config = {"model_type": "bert"} | ({"tokenizer_class": "BertTokenizer"} if declared else {})
    uncased = Tokenizer({"vocab.txt": lines("cat", "Cat", "C", "##at").encode()})
    uncased.backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    written(tmp_path, {"tokenizer.json": uncased.backend.to_str(), "config.json": config})
    written(tmp_path, {"tokenizer_config.json": options})
    texts = ["Cat cat CAT"]
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert not tokenizer.lowercase
    assert tokenizer.encode_batch(texts) == theirs(tmp_path, texts) == [[6, 5, 1]]


def test_a_student_s_tokenizer_neither_pads_nor_cuts_nor_throws_dice(tmp_path: Path) -> None:
    backend = Tokenizer(byte_level_files()).backend
    backend.enable_truncation(3)
    backend.enable_padding(length=9)
    backend.model.dropout = 0.5  # type: ignore[attr-defined]
    tokenizer = Tokenizer({"tokenizer.json": backend.to_str().encode()})
    assert len({tuple(ids) for ids in tokenizer.encode_batch(["the cat sat"] * 50)}) == 1
    assert len(tokenizer.notes) == 1
    save_for_transformers(tokenizer, tmp_path, max_length=9, num_segments=2)
    state = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    assert (state["padding"], state["truncation"]) == (None, None)
    assert state["model"]["dropout"] is None


def test_blanks_behind_a_piece_are_no_part_of_it(tmp_path: Path) -> None:
    written(
        tmp_path, {"vocab.txt": lines("cat ", "the\t", "x"), "config.json": {"model_type": "bert"}}
    )
    texts = ["the cat x"]
    assert Tokenizer.from_directory(tmp_path).encode_batch(texts) == theirs(tmp_path, texts)


def test_a_template_that_is_not_followed_is_told() -> None:
    backend = tiny_tokenizer().backend
    assert not tiny_tokenizer().notes
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] [MASK] $A [SEP]",
        special_tokens=[
            (token, backend.token_to_id(token)) for token in ("[CLS]", "[MASK]", "[SEP]")
        ],
    )
    (note,) = Tokenizer({"tokenizer.json": backend.to_str().encode()}).notes
    assert "models get [CLS] before a text and [SEP] behind it" in note


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lowercase=st.booleans(),
    strip=st.sampled_from([None, True, False]),
    chinese=st.booleans(),
    added=st.lists(SWITCHES, max_size=3),
)
def test_random_options_equal_transformers(
    tmp_path: Path, lowercase: bool, strip: bool | None, chinese: bool, added: list[dict[str, bool]]
) -> None:
    pieces = [*SPECIALS, *LETTERS, "\u4eba", "##\u6709", "\u00e9", "E", "\u0117"]
    names = ["[NEW]", "covid", "New York"]
    tokens = {
        str(len(pieces) + number): {"content": names[number], **switches}
        for number, switches in enumerate(added)
    }
    options = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": lowercase,
        "strip_accents": strip,
        "tokenize_chinese_chars": chinese,
        "added_tokens_decoder": tokens,
    }
    written(tmp_path, {"vocab.txt": "\n".join(pieces), "tokenizer_config.json": options})
    texts = [*TEXTS, "new york New York", "a covid b", " [NEW] "]
    assert Tokenizer.from_directory(tmp_path).encode_batch(texts) == theirs(tmp_path, texts)


BACKENDS = {
    "BERT": normalizers.BertNormalizer(lowercase=False),
    "BERT, accents stripped": normalizers.BertNormalizer(lowercase=False, strip_accents=True),
    "lowercases": normalizers.BertNormalizer(lowercase=True),
    "another": normalizers.NFC(),
    "several": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    "none": None,
}


@pytest.mark.parametrize("kind", BACKENDS)
def test_sentence_transformers_lowercases_before(tmp_path: Path, kind: str) -> None:
    pieces = [*SPECIALS, *LETTERS, "\u00e9", "##\u00e9", "E"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = BACKENDS[kind]
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    content = {
        "tokenizer.json": backend.to_str(),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
        "sentence_bert_config.json": {"max_seq_length": 77, "do_lower_case": True},
    }
    tokenizer = Tokenizer.from_directory(written(tmp_path, content))
    texts = ["\u00c9t\u00e9 E", "A\u030aB", "every"]
    steps = [normalizers.Lowercase()] + ([] if BACKENDS[kind] is None else [BACKENDS[kind]])
    if kind != "lowercases":
        backend.normalizer = normalizers.Sequence(steps)
    expected = [backend.encode(text, add_special_tokens=False).ids for text in texts]
    assert tokenizer.encode_batch(texts) == expected
    assert tokenizer.settings["model_max_length"] == 77
    student = tmp_path / "student"
    student.mkdir()
    tokenizer.save(student)
    assert theirs(student, texts) == expected
    again = Tokenizer.from_directory(student)
    assert (again.fingerprint(), again.files) == (tokenizer.fingerprint(), tokenizer.files)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
