"""Cards of models: front matter, sizes, licence, and code that runs."""

import re
import runpy
import sys

import numpy as np
import pytest

from etd_tf.checkpoints import Measured, load_checkpoint, model_card, save_checkpoint
from etd_tf.export import HuggingFace
from etd_tf.modeling.pooling import Pooling
from tests.helpers import tiny_checkpoint

POOLING = Pooling(
    ("cls",), normalize=True, prompts={"query": "on: "}, default_prompt_name="query",
    similarity_fn_name="cosine",
)  # fmt: skip
CARD = """---
language:
- en
license: other
license_name: "of cats"
license_link: LICENSE
library_name: something
---
# Teacher
license: mit
"""


@pytest.fixture
def teacher(tmp_path):
    save_checkpoint(tiny_checkpoint().replace(pooling=POOLING), tmp_path / "cats", card=CARD)
    return load_checkpoint(tmp_path / "cats")


def front_of(card):
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(card.split("---\n")[1])


def test_card_of_a_student(teacher):
    student = tiny_checkpoint(num_layers=1).replace(pooling=POOLING)
    card = model_card(
        student, teacher=teacher, made=["Cut."], measured=[Measured("time", "1 ms", "2 ms")]
    )
    assert front_of(card) == {
        "language": ["en"],
        "license": "other",
        "license_name": "of cats",
        "license_link": "LICENSE",
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": [
            "knowledge-distillation",
            "sentence-transformers",
            "feature-extraction",
            "text-embeddings-inference",
        ],
    }
    assert "# cats: 1 layers of width 15" in card
    assert "vector of 15 dims, of length 1; pooling: cls." in card
    assert "cut after 23 tokens" in card
    assert "Prompt `query`, used where none is named: `'on: '`." in card
    assert "| layers | 1 | 3 |" in card
    assert "| time | 1 ms | 2 ms |" in card
    assert "- Cut." in card
    assert 'license: other license_name: "of cats"' in card.partition("## Licence")[2]


def test_a_licence_that_no_card_names_is_unknown(tmp_path):
    save_checkpoint(tiny_checkpoint(mlm_head=True), tmp_path / "bare")
    bare = load_checkpoint(tmp_path / "bare")
    card = model_card(bare, teacher=bare)
    front = front_of(card)
    assert (front["license"], front["pipeline_tag"]) == ("unknown", "fill-mask")
    assert front["library_name"] == "transformers"
    assert "Unknown: no card of the teacher names one." in card


@pytest.mark.parametrize(
    ("source", "base"),
    [("hf://owner/name", "owner/name"), ("package:nowhere/model", None), ("/home/me/it", None)],
)
def test_the_origin_is_named_where_the_hub_has_it(source, base, monkeypatch):
    monkeypatch.setattr("etd_tf.checkpoints.cards.read_card", lambda _: "")
    card = model_card(tiny_checkpoint(), teacher=tiny_checkpoint().replace(source=source))
    assert front_of(card).get("base_model") == base
    assert "/home/me" not in card


@pytest.mark.parametrize("pooling", [POOLING, None])
def test_code_of_the_card_runs(tmp_path, monkeypatch, pooling):
    pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    checkpoint = tiny_checkpoint(num_layers=1).replace(pooling=pooling)
    HuggingFace().write(checkpoint, tmp_path / "model")
    monkeypatch.chdir(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    found = []
    for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        (tmp_path / "block.py").write_text(block)
        found.append(runpy.run_path(str(tmp_path / "block.py")))
    theirs, ours = found
    if pooling is not None:
        np.testing.assert_allclose(theirs["vectors"], ours["vectors"], atol=1e-5)


def test_an_export_keeps_the_card_of_its_model(teacher, tmp_path):
    HuggingFace().write(teacher, tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == CARD


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
