"""LiteRT files run on built-in operators and give the model's numbers."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.checkpoints.checkpoint import CLASSIFIER, TaskHead
from etd_tf.errors import EtdError, InputError
from etd_tf.export import LiteRT, litert
from etd_tf.export.litert import run_litert
from etd_tf.modeling.pooling import ACTIVATIONS, POOLING_MODES, DenseLayer, Pooling
from etd_tf.modeling.reading import USUAL, Reading
from tests.export.numbers import read_logits, with_head, with_tags
from tests.helpers import random_batch, relative_error, tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint(hidden_act="gelu_new", num_layers=2)


@pytest.fixture(scope="module")
def path(checkpoint, tmp_path_factory):
    export = LiteRT().write(checkpoint, tmp_path_factory.mktemp("litert") / "made")
    assert export.max_difference < 1e-5
    return Path(export.path)


@pytest.mark.parametrize(("batch_size", "length"), [(1, 1), (3, 7), (2, 23)])
def test_any_batch_and_length_equals_the_model(checkpoint, path, batch_size, length):
    batch = random_batch(checkpoint.config, batch_size=batch_size, length=length)
    outputs = run_litert(path.read_bytes(), batch)
    expected = checkpoint.encoder(batch)
    assert set(outputs) == {"sequence_output", "pooled_output"}
    for name, value in outputs.items():
        assert value.dtype == np.float32
        assert relative_error(value, expected[name]) < 1e-5


def test_signature_and_operators(path):
    interpreter = tf.lite.Interpreter(str(path))
    assert interpreter.get_signature_list() == {
        "serving_default": {
            "inputs": ["padding_mask", "segment_ids", "token_ids"],
            "outputs": ["pooled_output", "sequence_output"],
        }
    }
    operators = {details["op_name"] for details in interpreter._get_ops_details()}
    assert not {name for name in operators if name.startswith("Flex") or name == "CUSTOM"}


def test_exact_gelu_without_pooler_from_mixed_precision(tmp_path):
    checkpoint = tiny_checkpoint(pooler=False, num_layers=1)
    export = LiteRT().write(checkpoint.astype("mixed_bfloat16"), tmp_path / "m")
    assert export.max_difference < 1e-5
    batch = random_batch(checkpoint.config)
    outputs = run_litert(Path(export.path).read_bytes(), batch)
    assert set(outputs) == {"sequence_output"}
    expected = checkpoint.encoder(batch)["sequence_output"]
    assert relative_error(outputs["sequence_output"], expected) < 1e-5
    assert not any(layer.portable for layer in checkpoint.encoder.encoder_layers)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_sentence_vectors_on_builtin_operators(tmp_path, activation):
    kernel = np.random.default_rng(0).normal(0, 0.1, (90, 4)).astype(np.float32)
    pooling = Pooling(
        tuple(POOLING_MODES),
        dense=(DenseLayer(kernel, np.ones(4, np.float32), activation),),
        normalize=True,
        truncate_dim=3,
    )
    checkpoint = tiny_checkpoint(num_layers=1).replace(pooling=pooling)
    export = LiteRT().write(checkpoint, tmp_path / "m")
    for batch_size, length in ((1, 1), (3, 7)):
        batch = random_batch(checkpoint.config, batch_size=batch_size, length=length)
        vectors = run_litert(Path(export.path).read_bytes(), batch)["sentence_embedding"]
        states = checkpoint.encoder(batch)["sequence_output"]
        wanted = np.asarray(pooling(states, batch["padding_mask"]))
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted, axis=1)
        assert (np.sum(vectors * wanted, axis=1) / lengths).min() >= 0.9999


def test_logits_of_a_head_with_a_layer_of_its_own(tmp_path):
    generator = np.random.default_rng(0)
    kernel, hidden = (generator.normal(size=(15, n)).astype(np.float32) for n in (3, 15))
    head = TaskHead(
        CLASSIFIER, kernel, np.ones(3, "f4"), hidden=(hidden, np.ones(15, "f4")), hidden_act="relu"
    )
    checkpoint = tiny_checkpoint(num_layers=1, type_vocab_size=1).replace(task_head=head)
    content = Path(LiteRT().write(checkpoint, tmp_path / "out").path).read_bytes()
    batch = random_batch(checkpoint.config, batch_size=2, length=6)
    states = np.asarray(checkpoint.encoder(batch)["sequence_output"])[:, 0]
    expected = np.maximum(states @ hidden + 1, 0) @ kernel + 1
    np.testing.assert_allclose(run_litert(content, batch)["logits"], expected, atol=1e-4)


@pytest.mark.parametrize(
    "reading", [USUAL, Reading("mean"), Reading("pooled", "twin"), Reading("mean", "twin")]
)
def test_logits_of_what_the_head_reads(tmp_path, reading):
    checkpoint = with_head(reading)
    content = Path(LiteRT().write(checkpoint, tmp_path / "out").path).read_bytes()
    first = random_batch(checkpoint.config, batch_size=2, length=6)
    second = random_batch(checkpoint.config, seed=1, batch_size=2, length=9)
    pair = {f"pair_{name}": value for name, value in second.items() if reading.is_twin}
    outputs = run_litert(content, first | pair)
    wanted = {"logits"} if reading.is_twin else {"logits", "sequence_output"}
    assert wanted <= set(outputs)
    expected = read_logits(checkpoint, first, second)
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-4)


def test_logits_of_every_token(tmp_path):
    checkpoint = with_tags()
    content = Path(LiteRT().write(checkpoint, tmp_path / "out").path).read_bytes()
    batch = random_batch(checkpoint.config, batch_size=2, length=6)
    states = np.asarray(checkpoint.encoder(batch)["sequence_output"])
    head = checkpoint.task_head
    difference = run_litert(content, batch)["logits"] - (states @ head.kernel + head.bias)
    assert np.abs(difference)[batch["padding_mask"] == 1].max() <= 2e-5


def test_quantised_file_is_smaller_and_close(tmp_path):
    checkpoint = tiny_checkpoint(num_layers=1, hidden_size=64, num_heads=2, intermediate_size=256)
    exact = LiteRT().write(checkpoint, tmp_path / "exact")
    small = LiteRT(quantize=True).write(checkpoint, tmp_path / "small")
    assert 1e-4 < small.max_difference < 0.2
    assert small.bytes_on_disk < 0.5 * exact.bytes_on_disk


def test_wrong_numbers_are_not_written(checkpoint, tmp_path, monkeypatch):
    other = litert._convert(tiny_checkpoint(1, hidden_act="gelu_new", num_layers=2), quantize=False)
    monkeypatch.setattr(litert, "_convert", lambda *_, **__: other)
    with pytest.raises(EtdError, match="LiteRT check failed"):
        LiteRT().write(checkpoint, tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "wrong"), [("token_ids", -1), ("segment_ids", -1), ("token_ids", 10**6)]
)
def test_ids_that_the_model_lacks_are_refused(checkpoint, path, name, wrong):
    batch = random_batch(checkpoint.config)
    batch[name][0, 1] = wrong
    with pytest.raises(RuntimeError, match="gather index out of bounds"):
        run_litert(path.read_bytes(), batch)


def test_what_is_there_is_not_replaced(checkpoint, path):
    with pytest.raises(InputError, match="pass overwrite=True"):
        LiteRT().write(checkpoint, path.parent)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
