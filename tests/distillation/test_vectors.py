"""Tests of sentence vectors while a student is distilled."""

import dataclasses
import sys

import numpy as np
import pytest

from etd_tf.distillation import Distiller
from etd_tf.distillation.features import compute_features
from etd_tf.distillation.step import shared_features
from etd_tf.distillation.vectors import principal_directions, sentence_vectors
from etd_tf.errors import InputError
from etd_tf.losses import Embedding, LogitsDistillation, MiniLM, Similarity, States
from etd_tf.modeling.pooling import POOLING_MODES, DenseLayer, Pooling
from tests.distillation.tiny_distiller import compiled, make_batch, make_dataset, make_student
from tests.distillation.tiny_distiller import make_teacher as make_plain_teacher

LOSSES = [Embedding(), States(), Similarity()]


def make_teacher(pooling=None, **changes):
    return make_plain_teacher(**changes).replace(pooling=pooling or Pooling())


def _dense(seed, before, after):
    generator = np.random.default_rng(seed)
    kernel = generator.normal(size=(before, after)).astype(np.float32)
    return DenseLayer(kernel, generator.normal(size=after).astype(np.float32), "tanh")


def _batch_with_padding(size=4):
    """A batch whose last row is all padding."""
    batch = make_batch(size)
    batch["padding_mask"] = np.array(batch["padding_mask"])
    batch["padding_mask"][-1] = 0
    return batch


@pytest.mark.parametrize("modes", [*((mode,) for mode in POOLING_MODES), ("cls", "mean")])
def test_vectors_are_those_of_the_pooling_and_zero_for_padding(modes):
    teacher = make_teacher()
    width = len(modes) * teacher.config.hidden_size
    pooling = Pooling(modes, dense=(_dense(0, width, 5),), truncate_dim=4)
    features = compute_features(teacher, _batch_with_padding(), mlm=False)
    found = np.asarray(sentence_vectors(pooling, features))
    states, mask = features.trace.sequence_output, features.trace.padding_mask
    np.testing.assert_allclose(found[:-1], pooling(states[:-1], mask[:-1]), rtol=1e-5, atol=1e-6)
    assert np.all(found[-1] == 0.0)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("modes", [("mean",), ("max",), ("cls", "max")])
def test_a_student_equal_to_its_teacher_has_loss_zero(loss, modes):
    teacher = make_teacher(Pooling(modes), hidden_dropout=0.0, attention_dropout=0.0)
    distiller = Distiller(teacher, teacher.replace(), loss)
    total, terms = distiller.distillation_loss(_batch_with_padding(), training=False)
    assert float(total) == pytest.approx(0.0, abs=1e-12)
    assert not distiller.projections
    assert terms.keys() == {"distillation_loss", *loss.term_weights}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("mode", ["mean", "max"])
def test_students_learn_and_padding_gives_finite_gradients(loss, mode):
    distiller = compiled(Distiller(make_teacher(Pooling((mode,))), make_student(), loss))
    batch = _batch_with_padding()
    first = distiller.evaluate(make_dataset(), return_dict=True, verbose=0)["loss"]
    for _ in range(3):
        distiller.train_on_batch(batch)
    history = distiller.fit(make_dataset(), epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.7 * first
    assert all(np.all(np.isfinite(v.numpy())) for v in distiller.trainable_variables)


def test_the_map_begins_with_the_selection_and_is_shared():
    teacher, student = make_teacher(), make_student()
    selection = np.eye(teacher.config.hidden_size)[: student.config.hidden_size]
    distiller = Distiller(teacher, student, [Embedding(), States()], selection=selection)
    assert list(distiller.projections) == ["map"]
    np.testing.assert_array_equal(distiller.projections["map"].kernel, selection)
    trained = {id(variable) for variable in distiller.trainable_variables}
    assert {id(v) for v in distiller.projections["map"].weights} <= trained
    kernel = np.asarray(Distiller(teacher, student, Embedding()).projections["map"].kernel)
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(len(kernel)), atol=1e-5)
    assert not Distiller(teacher, student, Similarity()).projections
    with pytest.raises(InputError, match="Pass the plan that this student was extracted with"):
        Distiller(teacher, student, States(), selection=selection[1:])


