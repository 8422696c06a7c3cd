"""Whatever a user can choose is one object in one place: adding one takes one file."""

import sys

import pytest

from etd_tf.lazy import LazyModule


def test_heavy_modules_are_loaded_on_first_use():
    module = LazyModule("json.tool")
    assert "json.tool" not in vars(module)
    assert module.main is __import__("json.tool", fromlist=["main"]).main


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
