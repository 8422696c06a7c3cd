"""SQuAD files: hand-made ones, and the real ones where present."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.tasks.squad_data import load_squad, read_squad, squad_from_tfds
from tests.helpers import need_shared_data


def document(**question):
    qas = [
        {"id": "q1", "question": "Who sat?", "answers": [{"text": "The cat", "answer_start": 0}]}
    ]
    if question:
        qas = [qas[0] | question]
    paragraph = {"context": "The cat sat on the mat.", "qas": qas}
    return {"version": "1.1", "data": [{"title": "Cats", "paragraphs": [paragraph]}]}


def write(folder: Path, values, name: str = "dev-v1.1.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_fields_are_read(tmp_path):
    dataset = read_squad(write(tmp_path, document()), "v1.1")
    (question,) = dataset.questions
    assert (question.id, question.text) == ("q1", "Who sat?")
    assert question.answers == (("The cat", 0),)
    assert dataset.contexts[question.context] == "The cat sat on the mat."
    assert dataset.articles == (0,)


def test_v2_questions_without_answer_ignore_plausible_ones(tmp_path):
    values = document(is_impossible=True, answers=[], plausible_answers=[{"text": "mat"}])
    values["version"] = "v2.0"
    dataset = load_squad("v2.0", "dev", write(tmp_path, values, "dev-v2.0.json").parent)
    assert dataset.questions[0].answers == ()


def test_versions_are_not_mixed_up(tmp_path):
    path = write(tmp_path, document() | {"version": "v2.0"})
    with pytest.raises(InputError, match=r"is SQuAD v2.0, expected v1.1. Pass --task=squad/v2.0"):
        read_squad(path, "v1.1")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": "1.1"}, "the file has no data of type list"),
        ({"data": [3]}, r"data\[0\] is not a JSON object"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, r"data\[0\].paragraphs\[0\] has no context"),
        (document(id=7), r"qas\[0\] has no id of type str"),
        (document(answers=[]), r"qas\[0\] has no answer, as only questions of SQuAD v2\.0 may"),
        (document(answers={}), r"has no answers of type list"),
        (document(answers=[{"text": "x"}]), r"answers\[0\] has no answer_start of type int"),
        (document(answers=[{"text": "x", "answer_start": 99}]), "outside the paragraph"),
        ({"data": []}, "has no questions"),
        ([], "expected an object"),
    ],
)
def test_malformed_files_are_refused_with_the_place(tmp_path, values, message):
    with pytest.raises(InputError, match=message):
        read_squad(write(tmp_path, values), "v1.1")


def test_repeated_ids_are_refused(tmp_path):
    values = document()
    values["data"][0]["paragraphs"] *= 2
    with pytest.raises(InputError, match=r"id 'q1' occurs twice"):
        read_squad(write(tmp_path, values), "v1.1")


def test_missing_files_and_versions_are_named(tmp_path):
    with pytest.raises(InputError, match=r"train-v1.1.json does not exist.*or be tfds"):
        load_squad("v1.1", "train", tmp_path)
    with pytest.raises(InputError, match=r"There is no SQuAD v3 dev. Versions: v1.1, v2.0"):
        load_squad("v3", "dev", tmp_path)
    (tmp_path / "dev-v1.1.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not valid JSON"):
        load_squad("v1.1", "dev", tmp_path)


def tfds_row(identity, title, context, answers, **more):
    return {
        "id": identity.encode(),
        "title": title.encode(),
        "context": context.encode(),
        "question": b"Who?",
        "answers": {
            "text": np.asarray([text.encode() for text, _ in answers], object),
            "answer_start": np.asarray([start for _, start in answers], np.int32),
        },
    } | more


def test_tfds_rows_share_paragraphs():
    rows = [
        tfds_row("1", "A", "caf\u00e9 one", [("caf\u00e9", 0)]),
        tfds_row("2", "A", "caf\u00e9 one", [("one", 5), ("caf\u00e9 one", 0)]),
        tfds_row("3", "B", "two", [("two", 0)], is_impossible=np.bool_(True)),
    ]
    dataset = squad_from_tfds(rows, "v2.0")
    assert dataset.contexts == ("caf\u00e9 one", "two")
    assert dataset.articles == (0, 1)
    assert [question.context for question in dataset.questions] == [0, 0, 1]
    assert dataset.questions[1].answers == (("one", 5), ("caf\u00e9 one", 0))
    assert dataset.questions[2].answers == ()


def test_tfds_problems_name_the_way_out(monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")

    def fail(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(tfds, "load", fail)
    with pytest.raises(InputError, match=r"squad/v1.1: no network. Pass --squad_dir=DIR"):
        load_squad("v1.1", "dev", "tfds")


def test_tfds_is_asked_for_the_right_split(monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    asked = {}

    def load(name, *, with_info, **arguments):
        asked.update(arguments, name=name)
        return [tfds_row("1", "A", "a cat", [("cat", 2)])], with_info

    monkeypatch.setattr(tfds, "load", load)
    monkeypatch.setattr(tfds, "as_numpy", lambda rows: rows)
    monkeypatch.setenv("HOME", "/data")
    dataset = load_squad("v2.0", "dev", "tfds:~/sets")
    assert asked == {"name": "squad/v2.0", "split": "validation", "data_dir": "/data/sets"}
    assert dataset.questions[0].answers == (("cat", 2),)
    features = tfds.builder("squad/v2.0").info.features
    assert {"id", "title", "context", "question", "answers", "is_impossible"} <= set(features)
    assert set(features["answers"].feature) == {"text", "answer_start"}


@pytest.mark.parametrize(("split", "questions", "paragraphs"), [("dev", 10_570, 2_067)])
def test_real_file(split, questions, paragraphs):
    dataset = load_squad("v1.1", split, need_shared_data("squad"))
    assert len(dataset.questions) == questions
    assert len(dataset.contexts) == paragraphs
    for question in dataset.questions:
        context = dataset.contexts[question.context]
        assert question.answers
        assert all(context[at : at + len(text)] == text for text, at in question.answers)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
