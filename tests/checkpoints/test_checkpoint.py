"""The Checkpoint object itself."""

import random
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from etd_tf.checkpoints import checkpoint as checkpoint_module
from etd_tf.checkpoints.checkpoint import Checkpoint, fingerprint
from etd_tf.errors import InputError
from etd_tf.modeling.encoder import BertEncoder
from etd_tf.modeling.heads import MaskedLMHead
from tests.checkpoints.fixtures import assert_same
from tests.helpers import (
    count_builds,
    random_batch,
    random_parameters,
    tiny_checkpoint,
    tiny_config,
    tiny_tokenizer,
)


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("mlm_head", [True, False])
def test_parameters_come_back(pooler: bool, mlm_head: bool) -> None:
    config = tiny_config()
    parameters = random_parameters(config, pooler=pooler, mlm_head=mlm_head)
    checkpoint = Checkpoint(config, parameters, source="here")
    assert_same(checkpoint.parameters(), parameters)
    assert checkpoint.has_pooler == pooler
    assert (checkpoint.mlm_head is not None) == mlm_head
    assert checkpoint.num_parameters() == sum(value.size for value in parameters.values())
    assert checkpoint.source == "here"


def test_what_parameters_gives_cannot_change_the_checkpoint() -> None:
    checkpoint = tiny_checkpoint()
    before = checkpoint.fingerprint()
    for _ in range(2):
        parameters = checkpoint.parameters()
        with pytest.raises(ValueError, match="read-only"):
            parameters["embeddings.token"][:] = 0.0
        del parameters["embeddings.token"]
        checkpoint.build()
    assert checkpoint.fingerprint() == before


def test_models_are_built_on_first_use_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = count_builds(monkeypatch)
    checkpoint = tiny_checkpoint(mlm_head=True)
    assert checkpoint.has_mlm_head
    checkpoint.parameters()
    checkpoint.fingerprint()
    assert counted == []
    assert checkpoint.encoder is checkpoint.encoder
    assert checkpoint.mlm_head is checkpoint.mlm_head
    assert len(counted) == 1


def test_models_can_be_built_inside_a_compiled_function() -> None:
    checkpoint = tiny_checkpoint()
    batch = random_batch(checkpoint.config)
    compiled = tf.function(lambda inputs: checkpoint.encoder(inputs)["sequence_output"])
    found = np.asarray(compiled(batch))
    expected = np.asarray(tiny_checkpoint().encoder(batch)["sequence_output"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert_same(checkpoint.parameters(), tiny_checkpoint().parameters())


def test_building_draws_no_random_numbers() -> None:
    keras.utils.set_random_seed(3)
    expected = random.random(), np.random.rand(), float(keras.random.normal(()))
    keras.utils.set_random_seed(3)
    tiny_checkpoint().build()
    assert (random.random(), np.random.rand(), float(keras.random.normal(()))) == expected


def test_training_shows_in_parameters_and_fingerprint() -> None:
    checkpoint = tiny_checkpoint(mlm_head=True)
    before, old = checkpoint.fingerprint(), checkpoint.parameters()
    checkpoint.encoder.encoder_layers[1].intermediate.kernel.assign_add(
        keras.ops.ones((15, 22), "float32")
    )
    new = checkpoint.parameters()
    name = "layers.1.intermediate.kernel"
    np.testing.assert_array_equal(new.pop(name), old.pop(name) + 1.0)
    assert_same(new, old)
    assert checkpoint.fingerprint() != before
    assert checkpoint.replace(source="copy").fingerprint() == checkpoint.fingerprint()


def test_a_checkpoint_of_keras_models_keeps_them() -> None:
    config = tiny_config()
    encoder, head = BertEncoder(config, dtype="mixed_bfloat16"), MaskedLMHead(config)
    checkpoint = Checkpoint.from_encoder(
        encoder, head, tokenizer=tiny_tokenizer(), source="trained"
    )
    assert checkpoint.encoder is encoder
    assert checkpoint.mlm_head is head
    assert checkpoint.astype("float32").encoder.compute_dtype == "float32"
    encoder.embeddings.token.assign(encoder.embeddings.token + 1.0)
    np.testing.assert_array_equal(
        checkpoint.parameters()["embeddings.token"], np.asarray(encoder.embeddings.token)
    )
    wrong: Any = encoder
    with pytest.raises(InputError, match=r"received BertEncoder.*Checkpoint\.from_encoder"):
        Checkpoint(wrong, {})


def test_fingerprints_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    monkeypatch.setattr(checkpoint_module, "fingerprint", lambda *_: counted.append(1) or "digest")
    checkpoint = tiny_checkpoint()
    half = checkpoint.replace(source="other")
    assert checkpoint.fingerprint() == checkpoint.fingerprint() == "digest"
    checkpoint.build()
    checkpoint.fingerprint()
    checkpoint.astype("mixed_bfloat16").fingerprint()
    assert len(counted) == 1
    half.replace(config=tiny_config(hidden_act="relu")).fingerprint()
    assert len(counted) == 2


def test_fingerprint_depends_on_every_weight_and_on_the_config() -> None:
    config = tiny_config()
    parameters = random_parameters(config)
    prints = {fingerprint(config, parameters)}
    for name in parameters:
        changed = dict(parameters)
        changed[name] = np.nextafter(parameters[name], np.float32(9))
        prints.add(fingerprint(config, changed))
    prints.add(fingerprint(config.replace(hidden_act="relu"), parameters))
    assert len(prints) == len(parameters) + 2
    assert fingerprint(config, dict(reversed(parameters.items()))) in prints
    assert tiny_checkpoint(1).fingerprint() != tiny_checkpoint(0).fingerprint()


def test_astype_changes_the_policy_and_keeps_the_weights() -> None:
    checkpoint = tiny_checkpoint(mlm_head=True)
    half = checkpoint.astype("mixed_bfloat16")
    assert half.encoder.compute_dtype == "bfloat16"
    assert half.fingerprint() == checkpoint.fingerprint()
    batch = random_batch(checkpoint.config)
    a = np.asarray(checkpoint.encoder(batch)["pooled_output"])
    b = np.asarray(half.encoder(batch)["pooled_output"]).astype(np.float32)
    assert 0 < np.abs(a - b).max() < 0.1


def test_missing_and_wrong_weights() -> None:
    config = tiny_config()
    parameters = random_parameters(config)
    del parameters["layers.1.output.bias"]
    with pytest.raises(InputError, match=r"layers\.1\.output\.bias is missing"):
        Checkpoint(config, parameters)


def test_tokenizer_must_fit_the_vocabulary() -> None:
    base = tiny_checkpoint()
    config = tiny_config(vocab_size=11)
    with pytest.raises(InputError, match=r"vocab_size is 11\. Use the tokenizer that belongs"):
        Checkpoint(config, random_parameters(config), tokenizer=base.tokenizer, source="x")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
