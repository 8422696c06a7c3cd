"""A pooled teacher's students: complete directories for sentence-transformers, with a card."""

import json
import re
import sys

import numpy as np
import pytest

from etd_tf.checkpoints import load_checkpoint, save_checkpoint
from etd_tf.cli import distill, extract
from etd_tf.cli.app import run_command
from etd_tf.modeling.pooling import DenseLayer, Pooling
from tests.helpers import tiny_checkpoint
from tests.jobs.tiny_job import job_flags, write_text

TEXTS = ["the cat sat on the mat", "a", "dogs and cats ran", "", "The cat's mat, 3 dogs! " * 9]
CARD = "---\nlicense: apache-2.0\n---\n# Cats\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    kernel = np.random.default_rng(0).normal(0, 0.3, (15, 6)).astype(np.float32)
    pooling = Pooling(
        dense=(DenseLayer(kernel, np.ones(6, np.float32)),), normalize=True, max_seq_length=20,
        prompts={"query": "on: "},
    )  # fmt: skip
    save_checkpoint(tiny_checkpoint().replace(pooling=pooling), folder / "teacher", card=CARD)
    write_text(folder / "text.txt")
    return folder


def check_directory(student, *, dims):
    """Everything is there, and sentence-transformers makes the same vectors of it."""
    names = {str(path.relative_to(student)) for path in student.rglob("*") if path.is_file()}
    wanted = ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "README.md"]
    wanted += ["config_sentence_transformers.json", "config.json", "tokenizer.json"]
    assert set(wanted) <= names
    assert "initializer_range" in json.loads((student / "config.json").read_text())
    vectors = load_checkpoint(student).embed(TEXTS, prompt="query")
    assert vectors.shape == (5, dims)
    pytest.importorskip("torch")
    package = pytest.importorskip("sentence_transformers")
    model = package.SentenceTransformer(str(student), device="cpu", local_files_only=True)
    assert model.max_seq_length == 20
    np.testing.assert_allclose(vectors, model.encode(TEXTS, prompt_name="query"), atol=1e-5)
    transformers = pytest.importorskip("transformers")
    assert transformers.AutoModel.from_pretrained(student).config.model_type == "bert"


def test_distillation(folder, tmp_path):
    flags = job_flags(folder, tmp_path / "out", student_hidden=15)
    assert run_command(distill.COMMAND, flags) == 0
    student = tmp_path / "out" / "student"
    check_directory(student, dims=6)
    card = (student / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: sentence-transformers\n")
    assert "# teacher: 2 layers of width 15" in card
    assert re.search(r"- Extracted \(.*\): layers [123], [123] of the teacher", card)
    assert "loss minilm: 12 steps, 48 sequences of 16 tokens of text.txt." in card
    assert re.search(r"\| time of 1 x 16 tokens, .* \| [\d.]+ ms \| [\d.]+ ms \|", card)
    assert re.search(r"\| held-out loss \| [\d.]+ \(undistilled [\d.]+\) \|  \|", card)
    assert str(tmp_path) not in card
    assert str(folder) not in card


def test_extraction(folder, tmp_path):
    sizes = ["--student_layers=1", "--student_hidden=9", "--student_heads=3"]
    flags = [f"--teacher={folder / 'teacher'}", f"--output_dir={tmp_path / 'out'}", *sizes]
    flags += ["--student_intermediate=7", "--extraction=rand"]
    assert run_command(extract.COMMAND, flags) == 0
    check_directory(tmp_path / "out" / "student", dims=9)
    card = (tmp_path / "out" / "student" / "README.md").read_text()
    assert "Not distilled yet" in card
    assert "license: apache-2.0" in card


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
