"""A few damaged files for every reader of untrusted files; `python -m tests.fuzz` reads many.

What that found is a regression test beside the tests of each reader.
"""

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.checkpoints.families import find_family, read_config
from etd_tf.errors import EtdError, InputError
from etd_tf.extraction import ExtractionPlan
from etd_tf.modeling.config import BertConfig
from etd_tf.tasks.squad_data import read_squad
from tests.fuzz.__main__ import fast_folder, targets
from tests.fuzz.harness import Target, run_target
from tests.fuzz.mutation import damage

INPUTS = 25  # a reader, or its extremes where those are more
# Readers that take a second or more an input; the command includes them.
SLOW = {"KerasHub preset"}
TARGETS = [target for target in targets() if target.name not in SLOW]


@pytest.fixture
def folder(tmp_path_factory, monkeypatch):
    """A working directory on a fast disk, where a pickle that runs would leave its mark."""
    path = tmp_path_factory.mktemp("fuzz")
    monkeypatch.chdir(path)
    return path


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_damaged_files_are_refused_or_harmless(target: Target, folder: Path) -> None:
    if "pytorch" in target.name:
        pytest.importorskip("torch")
    outcome = run_target(target, folder, inputs=INPUTS, seed=0)
    assert not outcome.defects, "\n".join(outcome.examples)
    assert outcome.refused > 0
    assert outcome.refused + outcome.accepted == outcome.inputs >= INPUTS


def _read(folder: Path) -> None:
    content = (folder / "a").read_bytes()
    if content == b"crash":
        raise KeyError("crash")
    if content == b"memory":
        _ = bytearray(300 << 20)
    if content == b"much":
        try:
            _ = bytearray(1 << 45)
        except MemoryError as error:
            raise InputError("damaged") from error
    if content == b"escape":
        (folder / ".." / "a").read_bytes()
    if content == b"refuse":
        raise InputError("damaged")


def _extremes() -> list[tuple[str, bytes]]:
    return [("a", name) for name in (b"crash", b"memory", b"much", b"escape", b"refuse")]


def _prepare(folder: Path) -> dict[str, object]:
    (folder / "a").write_bytes(b"valid")
    return {"a": damage}


def test_the_harness_notices_defects(folder: Path) -> None:
    outcome = run_target(Target("broken", _prepare, _read, _extremes), folder, inputs=5, seed=0)
    assert (outcome.inputs, outcome.refused) == (5, 2)
    kinds = {kind.partition(" at ")[0] for kind in outcome.defects}
    expected = {"KeyError", "MemoryError behind an EtdError", "opened outside"}
    assert kinds >= expected
    if os.access("/proc/self/clear_refs", os.W_OK):
        assert kinds == expected | {"memory"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
BERT = BertConfig(30, 2, 12, 3, 20)


@settings(max_examples=60)
@given(st.sampled_from([*BERT.to_huggingface(), "is_decoder", "n_layers", "dim"]), JSON)
def test_any_value_in_a_configuration(name, value):
    values = BERT.to_huggingface() | {name: value}
    try:
        config = read_config(values, find_family(values, "config.json"))
    except InputError:
        return
    assert isinstance(config, BertConfig)


@settings(max_examples=60)
@given(JSON)
def test_any_json_as_a_plan_and_as_squad(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    for read in (ExtractionPlan.load, lambda file: read_squad(file, "v2.0")):
        with pytest.raises(EtdError, match=r"a\.json"):
            read(path)


def test_the_fast_folder_can_be_written() -> None:
    chosen = fast_folder()
    assert chosen is None or os.access(chosen, os.W_OK)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
