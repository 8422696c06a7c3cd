"""Tests of the plan itself: validation and JSON."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings

from etd_tf.errors import InputError
from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.extraction.planning import plan_extraction
from tests.extraction.strategies import random_plans
from tests.helpers import tiny_config


def _plan(**changes):
    teacher = tiny_config()
    student = teacher.replace(num_layers=2, hidden_size=9, intermediate_size=4)
    return dataclasses.replace(plan_extraction(teacher, student, seed=3), **changes)


@settings(max_examples=40)
@given(random_plans())
def test_json_restores_the_plan_exactly(plan):
    restored = ExtractionPlan.from_json(plan.to_json())
    assert restored == plan
    assert restored.attention_scale == plan.attention_scale
    assert restored.query_key[0].dtype == np.int64


def test_saved_plan_is_readable_json_that_counts_layers_from_one(tmp_path):
    plan = _plan()
    plan.save(tmp_path / "plan.json")
    values = json.loads((tmp_path / "plan.json").read_text())
    assert [layer["teacher_layer"] for layer in values["layers"]] == [2, 3]
    assert values["hidden"] == plan.hidden.tolist()
    assert values["layers"][1]["ffn"] == plan.ffn[1].tolist()
    assert ExtractionPlan.load(tmp_path / "plan.json") == plan


def test_index_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        _plan().hidden[0] = 3


def test_selection_matrix_picks_the_kept_channels():
    plan = _plan()
    matrix = plan.selection_matrix()
    teacher_states = np.random.default_rng(0).normal(size=(5, 15)).astype(np.float32)
    student_states = teacher_states[:, plan.hidden]
    np.testing.assert_array_equal(matrix, np.eye(15)[plan.hidden])
    projected = student_states @ matrix
    np.testing.assert_array_equal(projected[:, plan.hidden], student_states)
    dropped = np.setdiff1d(np.arange(15), plan.hidden)
    np.testing.assert_array_equal(projected[:, dropped], 0.0)


def _swapped(array):
    array = np.array(array)
    array[[0, 1]] = array[[1, 0]]
    return array


@pytest.mark.parametrize(
    ("field", "change", "fix"),
    [
        ("hidden", lambda plan: plan.hidden[:-1], "the student needs 9"),
        ("hidden", lambda plan: _swapped(plan.hidden), "strictly increasing numbers from 0 to 14"),
        ("hidden", lambda plan: plan.hidden + 15, "numbers from 0 to 14"),
        ("hidden", lambda plan: plan.hidden + 0.0, "not a list of whole numbers"),
        ("hidden", lambda plan: np.arange(15) < 9, "not a list of whole numbers"),
        ("layers", lambda plan: (0, 3), "numbers from 1 to 3"),
        ("layers", lambda plan: (3, 3), "strictly increasing"),
        ("ffn", lambda plan: plan.ffn[:1], "one for each of the student's 2 layers"),
        ("ffn", lambda plan: (plan.ffn[0], plan.ffn[1] + 22), "of student layer 2"),
        ("value", lambda plan: (np.arange(9), plan.value[1]), "3 dims of each of 3 teacher heads"),
        ("attention_scale", lambda plan: 1.5, r"in \(0, 1\]"),
        ("head_mode", lambda plan: "dims", "not one of neurons, heads, both"),
        ("extraction", lambda plan: "best", "not one of impt, rand"),
        ("seed", lambda plan: -1, "whole number >= 0"),
        ("teacher_fingerprint", lambda plan: "abc", "not a SHA-256"),
    ],
)
def test_invalid_plans_are_refused(field, change, fix):
    plan = _plan()
    with pytest.raises(InputError, match=fix):
        dataclasses.replace(plan, **{field: change(plan)})


def test_query_key_and_value_must_keep_the_same_heads():
    teacher = tiny_config()
    student = teacher.replace(hidden_size=10, num_heads=2, num_layers=1)
    plan = plan_extraction(teacher, student, seed=0, head_mode="heads", layer_selection="top")
    other = np.setdiff1d(np.arange(15), plan.query_key[0][:5])
    with pytest.raises(InputError, match="keep different heads"):
        dataclasses.replace(plan, value=(other,))


def _edited(edit):
    values = json.loads(_plan().to_json())
    edit(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    ("edit", "fix"),
    [
        (lambda v: v.pop("hidden"), "lacks hidden"),
        (lambda v: v.update(note="x"), "unknown entries note"),
        (lambda v: v.update(format="other"), "no extraction plan"),
        (lambda v: v.update(layers={}), "layers are not a list"),
        (lambda v: v["layers"][0].pop("ffn"), "lacks ffn"),
        (lambda v: v.update(layers=[1, 2]), "not a JSON object"),
        (lambda v: v["layers"][0].update(teacher_layer="2"), "whole numbers"),
        (lambda v: v["layers"][0].update(ffn=[[1], [2, 3]]), "whole numbers"),
        (lambda v: v["layers"][0].update(ffn=None), "whole numbers"),
        (lambda v: v.update(hidden=[]), "the student needs 9|whole numbers"),
        (lambda v: v["teacher"].update(hidden_size=16), "multiple of num_heads"),
        (lambda v: v["student"].update(hidden_size=None), "positive integer"),
        (lambda v: v["student"].pop("num_layers"), "lacks num_layers"),
        (lambda v: v.update(attention_scale="1"), "attention_scale"),
        (lambda v: v.update(seed=True), "seed"),
        (lambda v: v.update(head_mode=["neurons"]), "head_mode"),
    ],
)
def test_broken_json_is_refused(edit, fix):
    with pytest.raises(InputError, match=fix):
        ExtractionPlan.from_json(_edited(edit))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '{"format": 1}'])
def test_other_text_is_refused(text):
    with pytest.raises(InputError, match="plan"):
        ExtractionPlan.from_json(text)


def test_loading_names_the_file(tmp_path):
    path = tmp_path / "p.json"
    with pytest.raises(InputError, match=r"p\.json"):
        ExtractionPlan.load(path)
    path.write_text(_edited(lambda v: v.pop("seed")))
    with pytest.raises(InputError, match=r"p\.json.*lacks seed"):
        ExtractionPlan.load(path)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
