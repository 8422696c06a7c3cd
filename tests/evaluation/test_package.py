"""The package's public names."""

import sys

import pytest

import etd_tf.evaluation


@pytest.mark.parametrize("name", etd_tf.evaluation.__all__)
def test_every_public_name_exists(name):
    assert callable(getattr(etd_tf.evaluation, name))
    assert callable(getattr(etd_tf.evaluation, name))  # a module of that name would win now


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = etd_tf.evaluation.nothing


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
