"""Tests of score_units: what scores may and may not depend on."""

import sys

import numpy as np
import pytest

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction.importance import METRICS, score_units
from etd_tf.extraction.scores import ARRAYS
from tests.helpers import random_batch, relative_error, tiny_checkpoint

_SIZES = {"num_layers": 2, "hidden_size": 6, "num_heads": 2, "intermediate_size": 5}


def _teacher(**changes):
    return tiny_checkpoint(seed=2, mlm_head=True, **(_SIZES | changes))


def _examples(teacher, count=5):
    return random_batch(teacher.config, batch_size=count, length=9)


def _worst(one, other):
    return max(relative_error(getattr(one, name), getattr(other, name)) for name in ARRAYS)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_scores_every_unit(metric):
    teacher = _teacher()
    scores = score_units(teacher, _examples(teacher), metric=metric)
    scores.check_teacher(teacher.config)
    assert (scores.metric, scores.num_examples) == (metric, 0 if metric == "magnitude" else 5)
    assert scores.loss == ("mlm" if metric in ("taylor", "dynabert") else "none")
    assert scores.teacher_fingerprint == teacher.fingerprint()
    assert all(getattr(scores, name).max() > 0 for name in ARRAYS)


@pytest.mark.parametrize(
    ("metric", "loss"), [("taylor", "mlm"), ("taylor", "reconstruction"), ("activation", "auto")]
)
def test_scores_do_not_depend_on_batching_order_or_padding(metric, loss):
    teacher = _teacher()
    examples = _examples(teacher)
    expected = score_units(teacher, examples, metric=metric, loss=loss, probes=2)
    padded = {name: np.pad(value, ((0, 0), (0, 3))) for name, value in examples.items()}
    shuffled = {name: value[::-1] for name, value in examples.items()}
    for changed, batch_size in ((padded, 2), (shuffled, 1)):  # ten steps are run under XLA
        scores = score_units(
            teacher, changed, metric=metric, loss=loss, probes=2, batch_size=batch_size
        )
        assert _worst(scores, expected) < 1e-4


def test_the_seed_determines_the_scores():
    teacher = _teacher()
    for loss in ("mlm", "reconstruction"):
        scores = [score_units(teacher, _examples(teacher), loss=loss, seed=s) for s in (1, 1, 2)]
        assert _worst(scores[1], scores[0]) == 0.0
        assert _worst(scores[2], scores[0]) > 1e-3


@pytest.mark.parametrize("metric", METRICS)
def test_a_teacher_in_low_precision_is_scored_alike(metric):
    teacher = _teacher()
    expected = score_units(teacher, _examples(teacher), metric=metric)
    low = teacher.astype("mixed_bfloat16")
    scores = score_units(low, _examples(teacher), metric=metric)
    assert scores.teacher_fingerprint == expected.teacher_fingerprint
    assert _worst(scores, expected) < 0.1


def test_scoring_leaves_the_teacher_as_it_is():
    teacher = _teacher()
    before = teacher.fingerprint()
    score_units(teacher, _examples(teacher), metric="dynabert")
    assert teacher.fingerprint() == before


@pytest.mark.parametrize("loss", ["mlm", "reconstruction"])
def test_units_that_contribute_nothing_score_zero(loss):
    teacher = _teacher()
    p = {name: value.copy() for name, value in teacher.parameters().items()}
    p["layers.0.output.kernel"][3] = 0.0
    p["layers.1.attention.output.kernel"][[2, 3, 4, 5]] = 0.0  # dim 2 of head 0, all of head 1
    p["layers.0.attention.key.kernel"][:, 4] = 0.0  # dim 1 of head 1
    p["layers.0.attention.key.bias"][4] = 0.0
    teacher = Checkpoint(teacher.config, p, tokenizer=teacher.tokenizer)
    scores = score_units(teacher, _examples(teacher), loss=loss)
    assert scores.ffn[0, 3] == 0.0
    assert scores.value[1, 0, 2] == 0.0
    assert scores.heads[1, 1] == 0.0
    assert not scores.value[1, 1].any()
    assert scores.query_key[0, 1, 1] == 0.0
    assert (np.delete(scores.ffn[0], 3) > 0).all()
    assert (scores.value[1, 0, :2] > 0).all()


