"""GLUE files: hand-made ones with every trap, and the real ones where present."""

import builtins
import sys
from pathlib import Path

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.tasks.glue import GLUE_TASKS
from etd_tf.tasks.glue_data import examples_from_tfds, has_split, load_glue, read_glue_file
from tests.helpers import need_shared_data

ROWS = {
    ("CoLA", "train"): 8551,
    ("CoLA", "dev"): 1043,
    ("CoLA", "test"): 1063,
    ("SST-2", "train"): 67349,
    ("SST-2", "dev"): 872,
    ("SST-2", "test"): 1821,
    ("MRPC", "train"): 3668,
    ("MRPC", "dev"): 408,
    ("MRPC", "test"): 1725,
    ("STS-B", "train"): 5749,
    ("STS-B", "dev"): 1500,
    ("STS-B", "test"): 1379,
    ("RTE", "train"): 2490,
    ("RTE", "dev"): 277,
    ("RTE", "test"): 3000,
    ("WNLI", "train"): 635,
    ("WNLI", "dev"): 71,
    ("WNLI", "test"): 146,
}


def write(folder: Path, task: str, split: str, content: str | bytes) -> Path:
    path = folder / GLUE_TASKS[task].files[split].path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize(("title", "split"), ROWS)
def test_real_files_have_their_official_sizes(title, split):
    folder = need_shared_data("glue")
    examples = load_glue(GLUE_TASKS[title.lower().replace("-", "")], split, folder)
    assert len(examples) == ROWS[title, split]
    assert examples.skipped == 0
    assert all(text == text.strip("\r\n") for texts in examples.texts for text in texts)
    if split == "test":
        assert examples.labels is None
        assert examples.indices.tolist() == list(range(len(examples)))
    else:
        assert examples.labels.shape == (len(examples),)


def test_real_mrpc_keeps_literal_quotes_behind_a_byte_order_mark():
    examples = load_glue(GLUE_TASKS["mrpc"], "dev", need_shared_data("glue"))
    assert examples.texts[0][1].startswith('" The foodservice pie business')
    assert examples.labels[:3].tolist() == [1, 0, 0]


def test_header_is_found_behind_a_byte_order_mark(tmp_path):
    content = '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\ta "b\tc" d\n'
    write(tmp_path, "mrpc", "dev", content)
    examples = load_glue(GLUE_TASKS["mrpc"], "dev", tmp_path)
    assert examples.texts == (('a "b', 'c" d'),)
    assert examples.labels.tolist() == [1]


def test_cola_has_no_header_in_train_and_one_in_test(tmp_path):
    write(tmp_path, "cola", "train", "gj04\t1\t\tFine.\nbc01\t0\t*\tNot fine.")
    write(tmp_path, "cola", "test", "index\tsentence\n4\tFirst.\n9\tSecond.\n")
    train = load_glue(GLUE_TASKS["cola"], "train", tmp_path)
    assert train.texts == (("Fine.",), ("Not fine.",))
    assert train.labels.tolist() == [1, 0]
    test = load_glue(GLUE_TASKS["cola"], "test", tmp_path)
    assert test.indices.tolist() == [4, 9]
    assert test.labels is None


def test_only_newlines_end_a_line(tmp_path):
    content = "sentence\tlabel\r\none\u2028two\x0bthree\x85four\t1\r\n\r\nfive\t0\n"
    write(tmp_path, "sst2", "dev", content)
    examples = load_glue(GLUE_TASKS["sst2"], "dev", tmp_path)
    assert examples.texts == (("one\u2028two\x0bthree\x85four",), ("five",))


