"""The task that compares a model's vectors with its teacher's."""

import json
import sys

import numpy as np
import pytest

from etd_tf.checkpoints import save_checkpoint
from etd_tf.cli import evaluate
from etd_tf.cli.app import run_command
from etd_tf.errors import InputError
from etd_tf.evaluation.fidelity import MIN_TEXTS, measure_fidelity
from etd_tf.evaluation.static_floor import count_tokens, make_static_floor
from etd_tf.modeling.pooling import Pooling
from etd_tf.tasks import fidelity, get
from tests.helpers import WORDPIECES, tiny_checkpoint

FLOOR = "static floor, 15 dims"


def some_texts(number=40):
    words = [word for word in WORDPIECES if word.isalpha()]
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(words, generator.integers(2, 9))) for _ in range(number)]


@pytest.fixture(scope="module")
def teacher():
    return tiny_checkpoint(num_layers=2).replace(pooling=Pooling(("cls",)))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(some_texts()) + "\n")
    return path


def test_scores_are_those_of_the_vectors(teacher, file):
    texts = some_texts()
    near = teacher.replace(pooling=Pooling(("mean",)))
    narrow = tiny_checkpoint(3, num_layers=1, hidden_size=6, num_heads=2)
    task = get("fidelity", texts=str(file))
    scores = task.score({"t": teacher, "near": near, "narrow": narrow})
    assert list(scores) == ["t", "near", "narrow", FLOOR, "static floor, 6 dims"]
    assert scores["t"] == {"neighbours": 1.0, "spearman": 1.0, "cosine": 1.0}
    expected = measure_fidelity(teacher.embed(texts), near.embed(texts))
    assert scores["near"]["neighbours"] == expected.neighbours
    assert scores["near"]["spearman"] == pytest.approx(expected.spearman)
    assert scores["near"]["cosine"] == pytest.approx(expected.cosine)
    assert {*scores["narrow"]} == {"neighbours", "spearman"}
    counts = count_tokens(teacher.tokenizer.encode_batch(texts), teacher.config.vocab_size)
    floor = make_static_floor(teacher, counts, 15).embed(texts)
    static = measure_fidelity(teacher.embed(texts), floor)
    assert scores[FLOOR] == {"neighbours": static.neighbours, "spearman": static.spearman}


def test_a_student_below_the_floor_is_named():
    task = get("fidelity", texts="file")
    scores = {
        "t": {"neighbours": 1.0},
        "bad": {"neighbours": 0.4},
        "good": {"neighbours": 0.6},
        FLOOR: {"neighbours": 0.4},
    }
    (told,) = task.remarks(scores)
    assert told.startswith("bad does not beat the static floor")
    scores[FLOOR] = {"neighbours": 0.3}
    assert task.remarks(scores) == ()


def test_fewer_texts_come_from_all_of_the_file(teacher, file, monkeypatch):
    seen = []

    def note(target, vectors):
        seen.append(len(vectors))
        return {"neighbours": 0.5}

    monkeypatch.setattr(fidelity, "_compare", note)
    embedded = []
    embed = type(teacher).embed
    monkeypatch.setattr(
        type(teacher), "embed", lambda s, t, **k: (embedded.append(t), embed(s, t, **k))[1]
    )
    get("fidelity", texts=str(file), num_texts=13).score({"t": teacher, "s": teacher})
    assert seen == [13, 13, 13]
    texts = some_texts()
    assert embedded[0] == [texts[i * 40 // 13] for i in range(13)]


def test_command_writes_and_prints_them(teacher, file, tmp_path, capsys):
    save_checkpoint(teacher, tmp_path / "teacher")
    save_checkpoint(tiny_checkpoint(4, num_layers=1), tmp_path / "student")
    flags = [f"--model={tmp_path / 'student'}", "--task=fidelity", f"--texts={file}"]
    out = tmp_path / "out"
    both = [*flags, f"--teacher={tmp_path / 'teacher'}", f"--output_dir={out}"]
    assert run_command(evaluate.COMMAND, both) == 0
    printed = capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())["fidelity"]
    assert results["metric"] == "neighbours"
    for name, found in results["scores"].items():
        assert name in printed
        assert f"{found['neighbours']:.4f}" in printed
    assert list(results["scores"])[-1] == FLOOR
    values = results["values"]
    loses = values[str(tmp_path / "student")] <= values[FLOOR]
    assert ("does not beat the static floor" in printed) == loses
    assert run_command(evaluate.COMMAND, flags) == 2
    assert "compares models with their teacher. Pass --teacher=DIR" in capsys.readouterr().err


def test_what_cannot_be_read_is_refused(file, tmp_path, teacher):
    with pytest.raises(InputError, match="needs its data: pass texts=FILE"):
        get("fidelity").check_source()
    with pytest.raises(InputError, match="does not exist, or is no file"):
        get("fidelity", texts=str(tmp_path / "none")).fingerprint()
    file.write_text("one\n\ntwo\n")
    with pytest.raises(InputError, match="holds 2 texts, a line each; expected at least 12"):
        get("fidelity", texts=str(file)).fingerprint()
    file.write_bytes(b"one\nt\xffwo\n")
    with pytest.raises(InputError, match="line 2, byte 5: not UTF-8"):
        get("fidelity", texts=str(file)).fingerprint()
    with pytest.raises(InputError, match="received t alone"):
        get("fidelity", texts=str(file)).score({"t": teacher})
    with pytest.raises(InputError, match=r"num_texts=11: expected a whole number >= 12"):
        get("fidelity", num_texts=11)
    assert fidelity._LEAST == MIN_TEXTS


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
