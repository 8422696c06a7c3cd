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
    with pytest.raises(
        InputError, match=r"v2.0, expected v1.1. Pass task=squad/v2.0.*dev-v2.0.json"
    ):
        read_squad(path, "v1.1")
    path = write(tmp_path, document() | {"version": 1.1}, "dev-v2.0.json")
    with pytest.raises(InputError, match=r"v1.1, expected v2.0. Pass task=squad/v1.1.*dev-v1.1"):
        read_squad(path, "v2.0")


@pytest.mark.parametrize("version", ["KorQuAD_v1.0_train", 1.0, 1.1, "", None, " V1.1"])
def test_files_of_other_versions_are_judged_by_what_they_hold(tmp_path, version):
    path = write(tmp_path, document() | {"version": version})
    assert len(read_squad(path, "v1.1").questions) == 1
    path = write(tmp_path, document(is_impossible=True) | {"version": "JaQuAD"})
    with pytest.raises(InputError, match=r"Name the file dev-v2.0.json and pass task=squad/v2.0"):
        read_squad(path, "v1.1")


def test_a_v2_file_with_answers_only_is_said(tmp_path, caplog):
    read_squad(write(tmp_path, document() | {"version": "mine"}), "v2.0")
    assert "every question has an answer" in caplog.text


@pytest.mark.parametrize(
    ("value", "impossible"),
    [("false", False), ("False", False), (0, False), (None, False), ("TRUE", True), (1, True)],
)
def test_truth_may_be_text_or_a_number(tmp_path, value, impossible):
    values = document(is_impossible=value) | {"version": "v2.0"}
    assert (read_squad(write(tmp_path, values), "v2.0").questions[0].answers == ()) == impossible


def places(folder, context, *answers, split="dev"):
    """Answers as they are read, each of a question of its own."""
    qas = [
        {"id": str(n), "question": "?", "answers": [{"text": text, "answer_start": start}]}
        for n, (text, start) in enumerate(answers)
    ]
    values = {"version": "1.1", "data": [{"paragraphs": [{"context": context, "qas": qas}]}]}
    write(folder, values, f"{split}-v1.1.json")
    return [question.answers[0] for question in load_squad("v1.1", split, folder).questions]


def test_misplaced_answers_move_to_the_nearest_place_and_are_counted(tmp_path, caplog):
    context = "the cat sat on the mat. the cat ran. the end"
    answers = [("mat", 19), ("mat", 17), ("cat", 25), ("cat", 0), ("zebra", 5), ("end", 99)]
    found = places(tmp_path, context, *answers, ("mat", -1))
    assert found == [
        *([("mat", 19)] * 2),
        ("cat", 28),
        ("cat", 4),
        ("zebra", -1),
        ("end", 41),
        ("mat", 19),
    ]
    assert "of 7 answers" in caplog.text
    assert "5 moved to the nearest place" in caplog.text
    assert "1 not in their paragraph; 1 questions are left out of training (4)" in caplog.text


def test_right_answers_are_not_mentioned(tmp_path, caplog):
    answers = [("caf\u00e9", 2), (" \U0001f680 one", 6), ("one", 9)]
    assert places(tmp_path, "a caf\u00e9 \U0001f680 one", *answers) == answers
    assert not caplog.records


@pytest.mark.parametrize(
    ("encoding", "size", "name"), [("utf-16-le", 2, "UTF-16 units"), ("utf-8", 1, "bytes")]
)
def test_offsets_in_other_units_are_found_for_the_whole_file(
    tmp_path, caplog, encoding, size, name
):
    """The first answer fits in characters as well, by chance; the last is beyond the end."""
    context = "\U0001f680 aa aa \U0001f680 the cat, the \U0001f680 mat"
    starts = {"a": 3, "cat": 14, "mat": 25}
    answers = [
        (text, len(context[:start].encode(encoding)) // size) for text, start in starts.items()
    ]
    answers.append(("zebra", 3))
    assert places(tmp_path, context, *answers) == [*starts.items(), ("zebra", -1)]
    assert f"3 counted in {name}, converted; 1 not in" in caplog.text
    assert "moved" not in caplog.text


def test_a_single_answer_in_other_units_is_found_among_right_ones(tmp_path):
    context = "\U0001f680\U0001f680\U0001f680\U0001f680 a cat, a cat"
    right = [("a cat", 5), ("a cat", 12), ("cat", 7)]
    assert places(tmp_path, context, *right, ("cat", 11)) == [*right, ("cat", 7)]


def test_spaces_around_an_answer_do_not_move_it(tmp_path):
    context = "the mat is a mat"
    answers = [(" mat", 4), ("mat\n", 13), ("  ", 3)]
    assert places(tmp_path, context, *answers) == [("mat", 4), ("mat", 13), ("  ", -1)]


def test_questions_whose_answer_has_no_place_are_not_trained_on(tmp_path):
    found = places(tmp_path, "a cat", ("dog", 1), ("cat", 2), split="train")
    assert found == [("cat", 2)]
    with pytest.raises(InputError, match="no question to train on"):
        places(tmp_path, "a cat", ("dog", 1), split="train")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": "1.1"}, "the file has no data of type list"),
        ({"data": [3]}, r"data\[0\] is not a JSON object"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, r"data\[0\].paragraphs\[0\] has no context"),
        (document(id=True), r"qas\[0\] has no id of type str"),
        (document(is_impossible="maybe"), "is_impossible is 'maybe'; expected true or false"),
        (document(answers=[]), r"qas\[0\] has no answer, as only questions of SQuAD v2\.0 may"),
        (document(answers={}), r"has no answers of type list"),
        (document(answers=[{"text": "x"}]), r"answers\[0\] has no answer_start of type int"),
        ({"data": []}, "has no questions"),
        ([], "expected an object"),
    ],
)
def test_malformed_files_are_refused_with_the_place(tmp_path, values, message):
    with pytest.raises(InputError, match=message):
        read_squad(write(tmp_path, values), "v1.1")


def test_ids_may_be_numbers(tmp_path):
    assert read_squad(write(tmp_path, document(id=7)), "v1.1").questions[0].id == "7"


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
