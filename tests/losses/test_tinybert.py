"""Tests of TinyBERT's losses."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.losses import (
    Features,
    ModelSpec,
    TinyBERT,
    attention_score_loss,
    hidden_state_loss,
)
from tests.helpers import relative_error, tiny_config
from tests.losses import reference

MASK = reference.random_mask([7, 4, 1], 7)


def _scores(seed):
    return np.random.default_rng(seed).normal(size=(3, 5, 7, 7))


def _states(seed, width=11):
    return np.random.default_rng(seed).normal(size=(3, 7, width))


def test_attention_score_loss_equals_the_formula():
    student, teacher = _scores(0), _scores(1)

    expected = reference.attention_score_loss(student, teacher, MASK)

    assert float(attention_score_loss(student, teacher, MASK)) == pytest.approx(expected, rel=1e-5)


def test_without_padding_the_attention_loss_is_the_published_mean():
    student, teacher = _scores(0), _scores(1)

    loss = attention_score_loss(student, teacher, np.ones((3, 7)))

    assert float(loss) == pytest.approx(((student - teacher) ** 2).mean(), rel=1e-5)


def test_hidden_state_loss_equals_the_formula():
    student, teacher = _states(0), _states(1)

    expected = reference.hidden_state_loss(student, teacher, MASK)

    assert float(hidden_state_loss(student, teacher, MASK)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_equal_pytorch(compiled):
    torch = pytest.importorskip("torch")
    values = {"s": _scores(0), "t": _scores(1), "h": _states(2), "g": _states(3)}
    theirs = {name: torch.tensor(x, requires_grad=True) for name, x in values.items()}
    mask = torch.tensor(MASK, dtype=torch.float64)
    counts = mask.sum(1)
    pairs = mask[:, None, :, None] * mask[:, None, None, :]
    attention = ((theirs["s"] - theirs["t"].detach()) ** 2 * pairs).sum((1, 2, 3)) / counts**2 / 5
    hidden = (theirs["h"] - theirs["g"].detach()) ** 2 * mask[:, :, None]
    (attention.mean() + (hidden.sum((1, 2)) / counts / 11).mean()).backward()

    ours = {name: tf.Variable(x, dtype=tf.float32) for name, x in values.items()}

    def gradients():
        with tf.GradientTape() as tape:
            loss = attention_score_loss(ours["s"], ours["t"], MASK)
            loss += hidden_state_loss(ours["h"], ours["g"], MASK)
        return tape.gradient(loss, ours)

    found = (tf.function(gradients, jit_compile=True) if compiled else gradients)()

    for name in "sh":
        assert relative_error(found[name], theirs[name].grad.numpy()) < 1e-5
    assert found["t"] is None
    assert found["g"] is None


def test_uniform_map_is_the_published_one():
    pairs = TinyBERT(layers="all").layer_pairs
    assert pairs(12, 4) == [(2, 0), (5, 1), (8, 2), (11, 3)]
    assert pairs(12, 5) == [(1, 0), (4, 1), (6, 2), (9, 3), (11, 4)]
    assert pairs(6, 6) == [(layer, layer) for layer in range(6)]


SAME = {"hidden": lambda states: states}


def _expected_terms(teacher, student, pairs, kernel, bias):
    def project(x):
        return x @ kernel + bias

    return {
        "attention_loss": sum(
            reference.attention_score_loss(
                student.attention_scores[s], teacher.attention_scores[t], MASK
            )
            for t, s in pairs
        ),
        "hidden_loss": sum(
            reference.hidden_state_loss(
                project(student.hidden_states[s]), teacher.hidden_states[t], MASK
            )
            for t, s in pairs
        ),
        "embedding_loss": reference.hidden_state_loss(
            project(student.embedding_output), teacher.embedding_output, MASK
        ),
    }


@pytest.mark.parametrize(
    ("layers", "pairs"),
    [
        *(("last", [(3, 1)]), ("all", [(1, 0), (3, 1)]), ((1, 3), [(0, 0), (2, 1)])),
        *(("4,2", [(3, 0), (1, 1)]), ("0,3", [(2, 1)]), ((2, 0), [(1, 0)])),
    ],
)
def test_terms_equal_the_formula(layers, pairs):
    teacher = reference.random_trace(0, MASK, layers=4, heads=3, size=5)
    student = reference.random_trace(1, MASK, layers=2, heads=3, size=2)
    loss = TinyBERT(layers, embedding_weight=0.5, attention_weight=2.0)
    configs = tiny_config(), tiny_config(hidden_size=6)
    projections = loss.projections(*configs, None)
    bias = np.random.default_rng(2).normal(size=15)
    projections["hidden"].bias.assign(bias)
    kernel = np.array(projections["hidden"].kernel.numpy(), np.float64)

    terms = loss.compute_terms(Features(teacher), Features(student), projections)

    expected = _expected_terms(teacher, student, pairs, kernel, bias)
    assert terms.keys() == expected.keys()
    for name, value in terms.items():
        assert float(value) == pytest.approx(expected[name], rel=1e-5)
    total = 2.0 * expected["attention_loss"] + expected["hidden_loss"]
    total += 0.5 * expected["embedding_loss"]
    found = loss.compute_loss(Features(teacher), Features(student), projections)
    assert float(found) == pytest.approx(total, rel=1e-5)


def test_the_last_layer_alone_and_all_layers_can_be_listed():
    pair = (reference.random_trace(0, MASK, layers=4, heads=3, size=5),)
    pair += (reference.random_trace(1, MASK, layers=2, heads=3, size=5),)

    def terms(loss):
        features = map(Features, pair)
        return {name: float(value) for name, value in loss.compute_terms(*features, SAME).items()}

    assert terms(TinyBERT("0,4", embedding_weight=0)) == terms(TinyBERT("last"))
    assert terms(TinyBERT("2,4")) == terms(TinyBERT("all"))
    assert TinyBERT("2,4") == TinyBERT((2, 4))


def test_embeddings_count_by_default_only_with_all_layers():
    assert list(TinyBERT().term_weights) == ["attention_loss", "hidden_loss"]
    assert TinyBERT("all").term_weights["embedding_loss"] == 1.0
    assert list(TinyBERT(hidden_weight=0).term_weights) == ["attention_loss"]


def test_selection_starts_the_projection_on_the_kept_channels():
    kept = [1, 4, 5]
    config = tiny_config(hidden_size=3)
    projection = TinyBERT().projections(tiny_config(), config, np.eye(15)[kept])["hidden"]
    states = _states(0, width=3)

    projected = np.array(projection(states.astype(np.float32)))

    np.testing.assert_array_equal(projected[..., kept], states.astype(np.float32))
    np.testing.assert_array_equal(np.delete(projected, kept, axis=-1), 0.0)


def test_without_hidden_terms_nothing_is_projected():
    loss = TinyBERT(hidden_weight=0.0)

    assert loss.projections(tiny_config(), tiny_config(hidden_size=3), None) == {}


def test_selection_of_another_plan_is_refused():
    with pytest.raises(InputError, match=r"need \(3, 15\)\. Pass the plan"):
        TinyBERT().projections(tiny_config(), tiny_config(hidden_size=3), np.eye(15)[:4])


def test_unequal_head_counts_are_refused_with_the_ways_out():
    teacher = ModelSpec(tiny_config())
    student = ModelSpec(tiny_config(hidden_size=10, num_heads=2))

    with pytest.raises(InputError, match=r"3 heads and the student 2.*MiniLMv2.*attention_weight"):
        TinyBERT().validate(teacher, student)
    TinyBERT(attention_weight=0.0).validate(teacher, student)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((1,), "Name one teacher layer for each"),
        ((1, 4), "1 to 3 from below"),
        ("every", "'every' compares no layer. Pass layers='last', 'all'"),
        ("1;2", "compares no layer"),
        ((0, 0), "compares no layer"),
        ("0,0", "compares no layer"),
        ("0,4", "1 to 3 from below"),
    ],
)
def test_wrong_layers_are_refused(layers, message):
    spec = ModelSpec(tiny_config()), ModelSpec(tiny_config(num_layers=2))

    with pytest.raises(InputError, match=message):
        TinyBERT(layers).validate(*spec)


def test_a_deeper_student_cannot_map_all_layers():
    with pytest.raises(InputError, match="layers='last'"):
        TinyBERT("all").validate(ModelSpec(tiny_config()), ModelSpec(tiny_config(num_layers=4)))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
