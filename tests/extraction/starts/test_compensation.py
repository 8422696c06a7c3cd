"""Tests of extraction with compensation."""

import sys

import numpy as np
import pytest

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction.inputs import ScoringInputs
from etd_tf.extraction.planning import plan_extraction
from etd_tf.extraction.starts.compensation import _HeldOutError, extract_compensated
from etd_tf.extraction.student import extract
from etd_tf.modeling.structure import SITES
from tests.extraction.starts.test_folding import _redundant
from tests.helpers import random_batch, tiny_checkpoint


def _cosine_error(teacher, student, plan, batch):
    ours = np.asarray(student.encoder(batch)["sequence_output"])
    theirs = np.asarray(teacher.encoder(batch)["sequence_output"])[..., plan.hidden]
    cosines = (ours * theirs).sum(-1)
    cosines = cosines / np.linalg.norm(ours, axis=-1) / np.linalg.norm(theirs, axis=-1)
    return 1.0 - cosines[batch["padding_mask"] > 0].mean()


def test_redundant_teacher_is_compensated_on_text_it_was_not_fitted_to():
    _, teacher, plan = _redundant()
    examples = random_batch(teacher.config, batch_size=64, length=12)
    result = extract_compensated(teacher, plan, examples)
    assert result.error < result.plain_error
    assert any(result.ridges.values())
    fresh = random_batch(teacher.config, batch_size=16, length=12, seed=9)
    before = _cosine_error(teacher, extract(teacher, plan), plan, fresh)
    assert _cosine_error(teacher, result.student, plan, fresh) < 0.5 * before


def test_heads_are_rotated_where_that_helps():
    teacher = tiny_checkpoint(seed=2, num_layers=2, hidden_size=24, num_heads=3)
    generator = np.random.default_rng(2)
    low_rank = generator.normal(size=(8, 2)) @ generator.normal(size=(2, 8))
    weights = teacher.parameters()
    for name, value in weights.items():
        if ".query." in name or ".value." in name:  # 2 of 8 dims in every head, along no dim
            weights[name] = (value @ np.kron(np.eye(3), low_rank)).astype(np.float32)
    teacher = Checkpoint(teacher.config, weights)
    plan = plan_extraction(teacher.config, teacher.config.replace(hidden_size=12), seed=0)
    examples = random_batch(teacher.config, batch_size=32, length=12)
    result = extract_compensated(teacher, plan, examples)
    folded = extract_compensated(teacher, plan, examples, rotate=False)
    assert (result.rotated, folded.rotated) == (True, False)
    assert result.error < 0.8 * folded.error
    assert not result.is_plain


def _row_cosine(ours, theirs):
    norms = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    return (ours * theirs).sum(-1) / np.maximum(norms, 1e-30)  # 0 where there is one key


def test_the_error_is_of_states_and_attention_of_the_last_kept_layer():
    teacher = tiny_checkpoint(seed=4, num_layers=3)
    sizes = {"num_layers": 2, "hidden_size": 10, "num_heads": 2, "intermediate_size": 7}
    config = teacher.config.replace(**sizes)
    plan = plan_extraction(
        teacher.config, config, seed=1, head_mode="heads", layer_selection=(1, 2)
    )
    student = extract(teacher, plan)
    examples = random_batch(teacher.config, batch_size=8, length=6)
    examples["padding_mask"][1, 4:] = 0
    inputs = ScoringInputs.from_examples(examples, teacher.config)
    measure = _HeldOutError(teacher, student, plan, inputs, 8)
    found = measure(student.parameters())

    ours, theirs = (checkpoint.encoder.trace(examples) for checkpoint in (student, teacher))
    real = examples["padding_mask"] > 0
    states = np.asarray(theirs.hidden_states[1])[..., plan.hidden]
    total = _row_cosine(np.asarray(ours.hidden_states[1]), states)[real].sum()
    heads = sorted(set(plan.query_key[1] // teacher.config.head_size))
    for example, keys in enumerate(real):
        for number, head in enumerate(heads):
            pair = [
                np.asarray(trace.attention_scores[1])[example, n][np.ix_(keys, keys)]
                for trace, n in ((ours, number), (theirs, head))
            ]
            centred = [scores - scores.mean(-1, keepdims=True) for scores in pair]
            total += _row_cosine(*centred).sum() / len(heads)
    assert found == pytest.approx(1 - total / (2 * real.sum()), rel=1e-4)


def test_student_is_never_worse_than_the_plain_slice():
    for seed in range(2):
        teacher = tiny_checkpoint(seed=seed, mlm_head=True)
        student = teacher.config.replace(hidden_size=9, num_layers=2, intermediate_size=7)
        plan = plan_extraction(teacher.config, student, seed=seed)
        result = extract_compensated(teacher, plan, random_batch(teacher.config, batch_size=8))
        assert result.error <= result.plain_error
        assert set(result.ridges) == set(SITES)
        if result.is_plain:
            plain = extract(teacher, plan)
            assert result.student.fingerprint() == plain.fingerprint()


def test_reported_error_is_that_of_the_returned_student():
    _, teacher, plan = _redundant(seed=3)
    examples = random_batch(teacher.config, batch_size=9, length=12)
    before = teacher.fingerprint()
    result = extract_compensated(teacher, plan, examples, held_out_share=0.99)
    again = extract_compensated(teacher, plan, examples, held_out_share=0.99)
    assert result.student.fingerprint() == again.student.fingerprint()
    assert teacher.fingerprint() == before
    assert result.student.config == plan.student_config


def test_refusals_name_the_fix():
    teacher = tiny_checkpoint()
    plan = plan_extraction(teacher.config, teacher.config.replace(num_layers=1), seed=0)
    with pytest.raises(InputError, match="at least 8 examples, received 4"):
        extract_compensated(teacher, plan, random_batch(teacher.config))
    examples = random_batch(teacher.config, batch_size=8)
    with pytest.raises(InputError, match="held_out_share=1"):
        extract_compensated(teacher, plan, examples, held_out_share=1.0)
    padding = {**examples, "padding_mask": np.eye(1, 8, dtype="i4").T * examples["padding_mask"]}
    with pytest.raises(InputError, match="Nearly all of the 8 examples are nothing but padding"):
        extract_compensated(teacher, plan, padding)
    with pytest.raises(InputError, match="Make a plan for this teacher"):
        extract_compensated(tiny_checkpoint(intermediate_size=21), plan, examples)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
