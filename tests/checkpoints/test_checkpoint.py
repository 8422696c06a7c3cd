"""The Checkpoint object itself."""

import sys

import numpy as np
import pytest

from etd_tf.checkpoints.checkpoint import Checkpoint, fingerprint
from etd_tf.errors import InputError
from tests.checkpoints.fixtures import assert_same
from tests.helpers import random_batch, random_parameters, tiny_checkpoint, tiny_config


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("mlm_head", [True, False])
def test_parameters_come_back(pooler: bool, mlm_head: bool) -> None:
    config = tiny_config()
    parameters = random_parameters(config, pooler=pooler, mlm_head=mlm_head)
    checkpoint = Checkpoint.from_parameters(config, parameters, source="here")
    assert_same(checkpoint.parameters(), parameters)
    assert checkpoint.has_pooler == pooler
    assert (checkpoint.mlm_head is not None) == mlm_head
    assert checkpoint.num_parameters() == sum(value.size for value in parameters.values())
    assert checkpoint.source == "here"


def test_parameters_are_copies() -> None:
    checkpoint = tiny_checkpoint()
    before = checkpoint.fingerprint()
    checkpoint.parameters()["embeddings.token"][:] = 0.0
    assert checkpoint.fingerprint() == before


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
        Checkpoint.from_parameters(config, parameters)


def test_tokenizer_must_fit_the_vocabulary() -> None:
    base = tiny_checkpoint()
    config = tiny_config(vocab_size=11)
    with pytest.raises(InputError, match=r"vocab_size is 11\. Use the tokenizer that belongs"):
        Checkpoint.from_parameters(
            config, random_parameters(config), tokenizer=base.tokenizer, source="x"
        )


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
