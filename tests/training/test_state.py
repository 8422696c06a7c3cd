"""Tests of the checkpoints of a running distillation."""

import json
import sys

import keras
import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.storage.atomic import sha256
from etd_tf.training.state import StateStore

IDENTITY = {"steps": 9, "teacher": "abc", "loss": ["minilm", {"x": (1, 2)}]}


def _variables(value=0.0):
    return {
        "student/a": keras.Variable(np.full((2, 3), value, np.float32)),
        "optimizer/0": keras.Variable(np.asarray(int(value)), dtype="int64"),
    }


def _store(tmp_path, **changes):
    return StateStore(tmp_path / "checkpoints", **{"identity": IDENTITY, "keep": 2, **changes})


def _values(variables):
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}


def _flip_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40
    path.write_bytes(content)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    store, variables = _store(tmp_path), _variables()
    variables["student/a"].assign(np.float32([[1e-39, -0.0, 3], [np.pi, 5, 1e38]]))
    variables["optimizer/0"].assign(2**40)
    folder = store.save(7, variables, seconds=1.5)
    assert folder.name == "step-00000007"
    fresh = _variables()
    assert _store(tmp_path).restore(fresh) == (7, 1.5)
    for name, value in _values(variables).items():
        assert keras.ops.convert_to_numpy(fresh[name]).tobytes() == value.tobytes()


def test_no_checkpoint_means_the_start(tmp_path):
    variables = _variables(3.0)
    assert _store(tmp_path).restore(variables) == (0, 0.0)
    assert float(variables["student/a"][0, 0]) == 3.0


def test_only_the_newest_stay(tmp_path):
    store = _store(tmp_path)
    for step in (2, 4, 6, 8):
        store.save(step, _variables(step))
    assert store.steps() == [6, 8]
    assert [path.name for path in sorted(store.directory.iterdir())] == [
        "step-00000006",
        "step-00000008",
    ]
    store.save(7, _variables(7))  # a run that went back behind a damaged step 8
    assert store.steps() == [6, 7]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: _flip_byte(folder / "state.safetensors"), "recorded SHA-256"),
        (lambda folder: (folder / "state.safetensors").unlink(), "No such file"),
        (lambda folder: (folder / "state.json").unlink(), "state.json"),
        (lambda folder: (folder / "state.json").write_text('{"step": 4, '), "state.json"),
    ],
    ids=["flipped", "no_tensors", "no_manifest", "cut_manifest"],
)
def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path, caplog, damage, reason):
    store = _store(tmp_path)
    store.save(2, _variables(2))
    damage(store.save(4, _variables(4)))
    variables = _variables()
    assert store.restore(variables)[0] == 2
    assert float(variables["student/a"][0, 0]) == 2.0
    assert "step-00000004 is damaged" in caplog.text
    assert reason in caplog.text


def test_a_forged_checkpoint_is_refused_by_name(tmp_path):
    store = _store(tmp_path)
    folder = store.save(4, _variables(4))
    (folder / "state.safetensors").write_bytes(b"\xff" * 100)
    manifest = json.loads((folder / "state.json").read_text())
    manifest["sha256"] = sha256(folder / "state.safetensors")
    (folder / "state.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"step-00000004/state\.safetensors is no file of tensors"):
        store.restore(_variables())


@pytest.mark.parametrize("seconds", ["x", -1.0, None, 10**400])
def test_damaged_seconds_count_as_none(tmp_path, seconds):
    folder = _store(tmp_path).save(4, _variables(4))
    manifest = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(manifest | {"seconds": seconds}))
    assert _store(tmp_path).restore(_variables()) == (4, 0.0)


def test_all_damaged_is_refused(tmp_path):
    store = _store(tmp_path)
    for step in (2, 4):
        _flip_byte(store.save(step, _variables()) / "state.safetensors")
    with pytest.raises(InputError, match=r"Every checkpoint in .* Remove that folder"):
        store.restore(_variables())


def test_another_run_is_refused_with_the_difference(tmp_path):
    _store(tmp_path).save(2, _variables())
    other = {**IDENTITY, "teacher": "def", "dropout": 0.1}
    with pytest.raises(
        InputError, match=r"dropout was None and is now 0\.1; teacher was 'abc' and"
    ):
        _store(tmp_path, identity=other).restore(_variables())


def test_other_shapes_are_refused_with_their_names(tmp_path):
    _store(tmp_path).save(2, _variables())
    variables = {**_variables(), "student/a": keras.Variable(np.zeros((3, 2), np.float32))}
    with pytest.raises(InputError, match=r"differing tensors: student/a\. Use another"):
        _store(tmp_path).restore(variables)


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    store = _store(tmp_path)
    store.save(2, _variables(2))

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        store.save(4, _variables(4))
    assert [path.name for path in store.directory.iterdir()] == ["step-00000002"]
    assert store.restore(_variables())[0] == 2


def test_the_manifest_is_readable(tmp_path):
    folder = _store(tmp_path).save(2, _variables(), seconds=0.5)
    manifest = json.loads((folder / "state.json").read_text())
    assert manifest["step"] == 2
    assert (folder / "state.safetensors").stat().st_mode & 0o777 == 0o644
    assert manifest["identity"]["loss"] == ["minilm", {"x": [1, 2]}]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
