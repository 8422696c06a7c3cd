"""Tests of the Distiller: what it trains, keeps, saves and refuses."""

import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import etd_tf.losses
from etd_tf.checkpoints.loading import load_checkpoint, save_checkpoint
from etd_tf.distillation.distiller import Distiller
from etd_tf.errors import InputError
from etd_tf.losses import Features, LogitsDistillation, MaskedLM, MiniLM, TinyBERT
from tests.distillation.tiny_distiller import (
    compiled,
    make_batch,
    make_dataset,
    make_student,
    make_teacher,
)
from tests.helpers import random_batch

TEACHER_TERMS = {"attention_relation_loss", "value_relation_loss"}


def _features(checkpoint, batch):
    trace = checkpoint.encoder.trace(batch)
    states = np.take_along_axis(
        trace.sequence_output.numpy(), batch["masked_lm_positions"][:, :, None], axis=1
    )
    logits = checkpoint.mlm_head(states, checkpoint.encoder.embeddings.token)
    return Features(trace, logits, batch["masked_lm_ids"], batch["masked_lm_weights"])


def _names(distiller):
    from etd_tf.modeling.parameters import parameter_variables

    student = distiller.student
    named = parameter_variables(student.encoder, student.mlm_head)
    used = {id(variable) for variable in distiller.trainable_variables}
    return {name for name, variable in named.items() if id(variable) in used}