def test_labels_are_read_by_name_not_by_order(tmp_path):
    write(tmp_path, "rte", "dev", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n")
    task = GLUE_TASKS["rte"]
    examples = load_glue(task, "dev", tmp_path)
    assert task.label_names[examples.labels[0]] == "not_entailment"


def test_columns_are_found_by_name(tmp_path):
    header = "genre\tsentence2\tgold_label\tsentence1"
    write(tmp_path, "mnli", "dev_matched", f"{header}\nx\thypothesis\tneutral\tpremise\n")
    examples = load_glue(GLUE_TASKS["mnli"], "dev_matched", tmp_path)
    assert examples.texts == (("premise", "hypothesis"),)
    assert examples.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("sst2", "sentence\tlabel\nfine\t1\nbroken\n", r"dev\.tsv, line 3: 1 tab-separated"),
        ("sst2", "sentence\tlabel\na\tb\t1\n", r"line 2: 3 tab-separated fields, expected 2"),
        ("sst2", "sentence\tlabel\nfine\tpositive\n", r"line 2: label 'positive' is not one of 0"),
        ("sst2", "text\tlabel\nfine\t1\n", r"line 1: no column sentence; found text, label"),
        ("sst2", "sentence\tlabel\n", r"has no examples"),
        ("sst2", "sentence\tsentence\tlabel\na\tb\t1\n", "column sentence is named twice"),
        ("sst2", "", r"no column sentence"),
        ("sst2", b"sentence\tlabel\nok\t1\n\xff\t1\n", r"line 3, byte 20: not UTF-8"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\t5.1\n", r"line 2: score '5.1' is not a num"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\tnan\n", r"score 'nan' is not a number"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\thigh\n", r"score 'high'"),
        ("rte", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n", r"label '1' is not one of ent"),
    ],
)
def test_unreadable_rows_are_refused_with_file_and_line(tmp_path, task, content, message):
    write(tmp_path, task, "dev", content)
    with pytest.raises(InputError, match=message):
        load_glue(GLUE_TASKS[task], "dev", tmp_path)


def test_test_set_numbers_must_be_numbers(tmp_path):
    write(tmp_path, "sst2", "test", "index\tsentence\nzero\ta\n")
    with pytest.raises(InputError, match=r"line 2: example number 'zero'"):
        load_glue(GLUE_TASKS["sst2"], "test", tmp_path)
    write(tmp_path, "sst2", "test", f"index\tsentence\n{'9' * 5000}\ta\n")
    with pytest.raises(InputError, match=r"line 2: example number '9999"):
        load_glue(GLUE_TASKS["sst2"], "test", tmp_path)


def test_rows_that_qqp_ships_broken_are_skipped_and_counted(tmp_path):
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    write(tmp_path, "qqp", "dev", header + "1\t2\t3\ta\tb\t1\n7\tonly this\n4\t5\t6\tc\td\t0\n")
    examples = load_glue(GLUE_TASKS["qqp"], "dev", tmp_path)
    assert examples.texts == (("a", "b"), ("c", "d"))
    assert examples.skipped == 1


def test_every_row_of_a_test_file_is_kept(tmp_path):
    rows = "0\ta\tb\n1\tthe\tcat\tmat\n2\tonly\n3\n"
    write(tmp_path, "qqp", "test", f"id\tquestion1\tquestion2\n{rows}")
    examples = load_glue(GLUE_TASKS["qqp"], "test", tmp_path)
    assert examples.indices.tolist() == [0, 1, 2, 3]
    assert examples.texts == (("a", "b"), ("the", "cat"), ("only", ""), ("", ""))
    assert examples.skipped == 3
    write(tmp_path, "qqp", "test", "id\tquestion1\tquestion2\n0\ta\tb\nrest of a text\n")
    with pytest.raises(InputError, match="line 3: example number 'rest of a text'"):
        load_glue(GLUE_TASKS["qqp"], "test", tmp_path)


@pytest.mark.parametrize("task", ["sst2", "cola"])
def test_a_test_file_that_no_submission_can_answer_is_refused(tmp_path, task):
    write(tmp_path, task, "test", "index\tsentence\n4\ta\n5\tb\n4\tc\n")
    with pytest.raises(InputError, match=r"test.tsv: index 4 occurs twice"):
        load_glue(GLUE_TASKS[task], "test", tmp_path)


def test_rows_without_a_majority_label_are_left_out_and_counted(tmp_path):
    header = "\ufeffindex\tsentence1\tsentence2\tgold_label\r\n"
    rows = "0\ta\tb\tneutral\r\n1\tc\td\t-\r\n2\te\tf\tentailment\r\n"
    write(tmp_path, "mnli", "train", header + rows)
    examples = load_glue(GLUE_TASKS["mnli"], "train", tmp_path)
    assert examples.texts == (("a", "b"), ("e", "f"))
    assert (examples.undecided, examples.skipped) == (1, 0)
    write(tmp_path, "mnli", "train", header + "1\tc\td\t-\r\n")
    with pytest.raises(InputError, match="has no examples"):
        load_glue(GLUE_TASKS["mnli"], "train", tmp_path)
    write(tmp_path, "rte", "train", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t-\n")
    with pytest.raises(InputError, match="label '-' is not one of"):
        load_glue(GLUE_TASKS["rte"], "train", tmp_path)


def test_files_that_are_there_instead_are_named(tmp_path):
    (tmp_path / "MRPC").mkdir()
    (tmp_path / "MRPC" / "msr_paraphrase_train.txt").touch()
    with pytest.raises(InputError, match=r"holds msr_paraphrase_train.txt. GLUE's download script"):
        load_glue(GLUE_TASKS["mrpc"], "train", tmp_path)
    (tmp_path / "STS-B").mkdir()
    (tmp_path / "STS-B" / "sts-train.csv").touch()
    with pytest.raises(InputError, match=r"STS-B holds sts-train.csv\.$"):
        load_glue(GLUE_TASKS["stsb"], "train", tmp_path)
    with pytest.raises(InputError, match=r"holds MRPC, STS-B\.$"):
        load_glue(GLUE_TASKS["rte"], "train", tmp_path)


def test_missing_files_and_splits_are_named(tmp_path):
    with pytest.raises(InputError, match=r"SST-2/dev\.tsv does not exist.*or be tfds"):
        load_glue(GLUE_TASKS["sst2"], "dev", tmp_path)
    with pytest.raises(InputError, match="Splits: train, dev_matched"):
        load_glue(GLUE_TASKS["mnli"], "dev", tmp_path)
    with pytest.raises(InputError, match=r"nowhere\.tsv does not exist"):
        read_glue_file(GLUE_TASKS["sst2"], "dev", tmp_path / "nowhere.tsv")
    assert not has_split(GLUE_TASKS["sst2"], "test", tmp_path)
    assert has_split(GLUE_TASKS["sst2"], "test", "tfds")


def test_take_and_need_labels(tmp_path):
    write(tmp_path, "sst2", "dev", "sentence\tlabel\na\t0\nb\t1\nc\t1\n")
    write(tmp_path, "sst2", "test", "index\tsentence\n0\ta\n")
    part = load_glue(GLUE_TASKS["sst2"], "dev", tmp_path).take(np.asarray([2, 0]))
    assert part.texts == (("c",), ("a",))
    assert part.need_labels().tolist() == [1, 0]
    assert part.indices.tolist() == [2, 0]
    unlabelled = load_glue(GLUE_TASKS["sst2"], "test", tmp_path).take(np.asarray([0]))
    with pytest.raises(InputError, match=r"SST-2 test has no labels. Use dev"):
        unlabelled.need_labels()


def tfds_row(index, label, **texts):
    return {"idx": np.int32(index), "label": np.int64(label)} | {
        name: text.encode("utf-8") for name, text in texts.items()
    }


def test_tfds_classes_are_mapped_by_name():
    rows = [
        tfds_row(1, 0, premise="c", hypothesis="d"),
        tfds_row(0, 2, premise="a", hypothesis="b"),
    ]
    names = ("contradiction", "entailment", "neutral")  # another order than the task's
    examples = examples_from_tfds(GLUE_TASKS["mnli"], "dev_matched", rows, names)
    task = GLUE_TASKS["mnli"]
    assert examples.texts == (("a", "b"), ("c", "d"))
    assert [task.label_names[label] for label in examples.labels] == ["neutral", "contradiction"]


def test_tfds_scores_test_splits_and_foreign_labels():
    row = {"idx": np.int32(0), "label": np.float32(2.5), "sentence1": b"a", "sentence2": b"b"}
    assert examples_from_tfds(GLUE_TASKS["stsb"], "dev", [row], ()).labels.tolist() == [2.5]
    rows = [tfds_row(0, -1, sentence="a")]
    names = ("negative", "positive")
    assert examples_from_tfds(GLUE_TASKS["sst2"], "test", rows, names).labels is None
    with pytest.raises(InputError, match="has labels bad, good; expected negative, positive"):
        examples_from_tfds(GLUE_TASKS["sst2"], "dev", rows, ("bad", "good"))


def test_tfds_rows_without_a_label_never_get_the_last_class():
    names = ("entailment", "neutral", "contradiction")
    rows = [tfds_row(n, label, premise="a", hypothesis="b") for n, label in enumerate((1, -1))]
    examples = examples_from_tfds(GLUE_TASKS["mnli"], "dev_matched", rows, names)
    assert (examples.labels.tolist(), examples.undecided) == ([1], 1)
    with pytest.raises(InputError, match=r"glue/sst2 dev, idx 0: label -1 is none of the 2"):
        examples_from_tfds(
            GLUE_TASKS["sst2"], "dev", [tfds_row(0, -1, sentence="a")], ("negative", "positive")
        )
    row = {"idx": np.int32(0), "label": np.float32(-1), "sentence1": b"a", "sentence2": b"b"}
    with pytest.raises(InputError, match=r"score '-1.0' is not a number from 0 to 5"):
        examples_from_tfds(GLUE_TASKS["stsb"], "dev", [row], ())


def test_tfds_names_agree_with_the_installed_datasets():
    """Label names and text features of the table against TensorFlow Datasets itself."""
    tfds_glue = pytest.importorskip("tensorflow_datasets.text.glue")
    configs = {config.name: config for config in tfds_glue.Glue.BUILDER_CONFIGS}
    for name, task in GLUE_TASKS.items():
        config = configs[name]
        assert sorted(config.label_classes or ()) == sorted(task.label_names), name
        assert sorted(config.text_features) == sorted(task.text_names), name
        if name not in ("cola", "mrpc"):  # no header; read from other files there
            assert config.label_column == task.label_column
            columns = tuple(config.text_features[name] for name in task.text_names)
            assert columns == task.columns, name


def test_tfds_problems_name_the_way_out(monkeypatch, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    import tensorflow_datasets as tfds

    def fail(*args, **kwargs):
        assert kwargs["data_dir"] == str(tmp_path)
        raise ConnectionError("no network")

    monkeypatch.setattr(tfds, "load", fail)
    with pytest.raises(InputError, match=r"glue/sst2: no network. Pass --glue_dir=DIR"):
        load_glue(GLUE_TASKS["sst2"], "dev", f"tfds:{tmp_path}")
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "tensorflow_datasets":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match="pip install tensorflow-datasets"):
        load_glue(GLUE_TASKS["sst2"], "dev", "tfds")


def test_tfds_is_read(monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    with tfds.testing.mock_data(num_examples=5, policy=tfds.testing.MockPolicy.USE_CODE):
        examples = load_glue(GLUE_TASKS["rte"], "dev", "tfds")
    assert len(examples) == 5
    assert set(examples.labels) <= {0, 1}
    assert all(len(texts) == 2 for texts in examples.texts)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
