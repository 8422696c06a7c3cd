"""The folder that keeps what a foreign format cannot express."""

import json
import sys
from pathlib import Path

import pytest

from etd_tf.checkpoints.contents import Contents
from etd_tf.checkpoints.sidecar import apply_sidecar, write_sidecar
from etd_tf.errors import InputError
from etd_tf.tokenization.directories import SIDECAR
from etd_tf.tokenization.tokenizer import Tokenizer
from tests.helpers import random_parameters, tiny_config, tiny_tokenizer


def test_completes_config_pooler_and_tokenizer(tmp_path: Path) -> None:
    exact = tiny_config(layer_norm_epsilon=1e-7, hidden_act="relu", pad_token_id=3)
    without = random_parameters(exact, pooler=False)
    write_sidecar(exact, without, tiny_tokenizer(), tmp_path)
    found = Contents(tiny_config(), random_parameters(exact), Tokenizer.find(tmp_path))
    completed = apply_sidecar(found, tmp_path)
    assert completed.config == exact
    assert list(completed.parameters) == list(without)
    assert completed.tokenizer is not None
    assert completed.tokenizer.fingerprint() == tiny_tokenizer().fingerprint()


def test_nothing_to_complete(tmp_path: Path) -> None:
    found = Contents(tiny_config(), random_parameters(tiny_config()), None)
    assert apply_sidecar(found, tmp_path) is found


def test_another_size_is_refused(tmp_path: Path) -> None:
    write_sidecar(tiny_config(num_layers=4), {}, None, tmp_path)
    found = Contents(tiny_config(), random_parameters(tiny_config()), None)
    with pytest.raises(InputError, match=r"num_layers=4, but the checkpoint has 3\. Remove"):
        apply_sidecar(found, tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"config": {"x": 1}, "pooler": true}', "[", "3"])
def test_malformed_folder_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / SIDECAR).mkdir()
    (tmp_path / SIDECAR / "config.json").write_text(content)
    found = Contents(tiny_config(), random_parameters(tiny_config()), None)
    with pytest.raises(InputError, match=r"config\.json"):
        apply_sidecar(found, tmp_path)


def test_values_are_plain_json(tmp_path: Path) -> None:
    write_sidecar(tiny_config(), random_parameters(tiny_config()), None, tmp_path)
    values = json.loads((tmp_path / SIDECAR / "config.json").read_text())
    assert values["pooler"] is True
    assert values["config"]["hidden_size"] == 15


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
