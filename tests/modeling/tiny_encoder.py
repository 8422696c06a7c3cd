"""Encoders with random weights, for tests."""

import numpy as np

from etd_tf.modeling import (
    BertEncoder,
    EncoderGates,
    get_parameters,
    set_parameters,
)
from tests.helpers import random_parameters, tiny_config


def build(seed=0, *, pooler=True, dtype=None, **changes):
    config = tiny_config(**changes)
    encoder = BertEncoder(config, pooler=pooler, dtype=dtype)
    set_parameters(random_parameters(config, seed, pooler=pooler), encoder)
    return encoder


def unit_gates(config, batch_size=4):
    def ones(count, *shape):
        return tuple(np.ones((batch_size, *shape), np.float32) for _ in range(count))

    layers, heads = config.num_layers, (config.num_heads, config.head_size)
    return EncoderGates(
        hidden=ones(layers + 1, config.hidden_size),
        intermediate=ones(layers, config.intermediate_size),
        query_key=ones(layers, *heads),
        value=ones(layers, *heads),
    )


def edited(encoder, edit):
    """A copy of an encoder after `edit(parameters)` changed its weights in place."""
    parameters = get_parameters(encoder)
    edit(parameters)
    copy = BertEncoder(encoder.config)
    set_parameters(parameters, copy)
    return copy
