"""Tests of reading and writing weights by canonical name."""

import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.modeling import (
    BertEncoder,
    MaskedLMHead,
    get_parameters,
    parameter_shapes,
    parameter_variables,
    set_parameters,
)
from etd_tf.modeling.structure import check_parameters
from tests.helpers import random_parameters, tiny_config


@pytest.mark.parametrize("pooler", [False, True])
@pytest.mark.parametrize("mlm_head", [False, True])
def test_shapes_and_variables_agree(pooler, mlm_head):
    config = tiny_config(type_vocab_size=1)
    encoder = BertEncoder(config, pooler=pooler)
    variables = parameter_variables(encoder, MaskedLMHead(config) if mlm_head else None)
    shapes = parameter_shapes(config, pooler=pooler, mlm_head=mlm_head)
    assert list(variables) == list(shapes)
    assert {name: tuple(v.shape) for name, v in variables.items()} == shapes
    total = config.num_parameters(pooler=pooler, mlm_head=mlm_head)
    assert total == sum(int(np.prod(shape)) for shape in shapes.values())


def test_every_weight_has_exactly_one_name():
    encoder, head = BertEncoder(tiny_config()), MaskedLMHead(tiny_config())
    named = {id(v) for v in parameter_variables(encoder, head).values()}
    owned = {id(v) for v in (*encoder.trainable_variables, *head.trainable_variables)}
    assert named == owned
    assert len(parameter_variables(encoder, head)) == len(owned)


@pytest.mark.parametrize("mlm_head", [False, True])
def test_what_is_set_comes_back(mlm_head):
    config = tiny_config()
    encoder, head = BertEncoder(config), MaskedLMHead(config) if mlm_head else None
    parameters = random_parameters(config, 4, mlm_head=mlm_head)
    set_parameters(parameters, encoder, head)
    actual = get_parameters(encoder, head)
    assert list(actual) == list(parameters)
    for name, value in parameters.items():
        assert actual[name].dtype == np.float32
        np.testing.assert_array_equal(actual[name], value)


def test_arrays_are_copies():
    encoder = BertEncoder(tiny_config())
    before = get_parameters(encoder)
    get_parameters(encoder)["pooler.kernel"][:] = 7.0
    np.testing.assert_array_equal(get_parameters(encoder)["pooler.kernel"], before["pooler.kernel"])


def test_low_precision_weights_come_back_as_float32():
    encoder = BertEncoder(tiny_config(), dtype="bfloat16")
    value = get_parameters(encoder)["embeddings.token"]
    assert value.dtype == np.float32
    assert np.abs(value).max() > 0.0


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda p: p.pop("pooler.bias"), r"pooler\.bias is missing"),
        (lambda p: p.update(extra=np.zeros(2)), "extra has no place in the model"),
        (
            lambda p: p.update({"layers.0.output.kernel": np.zeros((15, 22))}),
            r"layers\.0\.output\.kernel has shape \(15, 22\), expected \(22, 15\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(edit, message):
    config = tiny_config()
    encoder = BertEncoder(config)
    before = get_parameters(encoder)
    parameters = random_parameters(config)
    edit(parameters)
    with pytest.raises(InputError, match=message):
        set_parameters(parameters, encoder)
    for name, value in get_parameters(encoder).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_long_list_of_problems_is_cut():
    with pytest.raises(InputError, match=r"is missing; \.\.\.\.$") as caught:
        check_parameters({}, parameter_shapes(tiny_config()))
    assert str(caught.value).count("is missing") == 5


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
