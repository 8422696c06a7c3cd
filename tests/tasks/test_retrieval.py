"""The retrieval tasks: prompts, similarity, and the commands."""

import json
import sys

import numpy as np
import pytest

from etd_tf.checkpoints import save_checkpoint
from etd_tf.cli import evaluate
from etd_tf.cli.app import run_command
from etd_tf.evaluation.retrieval import score_retrieval
from etd_tf.modeling.pooling import Pooling
from etd_tf.tasks import get
from tests.evaluation.fixtures import write_squad
from tests.helpers import tiny_checkpoint
from tests.tasks.test_search_data import EXPECTED, write_beir


@pytest.fixture(scope="module")
def model():
    return tiny_checkpoint(num_layers=1)


def test_texts_get_their_prompts_and_the_models_similarity(model, tmp_path):
    task = get("retrieval", retrieval_dir=str(write_beir(tmp_path)))
    prompts = {"query": "on: ", "passage": "of: ", "corpus": "sat: "}
    asking = model.replace(pooling=Pooling(prompts=prompts, similarity_fn_name="dot"))
    scores = task.score({"plain": model, "asking": asking})
    for name, one, similarity in (("plain", model, "cosine"), ("asking", asking, "dot")):
        of_query, of_document = ("on: ", "of: ") if name == "asking" else ("", "")
        expected = score_retrieval(
            one.embed([of_query + text for text in EXPECTED.queries]),
            one.embed([of_document + text for text in EXPECTED.documents]),
            EXPECTED.relevant,
            left_out=EXPECTED.left_out,
            similarity=similarity,
        )
        assert scores[name] == pytest.approx(expected)


def test_the_share_that_is_kept_is_told():
    task = get("retrieval")
    scores = {"t": {"ndcg@10": 0.8}, "a": {"ndcg@10": 0.6}, "b": {"ndcg@10": 0.9}}
    assert task.remarks(scores) == (
        "a keeps 75.0 % of t's ndcg@10.",
        "b keeps 112.5 % of t's ndcg@10.",
    )
    assert task.remarks({"t": {"ndcg@10": 0.8}}) == ()
    assert task.remarks({"t": {"ndcg@10": 0.0}, "a": {"ndcg@10": 0.1}}) == ()


def test_commands_score_the_teacher_too(model, tmp_path, capsys):
    save_checkpoint(model, tmp_path / "teacher")
    save_checkpoint(tiny_checkpoint(1, num_layers=1), tmp_path / "student")
    models = [f"--model={tmp_path / 'student'}", f"--teacher={tmp_path / 'teacher'}"]
    write_squad(tmp_path / "squad")
    write_beir(tmp_path / "beir")
    for task, data in (
        ("squad-retrieval", f"--squad_dir={tmp_path / 'squad'}"),
        ("retrieval", f"--retrieval_dir={tmp_path / 'beir'}"),
    ):
        out = tmp_path / f"out-{task}"
        flags = [*models, f"--task={task}", data, f"--output_dir={out}"]
        assert run_command(evaluate.COMMAND, flags) == 0
        printed = capsys.readouterr().out
        results = json.loads((out / "results.json").read_text())[task.replace("-", "_")]
        assert list(results["scores"]) == [str(tmp_path / "teacher"), str(tmp_path / "student")]
        for found in results["scores"].values():
            assert {*found} == {"ndcg@10", "recall@10", "recall@100", "mrr"}
            assert f"{found['mrr']:.4f}" in printed
        teacher, student = results["values"].values()
        assert f"keeps {100 * student / teacher:.1f} % of" in printed


def test_malformed_data_is_refused_before_the_directory_is_touched(model, tmp_path, capsys):
    save_checkpoint(model, tmp_path / "m")
    data = write_beir(tmp_path / "beir", documents=["{"])
    flags = [f"--model={tmp_path / 'm'}", "--task=retrieval", f"--output_dir={tmp_path / 'o'}"]
    assert run_command(evaluate.COMMAND, flags) == 2
    assert "pass --retrieval_dir=DIR" in capsys.readouterr().err
    assert run_command(evaluate.COMMAND, [*flags, f"--retrieval_dir={data}"]) == 2
    assert "corpus.jsonl, line 1: not JSON" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    split = [f"--retrieval_dir={write_beir(data)}", "--retrieval_split=dev"]
    assert run_command(evaluate.COMMAND, [*flags, *split]) == 2
    assert "--retrieval_split is one of test" in capsys.readouterr().err


def test_equal_paragraphs_are_one_document(tmp_path):
    write_squad(tmp_path)
    data = get("squad-retrieval", squad_dir=str(tmp_path)).read()
    assert len({*data.documents}) == len(data.documents)
    assert all(len(grades) == 1 for grades in data.relevant)
    assert np.all([next(iter(g)) < len(data.documents) for g in data.relevant])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
