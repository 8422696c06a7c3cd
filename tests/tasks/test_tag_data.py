"""Files of words with tags: both formats, schemes, and rows that are refused by line."""

import gzip
import json
import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.tasks.tag import Tag

CONLL = """-DOCSTART- -X- O O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

# sent_id = 2
Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""
NAMES = ("O", "B-ORG", "I-ORG", "B-PER", "I-PER")


def task_of(tmp_path, text, **options):
    path = tmp_path / "train"
    path.write_text(text, encoding="utf-8", newline="")
    return Tag(train=str(path), **({"dev": str(path)} | options))


@pytest.mark.parametrize("kind", ["spaces", "tabs", "windows", "json", "packed"])
def test_both_formats_say_the_same(tmp_path, kind):
    text = {
        "spaces": CONLL,
        "tabs": CONLL.replace("# sent_id = 2", "#\tsource: x").replace(" ", "\t"),
        "windows": CONLL.replace("\n", "\r\n"),
        "json": json.dumps({"tokens": ["EU", "rejects"], "ner_tags": ["B-ORG", "O"]})
        + "\n\n"
        + json.dumps({"tokens": ["Peter", "Blackburn"], "ner_tags": ["B-PER", "I-PER"]}),
        "packed": CONLL,
    }[kind]
    task = task_of(tmp_path, text)
    if kind == "packed":
        (tmp_path / "train").write_bytes(gzip.compress(text.encode()))
    assert task.classes() == NAMES
    train = task.read("train")
    assert train.texts == (("EU", "rejects"), ("Peter", "Blackburn"))
    assert [NAMES[label] for label in train.labels] == ["B-ORG", "O", "B-PER", "I-PER"]
    assert train.take(np.asarray([1])).texts == (("Peter", "Blackburn"),)
    assert [NAMES[label] for label in train.take(np.asarray([1])).labels] == ["B-PER", "I-PER"]


def test_a_hash_can_be_a_word(tmp_path):
    task = task_of(tmp_path, "# O\nok B-A\n#tag O\n\n# a comment\nyes O\n# O\n")
    assert task.read("train").texts == (("#", "ok", "#tag"), ("yes", "#"))


def test_columns_of_json_lines_can_be_named(tmp_path):
    row = json.dumps({"w": ["a", "b"], "tokens": ["c"], "t": ["B-X", "O"]})
    task = task_of(tmp_path, row, text_column="w", label_column="t")
    assert task.read("train").texts == (("a", "b"),)
    row = {"text": "a b", "label": "news", "tokens": ["a", "b"], "tags": ["B-X", "O"]}
    assert task_of(tmp_path, json.dumps(row)).read("train").texts == (("a", "b"),)
    with pytest.raises(InputError, match="none of w is there"):
        task_of(tmp_path, json.dumps(row), text_column="w").classes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a O\nb I-A\nc B-A\nd I-A\n\ne O\nf B-A\n", r"line 2: I-A after O; in IOB2 .* Nor is it "),
        ("a I-A\nb O\nc B-A\n", r"Nor is it IOB1: .*train, line 3: B-A after O; in IOB1 B- only"),
        ("a B-A\nb E-A\n\nc B-A\nd O\n", r"line 5: O after B-A; in IOBES an entity is B- I- E-"),
        ("a B-A\n\nb E-A\n", r"line 1: the end of the sentence after B-A"),
        ("a O\nb\nc B-A\n", r"line 2: 1 columns, expected 2, parted by spaces: the word first"),
        ("a\tO\nb c\tB-A\nd\t\n", r"line 3: 1 columns, expected 2, parted by tabs"),
        ("a O\nb B-A\nc A\n", r"line 3: the tag is 'A', expected O, or B- or I- and a type"),
        ("a O\nb O\n", r"all words have the tag 'O'"),
        ("a\nb\n", r"line 1: one column, expected a word and its tag"),
        ("\n-DOCSTART- O\n", r"has no words"),
        ('{"tokens": ["a"], "tags": ["O", "B-A"]}', r"line 1: 1 words and 2 tags"),
        ('{"tokens": ["a"], "tags": [3]}', r"tags holds 3, .* Write names, not their numbers"),
        ('{"tokens": ["a", ""], "tags": []}', r"tokens holds '', expected a list of words"),
        ('{"tokens": "a b", "tags": []}', r"tokens holds 'a b', expected a list"),
        ('{"words": ["a"], "tags": []}', r"none of tokens, text is there; found words, tags. Say"),
        ('{"tokens": ["a"]}', r"none of ner_tags, tags, label is there"),
    ],
)
def test_malformed_rows_are_refused_by_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        task_of(tmp_path, text).classes()


def test_iob1_is_told_and_files_keep_one_scheme(tmp_path, caplog):
    caplog.set_level("INFO", logger="absl")
    task = task_of(tmp_path, "a I-A\nb B-A\nc O\n")
    assert task.classes() == ("O", "B-A", "I-A")
    assert "IOB1, 3 tags: O, B-A, I-A" in caplog.text
    dev = tmp_path / "dev"
    dev.write_text("x O\ny B-A\n")
    with pytest.raises(InputError, match=r"dev, line 2: B-A after O; in IOB1 .* training file"):
        task_of(tmp_path, "a I-A\nb O\n", dev=str(dev)).classes()


def test_other_files_have_no_tags_of_their_own(tmp_path):
    dev = tmp_path / "dev"
    dev.write_text("x O\ny B-B\n")
    with pytest.raises(InputError, match=r"dev, line 2: tag 'B-B' is none of .* O, B-A, I-A"):
        task_of(tmp_path, "a B-A\nb O\n", dev=str(dev)).classes()


def test_a_test_file_may_have_tags(tmp_path):
    test = tmp_path / "test"
    for text, scored in (("x\ny\n\nz\n", ("dev",)), ("x O\ny B-A\n", ("dev", "test"))):
        test.write_text(text)
        task = task_of(tmp_path, "a B-A\nb O\n", test=str(test))
        assert task.scored_splits() == scored
        assert task.read("test").texts[0] == ("x", "y")
    test.write_text('{"tokens": ["x"]}\n{"tokens": ["y"], "tags": ["O"]}\n')
    with pytest.raises(InputError, match="some rows have tags and others none"):
        task_of(tmp_path, "a B-A\nb O\n", test=str(test)).classes()


def test_a_tenth_of_the_sentences_is_held_out(tmp_path, caplog):
    sentences = ["\n".join(f"w{n} {'B-A' if n % 2 else 'O'}" for n in range(i, 2 * i + 1))
                 for i in range(1, 41)]  # fmt: skip
    task = task_of(tmp_path, "\n\n".join(sentences), dev=None)
    train, dev = task.read("train"), task.read("dev")
    assert (len(train), len(dev)) == (36, 4)
    assert not set(train.texts) & set(dev.texts)
    assert sorted(train.texts + dev.texts, key=len)[-1][0] == "w40"
    assert "4 of 40 training rows are held out" in caplog.text
    labels = [task.classes()[label] for label in dev.labels]
    words = [int(word[1:]) for words in dev.texts for word in words]
    assert labels == ["B-A" if word % 2 else "O" for word in words]
    with pytest.raises(InputError, match="too few to hold some out"):
        task_of(tmp_path, CONLL, dev=None).classes()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
