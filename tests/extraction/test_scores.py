"""Tests of the score file."""

import sys
import zipfile

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.extraction.scores import ARRAYS, UnitScores
from tests.helpers import tiny_config


def _arrays(seed=0):
    generator = np.random.default_rng(seed)
    return {
        "hidden": generator.random(15),
        "ffn": generator.random((3, 22)),
        "query_key": generator.random((3, 3, 5)),
        "value": generator.random((3, 3, 5)),
        "heads": generator.random((3, 3)),
    }


def _scores(**changes):
    settings = {"metric": "taylor", "loss": "mlm", "num_examples": 7, "probes": 2, "seed": 3}
    return UnitScores(**(_arrays() | settings | {"teacher_fingerprint": "b" * 64} | changes))


def test_saving_and_loading_restores_everything(tmp_path):
    scores = _scores()
    scores.save(tmp_path / "scores.npz")
    loaded = UnitScores.load(tmp_path / "scores.npz")
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(scores, name))
    for name in ("metric", "loss", "num_examples", "probes", "seed", "teacher_fingerprint"):
        assert getattr(loaded, name) == getattr(scores, name)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.npz"]


def test_arrays_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        _scores().hidden[0] = 1.0


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"hidden": np.ones(14)}, "do not fit together"),
        ({"ffn": np.ones((2, 22))}, "do not fit together"),
        ({"value": np.ones((3, 15))}, "do not fit together"),
        ({"heads": -np.ones((3, 3))}, "finite and not negative"),
        ({"hidden": np.full(15, np.nan)}, "finite and not negative"),
        ({"hidden": np.full(15, "x")}, "expected numbers"),
    ],
)
def test_invalid_scores_are_refused(changes, fix):
    with pytest.raises(InputError, match=fix):
        _scores(**changes)


def test_scores_know_their_teacher():
    _scores().check_teacher(tiny_config())
    with pytest.raises(InputError, match="Score this teacher again"):
        _scores().check_teacher(tiny_config(num_heads=5))


def _is_equal(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)


def test_every_truncation_is_refused_with_the_file_name(tmp_path):
    _scores().save(tmp_path / "s.npz")
    content = (tmp_path / "s.npz").read_bytes()
    cut = tmp_path / "cut.npz"
    for length in range(0, len(content), 97):
        cut.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"cut\.npz"):
            UnitScores.load(cut)


def _refusal(path):
    try:
        UnitScores.load(path)
    except InputError as error:
        return str(error)
    return ""


def test_a_flipped_byte_is_refused_or_harmless(tmp_path):
    scores = _scores()
    scores.save(tmp_path / "s.npz")
    content = bytearray((tmp_path / "s.npz").read_bytes())
    refused = 0
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / "d.npz").write_bytes(damaged)
        message = _refusal(tmp_path / "d.npz")
        if message:
            refused += 1
            assert "d.npz" in message
        else:
            assert _is_equal(UnitScores.load(tmp_path / "d.npz"), scores)
    assert refused > 200


def _rewritten(path, **changes):
    """A score file with some members replaced; None leaves one out."""
    with np.load(path) as file:
        members = dict(file)
    members |= changes
    np.savez(path, **{name: value for name, value in members.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"ffn": None}, "cannot be read"),
        ({"metadata": None}, "cannot be read"),
        ({"metadata": np.array("[]")}, "not a unit score file"),
        ({"metadata": np.array("{")}, "cannot be read"),
        ({"metadata": np.array('{"format": "etd_tf unit scores 1"}')}, "Metadata has entries"),
        ({"hidden": np.ones(3)}, "do not fit together"),
        ({"hidden": np.array([{}] * 15)}, "cannot be read"),  # would need pickle
        ({"metadata": np.array("9" * 5000)}, "cannot be read"),
        ({"metadata": np.array("[" * 100_000)}, "cannot be read"),
    ],
)
def test_foreign_contents_are_refused(tmp_path, changes, fix):
    path = tmp_path / "scores.npz"
    _scores().save(path)
    _rewritten(path, **changes)
    with pytest.raises(InputError, match=rf"scores\.npz.*{fix}"):
        UnitScores.load(path)


def test_compressed_scores_are_refused(tmp_path):
    path = tmp_path / "scores.npz"
    _scores().save(path)
    with np.load(path) as file:
        np.savez_compressed(path, **(dict(file) | {"hidden": np.zeros(1 << 20)}))
    with pytest.raises(InputError, match=r"scores\.npz cannot be read.*larger inside than outside"):
        UnitScores.load(path)


@pytest.mark.parametrize("claim", [b"(99999999999,)", b"(15, ", b"(-15,)"])
def test_a_header_that_claims_too_much_is_refused(tmp_path, claim):
    path = tmp_path / "scores.npz"
    _scores().save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = members["hidden.npy"]
    header = content[:128].replace(b"(15,)", claim).rstrip(b" \n").ljust(127) + b"\n"
    members["hidden.npy"] = header[:128] + content[128:]
    with zipfile.ZipFile(path, "w") as archive:
        for name, inside in members.items():
            archive.writestr(name, inside)
    with pytest.raises(InputError, match=r"scores\.npz cannot be read"):
        UnitScores.load(path)


def test_wrong_metadata_types_are_refused(tmp_path):
    path = tmp_path / "scores.npz"
    _scores().save(path)
    with np.load(path) as file:
        text = str(file["metadata"])
    _rewritten(path, metadata=np.array(text.replace('"probes": 2', '"probes": "2"')))
    with pytest.raises(InputError, match="probes='2' has the wrong type"):
        UnitScores.load(path)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.npz"):
        UnitScores.load(tmp_path / "none.npz")
    with pytest.raises(InputError, match="cannot be read"):
        UnitScores.load(tmp_path)
    np.save(tmp_path / "array.npy", np.ones(3))
    with pytest.raises(InputError, match=r"array\.npy.*no \.npz file"):
        UnitScores.load(tmp_path / "array.npy")
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        archive.writestr("hidden.npy", b"no array")
    with pytest.raises(InputError, match=r"z\.npz"):
        UnitScores.load(tmp_path / "z.npz")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