def _permuted(teacher, hidden, ffn, dims, heads):
    """The same function with its units in another order."""
    config, p = teacher.config, teacher.parameters()
    size = config.head_size
    columns = (heads[:, None] * size + dims).reshape(-1)
    for index in range(config.num_layers):
        layer = f"layers.{index}"
        for part in ("query", "key", "value"):
            for what in ("kernel", "bias"):
                name = f"{layer}.attention.{part}.{what}"
                p[name] = p[name][..., columns]
        name = f"{layer}.attention.output.kernel"
        p[name] = p[name][columns]
        for what in ("kernel", "bias"):
            p[f"{layer}.intermediate.{what}"] = p[f"{layer}.intermediate.{what}"][..., ffn]
        p[f"{layer}.output.kernel"] = p[f"{layer}.output.kernel"][ffn]
    for name, value in p.items():
        reads = ("query.kernel", "key.kernel", "value.kernel", "intermediate.kernel")
        if name.endswith(reads) or name in ("pooler.kernel", "mlm.dense.kernel"):
            p[name] = p[name][hidden]
        if not any(x in name for x in ("query", "key", "value", "intermediate", "output_bias")):
            p[name] = value[..., hidden] if "pooler" not in name else p[name]
    p["mlm.dense.kernel"] = teacher.parameters()["mlm.dense.kernel"][np.ix_(hidden, hidden)]
    return Checkpoint(config, p, tokenizer=teacher.tokenizer)


def test_scores_permute_along_with_the_units():
    teacher = _teacher()
    generator = np.random.default_rng(9)
    hidden, ffn, dims, heads = (generator.permutation(n) for n in (6, 5, 3, 2))
    permuted = _permuted(teacher, hidden, ffn, dims, heads)
    examples = _examples(teacher)
    states = teacher.encoder(examples)["sequence_output"]
    moved = permuted.encoder(examples)["sequence_output"]
    assert relative_error(moved, np.asarray(states)[..., hidden]) < 1e-4
    before, after = (score_units(model, examples, loss="mlm") for model in (teacher, permuted))
    assert relative_error(after.hidden, before.hidden[hidden]) < 1e-4
    assert relative_error(after.ffn, before.ffn[:, ffn]) < 1e-4
    assert relative_error(after.query_key, before.query_key[:, heads][:, :, dims]) < 1e-4
    assert relative_error(after.value, before.value[:, heads][:, :, dims]) < 1e-4
    assert relative_error(after.heads, before.heads[:, heads]) < 1e-4


@pytest.mark.parametrize(
    ("settings_", "fix"),
    [
        ({"metric": "fisher"}, "Use one of taylor, magnitude, activation, dynabert"),
        ({"batch_size": 0}, "batch_size=0 is not a whole number >= 1"),
        ({"probes": 0}, "probes=0"),
        ({"seed": -1}, "seed=-1"),
        ({"loss": "squared"}, "Use auto, mlm or reconstruction"),
    ],
)
def test_refusals_name_the_fix(settings_, fix):
    teacher = _teacher()
    with pytest.raises(InputError, match=fix):
        score_units(teacher, _examples(teacher), **settings_)


def test_only_magnitude_needs_no_text():
    teacher = _teacher()
    assert score_units(teacher, None, metric="magnitude").num_examples == 0
    with pytest.raises(InputError, match="Examples must be a dictionary"):
        score_units(teacher, None)


def test_masked_lm_score_needs_a_head():
    teacher = tiny_checkpoint(**_SIZES)
    with pytest.raises(InputError, match=r"has none\. Use importance_loss"):
        score_units(teacher, _examples(teacher), loss="mlm")
    assert score_units(teacher, _examples(teacher)).loss == "reconstruction"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