@pytest.mark.parametrize("modes", [("mean",), ("cls", "mean")])
def test_a_kept_map_puts_the_student_into_the_teachers_space(modes):
    teacher, student = make_teacher(), make_student()
    dense = _dense(0, len(modes) * teacher.config.hidden_size, 5)
    teacher = teacher.replace(pooling=Pooling(modes, dense=(dense,), normalize=True))
    losses = [Embedding(keep_map=True), Similarity()]
    distiller = compiled(Distiller(teacher, student, losses))
    distiller.fit(make_dataset(), epochs=2, verbose=0)
    made = distiller.student.replace(pooling=distiller.student_pooling)
    assert [one.kernel.shape[1] for one in made.pooling.dense] == [dense.kernel.shape[0], 5]
    batch = make_batch()
    vectors = [
        model.pooling(trace.sequence_output, trace.padding_mask)
        for model in (teacher, made)
        for trace in [compute_features(model, batch, mlm=False).trace]
    ]
    expected = 1 - np.mean(np.sum(np.asarray(vectors[0]) * np.asarray(vectors[1]), axis=1))
    _, terms = distiller.distillation_loss(batch, training=False)
    assert float(terms["vector_loss"]) == pytest.approx(expected, rel=1e-4)
    similarities = [np.asarray(one) @ np.asarray(one).T for one in vectors]
    expected = np.mean((similarities[0] - similarities[1]) ** 2)
    assert float(terms["similarity_loss"]) == pytest.approx(expected, rel=1e-4)


def test_a_map_that_is_not_kept_leaves_the_students_pooling():
    student = make_student().replace(pooling=Pooling(("cls",)))
    assert Distiller(make_teacher(), student, Embedding()).student_pooling == Pooling(("cls",))
    narrow = Distiller(make_teacher(), make_student(hidden_size=15), Embedding(keep_map=True))
    assert narrow.student_pooling is None  # of equal width: there is no map


def test_a_teacher_without_pooling_takes_the_mean_and_says_so(caplog):
    teacher, student, batch = make_plain_teacher(), make_student(), make_batch()
    with caplog.at_level("WARNING"):
        plain = Distiller(teacher, student, Similarity())
    assert "the mean of the last states is taken" in caplog.text
    said = Distiller(teacher.replace(pooling=Pooling()), student, Similarity())
    values = [float(one.distillation_loss(batch, training=False)[0]) for one in (plain, said)]
    assert values[0] == values[1] > 0


def test_one_pass_of_the_teacher_serves_losses_that_read_different_things():
    teacher = make_teacher()
    distillers = [
        Distiller(teacher, make_student(), loss)
        for loss in (MiniLM(), LogitsDistillation(), Embedding(), Similarity())
    ]
    batch = make_batch()
    shared = shared_features(distillers, batch)
    for one in distillers:
        expected = one.distillation_loss(batch, training=False)[0]
        found = one.distillation_loss(batch, training=False, teacher=shared)[0]
        assert float(found) == float(expected)


def test_principal_directions_hold_most_of_what_pooled_states_vary_by():
    teacher, batches = make_teacher(), [make_batch(seed=seed) for seed in range(9)]
    rows = principal_directions(teacher, iter(batches), 9)
    np.testing.assert_allclose(rows @ rows.T, np.eye(9), atol=1e-5)
    read = batches[:5]  # twice as many vectors as directions
    features = [compute_features(teacher, batch, mlm=False) for batch in read]
    vectors = np.concatenate([sentence_vectors(Pooling(), one) for one in features])
    centred = vectors - vectors.mean(0)
    kept = np.linalg.norm(centred @ rows.T) ** 2
    values = np.linalg.svd(centred)[1]
    assert kept == pytest.approx(np.sum(values[:9] ** 2), rel=1e-4)


def test_losses_of_vectors_add_no_work_to_others():
    distiller = Distiller(make_teacher(), make_student(), MiniLM())
    assert distiller.reads == (True, False, False)
    assert distiller.teacher_features(make_batch()).vectors is None
    assert dataclasses.asdict(Embedding()) == {"keep_map": False, "matryoshka": ()}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
