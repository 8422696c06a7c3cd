"""ONNX files: names, numbers of every kind of model, int8, and what they refuse."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from etd_tf.checkpoints import load_checkpoint
from etd_tf.checkpoints.checkpoint import CLASSIFIER, SPANS, TAGS, TaskHead
from etd_tf.errors import EtdError, InputError
from etd_tf.export import Onnx, onnx_file
from etd_tf.export.onnx_file import run_onnx
from etd_tf.modeling.pooling import ACTIVATIONS, POOLING_MODES, DenseLayer, Pooling
from etd_tf.modeling.reading import Reading
from tests.export.numbers import read_logits, with_head
from tests.helpers import random_batch, tiny_checkpoint

onnx = pytest.importorskip("onnx")
TOLERANCE = 2e-5


def layer(inputs, outputs, activation):
    generator = np.random.default_rng(inputs)
    kernel = generator.normal(0, 0.3, (inputs, outputs)).astype(np.float32)
    return DenseLayer(kernel, generator.normal(size=outputs).astype(np.float32), activation)


# How it pools -> other arguments of the model.
MODELS = {
    **{mode: (Pooling((mode,)), {}) for mode in POOLING_MODES},
    "all": (Pooling(tuple(POOLING_MODES), normalize=True, truncate_dim=50), {}),
    **{
        activation: (Pooling(dense=(layer(15, 7, activation),), normalize=True), {})
        for activation in ACTIVATIONS
    },
    "two layers": (Pooling(dense=(layer(15, 7, "tanh"), layer(7, 4, "linear"))), {}),
    "no pooling": (None, {"pooler": False}),
    "tanh GELU": (Pooling(), {"hidden_act": "gelu_new", "num_layers": 3}),
    "one segment": (Pooling(), {"hidden_act": "relu", "type_vocab_size": 1}),
    "one layer": (Pooling(), {"num_layers": 1, "hidden_size": 14, "num_heads": 7}),
}


def as_theirs(batch):
    names = {"token_ids": "input_ids", "padding_mask": "attention_mask"}
    names["segment_ids"] = "token_type_ids"
    return {theirs: batch[ours].astype(np.int64) for ours, theirs in names.items()}


def written(checkpoint, directory, **options):
    export = Onnx(**options).write(checkpoint, directory)
    assert export.max_difference < TOLERANCE
    return Path(export.path)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_the_models(tmp_path, name):
    pooling, changes = MODELS[name]
    checkpoint = tiny_checkpoint(**{"num_layers": 2, **changes}).replace(pooling=pooling)
    path = written(checkpoint, tmp_path / "out")
    for batch_size, length in ((1, 1), (3, 7), (2, 23)):
        batch = random_batch(checkpoint.config, batch_size=batch_size, length=length)
        outputs = run_onnx(path, as_theirs(batch))
        states = checkpoint.encoder(batch)["sequence_output"]
        np.testing.assert_allclose(outputs["last_hidden_state"], states, atol=TOLERANCE)
        assert ("sentence_embedding" in outputs) == (pooling is not None)
        if pooling is not None:
            vectors = pooling(states, batch["padding_mask"])
            np.testing.assert_allclose(outputs["sentence_embedding"], vectors, atol=TOLERANCE)


def test_names_and_axes(tmp_path):
    checkpoint = tiny_checkpoint(num_layers=1).replace(pooling=Pooling())
    model = onnx.load(written(checkpoint, tmp_path / "out"))

    def shapes(values):
        return {
            one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
            for one in values
        }

    both = ["batch", "sequence"]
    names = ("input_ids", "attention_mask", "token_type_ids")
    assert shapes(model.graph.input) == dict.fromkeys(names, both)
    assert all(one.type.tensor_type.elem_type == 7 for one in model.graph.input)
    assert shapes(model.graph.output) == {
        "last_hidden_state": [*both, 15],
        "sentence_embedding": ["batch", 15],
    }
    one = tiny_checkpoint(num_layers=1, type_vocab_size=1)
    assert "token_type_ids" not in shapes(onnx_file.make_model(one).graph.input)


def test_a_head_with_a_layer_of_its_own_gives_logits(tmp_path):
    generator = np.random.default_rng(0)
    kernel, hidden = (generator.normal(size=(15, n)).astype(np.float32) for n in (3, 15))
    head = TaskHead(
        CLASSIFIER, kernel, np.ones(3, "f4"), hidden=(hidden, np.ones(15, "f4")), hidden_act="relu"
    )
    checkpoint = tiny_checkpoint(num_layers=1, type_vocab_size=1).replace(task_head=head)
    path = written(checkpoint, tmp_path / "out")
    batch = random_batch(checkpoint.config)
    states = np.asarray(checkpoint.encoder(batch)["sequence_output"])[:, 0]
    theirs = {n: v for n, v in as_theirs(batch).items() if n != "token_type_ids"}
    logits = run_onnx(path, theirs)["logits"]
    np.testing.assert_allclose(logits, np.maximum(states @ hidden + 1, 0) @ kernel + 1, atol=1e-4)


@pytest.mark.parametrize("name", [CLASSIFIER, SPANS, TAGS])
def test_a_head_gives_logits(tmp_path, name):
    outputs = 2 if name == SPANS else 3
    kernel = np.random.default_rng(0).normal(size=(15, outputs)).astype(np.float32)
    head = TaskHead(name, kernel, np.ones(outputs, np.float32))
    checkpoint = tiny_checkpoint(num_layers=1).replace(task_head=head)
    path = written(checkpoint, tmp_path / "out")
    batch = random_batch(checkpoint.config)
    found = checkpoint.encoder(batch)
    states = found["pooled_output" if name == CLASSIFIER else "sequence_output"]
    logits = run_onnx(path, as_theirs(batch))["logits"]
    np.testing.assert_allclose(logits, np.asarray(states) @ kernel + 1, atol=1e-4)


@pytest.mark.parametrize(
    ("pool", "pairs"),
    [("mean", "joint"), ("first", "joint"), ("pooled", "twin"), ("mean", "twin")],
)
def test_a_head_reads_what_it_was_trained_on(tmp_path, pool, pairs):
    checkpoint = with_head(Reading(pool, pairs))
    path = written(checkpoint, tmp_path / "out")
    first = random_batch(checkpoint.config, batch_size=2, length=6)
    second = random_batch(checkpoint.config, seed=1, batch_size=2, length=9)
    pair = {f"pair_{name}": value for name, value in as_theirs(second).items()}
    found = run_onnx(path, as_theirs(first) | pair)
    expected = read_logits(checkpoint, first, second)
    np.testing.assert_allclose(found["logits"], expected, atol=1e-4)


def test_the_directory_is_complete_for_other_programs(tmp_path):
    checkpoint = tiny_checkpoint(num_layers=1).replace(pooling=Pooling(normalize=True))
    written(checkpoint, tmp_path / "out")
    for name in ("config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json"):
        assert (tmp_path / "out" / name).is_file()
    assert not (tmp_path / "out" / "model.safetensors").exists()
    with pytest.raises(InputError, match="no weights"):
        load_checkpoint(tmp_path / "out")


def test_texts_through_stock_tokenizers(tmp_path):
    transformers = pytest.importorskip("transformers")
    checkpoint = tiny_checkpoint(num_layers=1).replace(pooling=Pooling(("cls",), normalize=True))
    path = written(checkpoint, tmp_path / "out")
    texts = ["the cat sat", "a", "dogs and cats ran on the mat"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    inputs = tokenizer(texts, padding=True, return_tensors="np")
    vectors = run_onnx(path, inputs)["sentence_embedding"]
    np.testing.assert_allclose(vectors, checkpoint.embed(texts), atol=TOLERANCE)


def test_without_onnx_runtime_the_package_onnx_runs_it(tmp_path, monkeypatch):
    checkpoint = tiny_checkpoint(num_layers=1).replace(pooling=Pooling(tuple(POOLING_MODES)))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    written(checkpoint, tmp_path / "out")
    with pytest.raises(InputError, match=r"need the package onnxruntime.*pip install onnxruntime"):
        Onnx(quantize=True)


def test_a_missing_package_is_told_before_any_work(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"need the package onnx, .*pip install onnx\."):
        Onnx()


def test_weights_beyond_one_file_lie_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "_LARGEST", 1000)
    pytest.importorskip("onnxruntime")
    path = written(tiny_checkpoint(num_layers=1), tmp_path / "out", quantize=True)
    assert (path.parent / "model.onnx_data").stat().st_size > 5000


def test_int8_is_smaller_and_close(tmp_path):
    pytest.importorskip("onnxruntime")
    checkpoint = tiny_checkpoint(
        num_layers=2, hidden_size=64, num_heads=2, intermediate_size=256
    ).replace(pooling=Pooling(normalize=True))
    path = written(checkpoint, tmp_path / "out", quantize=True)
    small = path.with_name("model_quantized.onnx")
    assert small.stat().st_size < 0.5 * path.stat().st_size
    batch = random_batch(checkpoint.config, batch_size=4, length=12)
    exact, close = (run_onnx(p, as_theirs(batch))["sentence_embedding"] for p in (path, small))
    cosines = np.sum(exact * close, axis=1)
    assert (cosines > 0.99).all()
    assert (cosines < 1 - 1e-7).all()


def test_int8_that_is_too_far_is_refused_with_its_figure(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_file, "_COSINE", 1.01)
    with pytest.raises(
        EtdError, match=r"mean cosine of [01]\.\d+ to the float ones.*Leave quantize out"
    ):
        Onnx(quantize=True).write(tiny_checkpoint(num_layers=1), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_wrong_numbers_are_not_written(tmp_path, monkeypatch):
    other = onnx_file.make_model(tiny_checkpoint(1, num_layers=1))
    monkeypatch.setattr(onnx_file, "make_model", lambda _: other)
    with pytest.raises(EtdError, match="ONNX check failed: outputs differ"):
        Onnx().write(tiny_checkpoint(num_layers=1), tmp_path / "out")
    assert not list(tmp_path.iterdir())


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