@pytest.mark.parametrize(
    "losses", [TinyBERT("all"), [MiniLM(), MaskedLM(), LogitsDistillation(temperature=2.0)]]
)
def test_fit_lowers_the_loss_and_logs_every_term(losses):
    distiller = compiled(Distiller(make_teacher(), make_student(), losses))
    data = make_dataset()

    history = distiller.fit(data, epochs=2, validation_data=data, verbose=0).history

    kinds = losses if isinstance(losses, list) else [losses]
    terms = {name for loss in kinds for name in loss.term_weights}
    expected = {"loss", "distillation_loss", *terms}
    assert set(history) == expected | {f"val_{name}" for name in expected}
    assert history["loss"][1] < 0.95 * history["loss"][0]
    evaluated = distiller.evaluate(data, verbose=0, return_dict=True)
    assert evaluated["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)


def test_the_total_is_the_weighted_sum_of_keras_distiller():
    teacher, student, batch = make_teacher(), make_student(), make_batch()
    losses = [MiniLM(value_weight=0.5), LogitsDistillation(temperature=2.0)]
    distiller = Distiller(
        teacher, student, losses, distillation_loss_weights=[3.0, 0.25], student_loss_weight=0.2
    )

    total, logs = distiller.distillation_loss(batch, training=False)

    features = _features(teacher, batch), _features(student, batch)
    distillation = 3.0 * losses[0].compute_loss(*features) + 0.25 * losses[1].compute_loss(
        *features
    )
    own = MaskedLM().compute_loss(None, features[1])
    assert float(logs["distillation_loss"]) == pytest.approx(float(distillation), rel=1e-5)
    assert float(logs["student_loss"]) == pytest.approx(float(own), rel=1e-5)
    assert float(total) == pytest.approx(float(0.8 * distillation + 0.2 * own), rel=1e-5)


def test_two_losses_with_equal_terms_are_told_apart():
    distiller = Distiller(make_teacher(), make_student(), [MiniLM(), MiniLM(teacher_layer=1)])

    _, logs = distiller.distillation_loss(make_batch(), training=False)

    again = {f"{name}_2" for name in TEACHER_TERMS}
    assert set(logs) == {"distillation_loss"} | TEACHER_TERMS | again
    assert float(logs["value_relation_loss"]) != float(logs["value_relation_loss_2"])


def test_call_returns_the_students_outputs():
    student, batch = make_student(), make_batch()

    found = Distiller(make_teacher(), student)(batch)

    assert set(found) == {"sequence_output", "pooled_output"}
    expected = student.encoder(batch)["sequence_output"]
    np.testing.assert_array_equal(found["sequence_output"], expected)


def test_only_variables_that_matter_are_trained():
    last = "layers.1."
    attention_output = {f"{last}attention.output.{x}" for x in ("kernel", "bias")}

    def names(loss):
        return _names(Distiller(make_teacher(), make_student(num_layers=2), loss))

    minilm, tinybert, masked = names(MiniLM()), names(TinyBERT()), names(MaskedLM())

    parts = {"query", "key", "value"}
    assert {n for n in minilm if n.startswith(last)} == {
        f"{last}attention.{part}.{x}" for part in parts for x in ("kernel", "bias")
    }
    assert not any(name.startswith(("pooler", "mlm")) for name in minilm | tinybert)
    assert attention_output <= tinybert
    assert f"{last}output.kernel" in tinybert
    assert {"mlm.dense.kernel", "mlm.output_bias", "embeddings.token"} <= masked


def test_training_leaves_the_teacher_and_unused_weights_alone():
    teacher, student = make_teacher(), make_student()
    before, start = teacher.parameters(), student.parameters()
    distiller = compiled(Distiller(teacher, student, MiniLM()))

    distiller.fit(make_dataset(), verbose=0)

    for name, value in teacher.parameters().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    used = _names(distiller)
    for name, value in student.parameters().items():
        assert np.array_equal(value, start[name]) == (name not in used), name


def test_freezing_is_respected_after_compiling_again():
    student = make_student()
    distiller = Distiller(make_teacher(), student)
    student.encoder.embeddings.trainable = False
    compiled(distiller)
    assert "embeddings.token" not in _names(distiller)

    student.encoder.embeddings.trainable = True
    compiled(distiller)
    assert "embeddings.token" in _names(distiller)


def _ancestors(tensor):
    found, todo = set(), [tensor.op]
    while todo:
        op = todo.pop()
        if op.name not in found:
            found.add(op.name)
            todo += [x.op for x in op.inputs]
    return found


@pytest.mark.parametrize(("losses", "reads"), [(MiniLM(), False), (TinyBERT(), True)])
def test_a_compiled_step_leaves_out_what_no_loss_reads(losses, reads):
    distiller = Distiller(make_teacher(), make_student(), losses)
    batch = {name: tf.constant(value) for name, value in make_batch().items()}
    function = tf.function(lambda x: distiller.distillation_loss(x, training=False)[0])

    graph = function.get_concrete_function(batch).graph

    ancestors = _ancestors(graph.outputs[0])
    layer = distiller.teacher.encoder.encoder_layers[-1]
    for part, expected in ((layer.attention.query, True), (layer.output_dense, reads)):
        handles = [inner for outer, inner in graph.captures if outer is part.kernel.value.handle]
        assert (handles[0].op.name in ancestors) == expected


def test_selection_starts_the_projection():
    class Plan:
        def selection_matrix(self):
            return np.eye(15)[:9]

    for selection in (Plan(), np.eye(15)[:9]):
        distiller = Distiller(make_teacher(), make_student(), TinyBERT(), selection=selection)
        (projection,) = distiller.projections.values()
        np.testing.assert_array_equal(projection.kernel, np.eye(15)[:9])


def test_the_student_is_saved_alone(tmp_path):
    distiller = compiled(Distiller(make_teacher(), make_student(), TinyBERT()))
    distiller.fit(make_dataset(), verbose=0)

    save_checkpoint(distiller.student, tmp_path / "student")

    loaded = load_checkpoint(tmp_path / "student").parameters()
    assert loaded.keys() == distiller.student.parameters().keys()
    for name, value in distiller.student.parameters().items():
        np.testing.assert_array_equal(loaded[name], value)


def _stored_sizes(path):
    sizes = []
    with h5py.File(path) as file:
        file.visititems(lambda _, x: sizes.append(x.shape) if isinstance(x, h5py.Dataset) else None)
    return sizes


def test_saved_weights_hold_student_and_projections_but_no_teacher(tmp_path):
    path = tmp_path / "distiller.weights.h5"
    trained = compiled(Distiller(make_teacher(), make_student(), TinyBERT()))
    trained.fit(make_dataset(), verbose=0)
    trained.save_weights(path)

    fresh = compiled(Distiller(make_teacher(), make_student(), TinyBERT()))
    fresh.load_weights(path)

    assert all(86 not in shape or 15 not in shape for shape in _stored_sizes(path))
    for ours, theirs in zip(fresh.trainable_variables, trained.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_saved_distiller_holds_no_teacher_and_says_so(tmp_path):
    path = tmp_path / "distiller.keras"
    trained = compiled(Distiller(make_teacher(), make_student(), TinyBERT()))
    trained.fit(make_dataset(), verbose=0)
    trained.save(path)

    with zipfile.ZipFile(path) as archive:
        archive.extract("model.weights.h5", tmp_path)
    assert all(86 not in x or 15 not in x for x in _stored_sizes(tmp_path / "model.weights.h5"))
    with pytest.raises(InputError, match="load_weights"):
        keras.models.load_model(path)
    fresh = Distiller(make_teacher(), make_student(), TinyBERT())
    fresh.load_weights(path)
    np.testing.assert_array_equal(
        fresh.student.parameters()["embeddings.token"],
        trained.student.parameters()["embeddings.token"],
    )


def test_models_are_checkpoints():
    with pytest.raises(InputError, match=r"teacher is a str, expected a Checkpoint\. Load one"):
        Distiller("BERT_DIR", make_student(), TinyBERT())
    with pytest.raises(InputError, match=r"student is a .*expected a Checkpoint"):
        Distiller(make_teacher(), make_student().encoder, TinyBERT())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distillation_losses": []}, r"such as etd_tf\.losses\.MiniLM"),
        ({"distillation_losses": keras.distillation.LogitsDistillation()}, "LogitsDistillation"),
        ({"distillation_loss_weights": [1.0, 2.0]}, "each of the 1 losses"),
        ({"distillation_loss_weights": [-1.0]}, "positive"),
        ({"student_loss_weight": 1.0}, "MaskedLM"),
        ({"distillation_losses": TinyBERT(), "selection": np.eye(15)}, "Pass the plan"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Distiller(make_teacher(), make_student(), **arguments)


def test_models_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="Use a student with the teacher's vocabulary"):
        Distiller(make_teacher(), make_student(vocab_size=90))
    with pytest.raises(InputError, match="minilmv2"):
        Distiller(make_teacher(), make_student(hidden_size=10, num_heads=2))
    with pytest.raises(InputError, match="student has none"):
        Distiller(make_teacher(), make_student(mlm_head=False), student_loss_weight=0.5)


def test_labels_losses_and_metrics_are_refused_in_words():
    distiller = Distiller(make_teacher(), make_student())

    with pytest.raises(InputError, match="student_loss_weight"):
        distiller.compile(loss="mse")
    with pytest.raises(InputError, match="no metrics"):
        distiller.compile(metrics=["accuracy"])
    compiled(distiller, run_eagerly=True)
    with pytest.raises(InputError, match="masked_lm_positions"):
        distiller.fit(make_batch(), np.zeros(4), verbose=0)


def test_a_batch_without_masked_lm_inputs_is_refused():
    distiller = Distiller(make_teacher(), make_student(), etd_tf.losses.MaskedLM())
    batch = random_batch(make_teacher().config)

    with pytest.raises(InputError, match=r"masked_lm_positions.*received \['padding_mask'"):
        distiller.distillation_loss(batch, training=False)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
