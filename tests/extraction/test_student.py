"""Tests of extraction and initialisation on checkpoints."""

import dataclasses
import sys
import time

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.extraction.planning import plan_extraction
from etd_tf.extraction.scores import UnitScores
from etd_tf.extraction.slicing import slice_parameters
from etd_tf.extraction.student import extract, initial_student
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.parameters import parameter_variables
from etd_tf.modeling.structure import parameter_shapes
from tests.extraction.numpy_bert import states
from tests.extraction.strategies import identity_plan, random_plans
from tests.helpers import random_batch, random_parameters, relative_error, tiny_checkpoint

_STUDENT = {"num_layers": 2, "hidden_size": 9, "intermediate_size": 4}


def _plan(teacher, **settings_):
    student = teacher.config.replace(**_STUDENT)
    return plan_extraction(teacher.config, student, **({"seed": 7} | settings_))


def _same_weights(one, other):
    ours, theirs = one.parameters(), other.parameters()
    return ours.keys() == theirs.keys() and all(
        np.array_equal(ours[name], theirs[name]) for name in ours
    )


@settings(max_examples=10)
@given(random_plans(), st.booleans())
def test_student_computes_what_the_sliced_weights_say(plan, mlm_head):
    config = plan.teacher_config
    parameters = random_parameters(config, seed=1, mlm_head=mlm_head)
    student = extract(Checkpoint(config, parameters), plan)
    assert student.config == plan.student_config
    assert student.config.hidden_size == student.config.num_heads * student.config.head_size
    batch = random_batch(config)
    expected = states(slice_parameters(parameters, plan), student.config, batch)[-1]
    assert relative_error(student.encoder(batch)["sequence_output"], expected) < 1e-3


def test_identity_extraction_is_exact_to_the_last_bit():
    teacher = tiny_checkpoint(mlm_head=True)
    student = extract(teacher, identity_plan(teacher.config))
    assert _same_weights(student, teacher)
    batch = random_batch(teacher.config)
    for name, value in teacher.encoder(batch).items():
        np.testing.assert_array_equal(student.encoder(batch)[name], value)


def test_saved_plan_and_teacher_reproduce_the_student(tmp_path):
    teacher = tiny_checkpoint()
    plan = _plan(teacher)
    plan.save(tmp_path / "plan.json")
    student = extract(teacher, plan)
    assert _same_weights(student, extract(teacher, ExtractionPlan.load(tmp_path / "plan.json")))
    assert not _same_weights(student, extract(teacher, _plan(teacher, seed=8)))


def test_teacher_is_neither_changed_nor_shared():
    teacher = tiny_checkpoint(mlm_head=True)
    before = teacher.fingerprint()
    student = extract(teacher, identity_plan(teacher.config))
    ours = parameter_variables(student.encoder, student.mlm_head).values()
    theirs = parameter_variables(teacher.encoder, teacher.mlm_head).values()
    assert not {id(v) for v in ours} & {id(v) for v in theirs}
    for variable in ours:
        variable.assign(variable + 1.0)
    assert teacher.fingerprint() == before


@pytest.mark.parametrize(("pooler", "mlm_head"), [(True, False), (False, True)])
def test_student_has_its_teachers_parts(pooler, mlm_head):
    teacher = tiny_checkpoint(pooler=pooler, mlm_head=mlm_head)
    for student in (
        extract(teacher, _plan(teacher)),
        initial_student(teacher, teacher.config.replace(**_STUDENT), seed=0),
    ):
        assert student.has_pooler == pooler
        assert (student.mlm_head is not None) == mlm_head
        assert student.tokenizer is teacher.tokenizer
        assert student.num_parameters() < teacher.num_parameters()
    assert "extracted (rand)" in extract(teacher, _plan(teacher)).source


def test_precision_policy_is_kept():
    teacher = tiny_checkpoint().astype("mixed_bfloat16")
    student = extract(teacher, _plan(teacher))
    assert student.encoder.dtype_policy.name == "mixed_bfloat16"
    assert _same_weights(student, extract(tiny_checkpoint(), _plan(teacher)))


def _scores(teacher):
    config = teacher.config
    layers, heads, size = config.num_layers, config.num_heads, config.head_size
    dims = np.ones((layers, heads, size))
    return UnitScores(
        np.ones(config.hidden_size),
        np.ones((layers, config.intermediate_size)),
        dims,
        dims,
        dims[..., 0],
        metric="magnitude",
        teacher_fingerprint=teacher.fingerprint(),
    )


def test_plan_of_another_teacher_is_refused():
    teacher, other = tiny_checkpoint(seed=0), tiny_checkpoint(seed=1)
    plan = _plan(teacher, seed=None, scores=_scores(teacher))
    extract(teacher, plan)
    with pytest.raises(InputError, match="Score this teacher again"):
        extract(other, plan)
    with pytest.raises(InputError, match="Make a plan for this teacher"):
        extract(tiny_checkpoint(intermediate_size=21), _plan(teacher))


def test_dropout_rates_do_not_matter_to_a_plan():
    teacher = tiny_checkpoint(hidden_dropout=0.3)
    plan = dataclasses.replace(
        _plan(teacher), teacher_config=teacher.config.replace(hidden_dropout=0.0)
    )
    assert extract(teacher, plan).config.hidden_dropout == 0.3


def test_initial_student_is_a_truncated_normal_determined_by_its_seed():
    teacher = tiny_checkpoint(mlm_head=True, vocab_size=500)
    config = teacher.config.replace(hidden_size=30, num_heads=3)
    student = initial_student(teacher, config, seed=3)
    parameters = student.parameters()
    assert _same_weights(student, initial_student(teacher, config, seed=3))
    assert not _same_weights(student, initial_student(teacher, config, seed=4))
    shapes = parameter_shapes(config, pooler=True, mlm_head=True)
    assert {name: value.shape for name, value in parameters.items()} == shapes
    table = parameters["embeddings.token"]
    assert np.abs(table).max() <= 0.04
    assert abs(table.mean()) < 1e-3
    assert table.std() == pytest.approx(0.02 * 0.8796, rel=0.02)  # deviation once truncated
    assert (parameters["layers.0.output_layer_norm.gamma"] == 1).all()
    assert not parameters["layers.0.output.bias"].any()
    assert not parameters["mlm.output_bias"].any()


def test_initial_student_refuses_another_vocabulary_and_a_negative_seed():
    teacher = tiny_checkpoint()
    with pytest.raises(InputError, match=f"use vocab_size={teacher.config.vocab_size}"):
        initial_student(teacher, teacher.config.replace(vocab_size=500), seed=0)
    with pytest.raises(InputError, match="whole number >= 0"):
        initial_student(teacher, teacher.config, seed=-1)


def test_extraction_from_a_large_teacher_takes_seconds():
    config = BertConfig(30522, 12, 768, 12, 3072)
    zeros = {n: np.zeros(s, np.float32) for n, s in parameter_shapes(config).items()}
    teacher = Checkpoint(config, zeros)
    student = config.replace(num_layers=4, hidden_size=312, intermediate_size=1200)
    plan = plan_extraction(config, student, seed=0)
    started = time.process_time()
    assert extract(teacher, plan).num_parameters() == 14_350_248
    assert time.process_time() - started < 10.0  # about one second on two idle cores
    keras.backend.clear_session()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
