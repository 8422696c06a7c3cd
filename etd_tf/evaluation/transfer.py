"""Distilling a fine-tuned model into a student of its task, stage by stage.

Source: XtremeDistilTransformers (Mukherjee et al. 2021, arXiv 2106.04563), whose stages are the
teacher's states, its logits and the labels, with a fresh optimizer each. It differs from the
published code in three points: the stage to end with is chosen on held-out training examples
instead of the test set, the map from the student's states to the teacher's starts as their
least-squares fit, and it ends with its stage.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from absl import logging
from keras import ops

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.classifiers import (
    SequenceClassifier,
    TaskModel,
    TokenClassifier,
    initial_parameters,
)
from etd_tf.evaluation.experiment import Experiment, Scores
from etd_tf.evaluation.finetuned import FinetunedModel
from etd_tf.evaluation.finetuning import FinetuneResult, Trainings
from etd_tf.evaluation.inference import compile_forward, run_sequences
from etd_tf.evaluation.run_record import HELD_OUT, RunRecord
from etd_tf.evaluation.stages import LOGITS, STAGES, STATES, TransferOptions
from etd_tf.evaluation.training import FineTuner, Loss, TrainingSet
from etd_tf.lazy import tf
from etd_tf.modeling.layers import Dense
from etd_tf.modeling.parameters import parameter_variables
from etd_tf.tokenization.sequences import Sequences
from etd_tf.types import Array, IntArray, Tensor

STATE, TEACHER_LOGITS = "teacher_state", "teacher_logits"
_FIT_EXAMPLES = 2048  # for the least-squares map; more change little
_FIT_TOKENS = 4  # a sequence of words counts as so many
_RIDGE = 1e-3  # of the mean square of the student's states


@dataclasses.dataclass(frozen=True)
class TransferResult:
    """What a run found out.

    Attributes:
        student: Fine-tuning's result: scores over the seeds.
        stage: The stage that the students end with.
        teacher: The teacher's scores by split.
        kept: Share of the teacher's score by split, in the metric that ranks models; None
            where the teacher's is 0 or less.
    """

    student: FinetuneResult
    stage: str
    teacher: dict[str, Scores]
    kept: dict[str, float | None]


class StateMatcher(keras.Model):
    """A student's encoder and the linear map of its states to the teacher's width.

    Args:
        model: The student; its encoder is shared. Of a classifier of texts the state is that of
            the first token, else those of all tokens.
        width: H, of the teacher.
    """

    def __init__(self, model: TaskModel, width: int) -> None:
        super().__init__(dtype=model.dtype_policy, name="state_matcher", autocast=False)
        self.encoder = model.encoder
        self.of_tokens = model.serves_tokens
        hidden = model.config.hidden_size
        self.projection = Dense(hidden, width, dtype=self.dtype_policy, name="projection")
        self.built = True

    def call(
        self,
        inputs: Mapping[str, Tensor],
        training: bool = False,
        dropout_seed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Maps a batch: `state`, float32 `[B, H]`, of tokens `[B, T, H]`."""
        states = self.states(inputs, training=training, dropout_seed=dropout_seed)
        return {"state": ops.cast(self.projection(states), "float32")}

    def states(self, inputs: Mapping[str, Tensor], **options: Any) -> Tensor:
        """The student's states, before the map."""
        states = self.encoder.trace(inputs, **options).sequence_output
        return states if self.of_tokens else states[:, 0]


def compared(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """What of a batch the teacher says something about.

    Args:
        found: The student's, `[B, C]`, or of tokens `[B, T, C]`.
        wanted: The teacher's, `[B, C]`, or `[B, L, C]` with L at least T, NaN where a token
            stands for no word.

    Returns:
        Both as they are, or of the words alone, `[n, C]`.
    """
    if len(wanted.shape) == 2:
        return found, wanted
    wanted = wanted[:, : ops.shape(found)[1]]
    known = tf.math.is_finite(wanted[..., 0])
    return tf.boolean_mask(found, known), tf.boolean_mask(wanted, known)


def state_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Mean squared error of `state` `[B, H]` against the batch's `teacher_state`; or of words."""
    return ops.mean(ops.square(ops.subtract(*compared(outputs["state"], batch[STATE]))))


def logit_loss(temperature: float | None) -> Loss:
    """The loss against the teacher's logits.

    Args:
        temperature: T, or None.

    Returns:
        Of `logits` and the batch's `teacher_logits` `[B, C]`, or those of words: their mean squared
        error where T is None (XtremeDistil) or C is 1; else T^2 times the cross-entropy of the
        student's softmax at T against the teacher's (TinyBERT, Jiao et al. 2019, arXiv
        1909.10351).
    """

    def loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        logits, teacher = compared(outputs["logits"], batch[TEACHER_LOGITS])
        if temperature is None or logits.shape[-1] == 1:
            return ops.mean(ops.square(ops.subtract(logits, teacher)))
        wanted = ops.softmax(ops.divide(teacher, temperature), axis=-1)
        found = ops.log_softmax(ops.divide(logits, temperature), axis=-1)
        entropy = ops.negative(ops.mean(ops.sum(ops.multiply(wanted, found), axis=-1)))
        return ops.multiply(temperature**2, entropy)

    return loss


@dataclasses.dataclass(frozen=True)
class TeacherOutputs:
    """What a fine-tuned teacher makes of some texts, or words; in order of the task's classes.

    Attributes:
        states: Last state of the first token, of a text or a word, float32 `[n, H]`.
        logits: Float32 `[n, C]`.
    """

    states: Array
    logits: Array

    def labels(self) -> dict[str, Array]:
        """The arrays by the names that the losses know."""
        return {STATE: self.states, TEACHER_LOGITS: self.logits}


def teacher_outputs(
    teacher: FinetunedModel,
    sequences: Sequences,
    order: Sequence[int],
    description: str,
    *,
    words: Sequence[IntArray] = (),
) -> TeacherOutputs:
    """Runs a teacher once over texts, without dropout.

    Args:
        teacher: The fine-tuned classifier.
        sequences: The texts in its own tokens.
        order: For each class of the task its position among the teacher's logits; empty for a
            score.
        description: Text of the progress line.
        words: Of a classifier of tokens the positions of each sequence's words.

    Returns:
        Its states and logits.

    Raises:
        InputError: It is no classifier.
    """
    model = teacher.model
    if not isinstance(model, SequenceClassifier | TokenClassifier):
        raise InputError(
            f"{teacher.checkpoint.source} is no classifier. Distilling on a task takes models for "
            "texts with a class or a score, or for words with tags."
        )

    def forward(inputs: Mapping[str, Tensor]) -> Tensor:
        trace = model.encoder.trace(inputs)
        if isinstance(model, TokenClassifier):
            state, read = trace.sequence_output, trace.sequence_output
        else:
            state = trace.sequence_output[:, 0]
            read = model.reading.compared(model.vectors(trace, inputs))
        parts = state, model.output_dense(read)
        return ops.concatenate([ops.cast(part, "float32") for part in parts], axis=-1)

    found = run_sequences(compile_forward(forward), sequences, description=description)
    if words:
        rows = np.concatenate([row[places] for row, places in zip(found, words, strict=True)])
    else:
        rows = np.stack(found)
    width = model.config.hidden_size
    logits = rows[:, width:]
    return TeacherOutputs(rows[:, :width], logits[:, list(order)] if order else logits)


def least_squares(inputs: Array, outputs: Array) -> tuple[Array, Array]:
    """Fits a linear map with a bias, with a slight ridge against collinear inputs.

    Args:
        inputs: `[n, A]`.
        outputs: `[n, B]`.

    Returns:
        Float32 kernel `[A, B]` and bias `[B]`.
    """
    x, y = inputs.astype(np.float64), outputs.astype(np.float64)
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = x.T @ x
    ridge = _RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
    kernel = np.linalg.solve(gram + ridge * np.eye(len(gram)), x.T @ y)
    return kernel.astype(np.float32), (mean_y - mean_x @ kernel).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class TransferData:
    """What the teacher says about the texts.

    Attributes:
        train: Of the training examples, in the order of the experiment's.
        unlabelled: Further texts in the student's tokens, with the teacher's outputs.
    """

    train: TeacherOutputs
    unlabelled: TrainingSet | None = None


def transfer(
    student: Checkpoint,
    experiment: Experiment,
    data: Callable[[], TransferData],
    options: TransferOptions,
    record: RunRecord,
) -> tuple[FinetuneResult, str]:
    """Trains students stage by stage, see `TransferOptions`.

    Args:
        student: The encoder to start from.
        experiment: The task, tokenised for it.
        data: Makes the teacher's outputs; called where a training is missing.
        options: Settings.
        record: What is done; gets what is new.

    Returns:
        The result, and the stage that the students end with.

    Raises:
        DivergenceError: No learning rate trains without diverging.
    """
    trainings = _StagedTrainings(student, experiment, options, record, data)
    return trainings.run(), trainings.last


class _StagedTrainings(Trainings):
    """Trainings of several stages; the stage to end with is chosen as the learning rate is."""

    def __init__(
        self,
        student: Checkpoint,
        experiment: Experiment,
        options: TransferOptions,
        record: RunRecord,
        data: Callable[[], TransferData],
    ) -> None:
        self._stages, self._transfer = options, data
        super().__init__(student, experiment, options.training, record)
        self._data: TransferData | None = None
        self._tuners: dict[str, list[FineTuner]] = {}
        self._matcher: StateMatcher | None = None

    def _need_data(self) -> TransferData:
        if self._data is None:
            self._data = self._transfer()
        return self._data

    def _training_set(self) -> TrainingSet:
        data = super()._training_set()
        known = self._experiment.by_token(self._need_data().train.labels())
        return TrainingSet(data.sequences, {**data.labels, **known})

    def _ends(self) -> tuple[str, ...]:
        return tuple(f"{HELD_OUT} {stage}" for stage in self._stages.ends())

    def choose_learning_rate(self) -> float:
        """Picks the rate and the last stage."""
        rate = super().choose_learning_rate()
        logging.info("Rate %g, last stage %s.", rate, self.last)
        return rate

    @property
    def last(self) -> str:
        """The stage to end with."""
        return self._stages.ends()[self._ends().index(self._end)]

    def _train(
        self,
        data: TrainingSet,
        rate: float,
        seed: int,
        prefix: str,
        ended: Callable[[str], None] = lambda _: None,
    ) -> float:
        model = self._tuner_model()
        model.set_parameters(initial_parameters(self._checkpoint, model, seed))
        loss = math.nan
        for stage in self._stages.stages:
            rows = data.reading([name for name in STAGES[stage].reads if name in data.labels])
            extra = self._need_data().unlabelled
            if extra is not None and STAGES[stage].takes_unlabelled:
                rows = rows.joined(extra.reading(rows.labels))
            if stage == STATES:
                self._fit_projection(rows)
            what = f"{self._describe(rate, seed, prefix)}, {stage}"
            for tuner in self._tuners_of(stage):
                loss = tuner.fit(rows, self._schedule(rate, seed), description=what)
                self._curves.setdefault(stage, []).extend(tuner.curve)
            if stage in self._stages.ends():
                ended(f"{HELD_OUT} {stage}")
            if stage == self.last:  # of all, until it is chosen
                break
        return loss

    def _tuners_of(self, stage: str) -> list[FineTuner]:
        """What trains a stage: one after the other, each with a fresh optimizer."""
        if stage not in self._tuners:
            model, decay = self._tuner_model(), self._options.weight_decay
            if stage == STATES:
                matcher = self._need_matcher()
                inner = _without(model, "pooler", "head")
                trained = [*inner, *matcher.projection.trainable_variables]
                self._tuners[stage] = [
                    FineTuner(matcher, state_loss, weight_decay=decay, variables=trained)
                ]
            else:
                loss = (
                    logit_loss(self._stages.temperature)
                    if stage == LOGITS
                    else self._experiment.head.training_loss
                )
                self._tuners[stage] = [
                    FineTuner(model, loss, weight_decay=decay, variables=variables)
                    for variables in opened_blocks(model, self._stages.unfreezing)
                ]
        return self._tuners[stage]

    def _need_matcher(self) -> StateMatcher:
        if self._matcher is None:
            width = self._need_data().train.states.shape[1]
            self._matcher = StateMatcher(self._tuner_model(), width)
        return self._matcher

    def _fit_projection(self, rows: TrainingSet) -> None:
        """Lets the map start as the least-squares fit of the student as it is."""
        matcher = self._need_matcher()
        count = _FIT_EXAMPLES // (_FIT_TOKENS if matcher.of_tokens else 1)
        some = rows.take(np.arange(min(len(rows), count)))
        forward = compile_forward(lambda inputs: ops.cast(matcher.states(inputs), "float32"))
        found = run_sequences(forward, some.sequences, description="Fitting the student's states")
        wanted = np.asarray(some.labels[STATE])
        if matcher.of_tokens:
            known = np.isfinite(wanted[..., 0])
            states = [row[k[: len(row)]] for row, k in zip(found, known, strict=True)]
            kernel, bias = least_squares(np.concatenate(states), wanted[known])
        else:
            kernel, bias = least_squares(np.stack(found), wanted)
        matcher.projection.kernel.assign(kernel)
        matcher.projection.bias.assign(bias)


def _named_variables(model: TaskModel) -> dict[str, Any]:
    """The trainable variables of a task model by canonical name."""
    return {**parameter_variables(model.encoder), **model.head_variables()}


def _without(model: TaskModel, *parts: str) -> list[Any]:
    named = _named_variables(model)
    return [variable for name, variable in named.items() if name.split(".")[0] not in parts]


def opened_blocks(model: TaskModel, unfreezing: str) -> list[list[Any]]:
    """The variables that are trained, one step of unfreezing after the other.

    Args:
        model: The task model.
        unfreezing: `"none"`: everything at once. `"head"`: the head with the pooler, then
            everything. `"layers"`: the head, then one more layer from the top a step, and at
            last the embeddings.

    Returns:
        Lists of variables, each with those of the one before.
    """
    named = _named_variables(model)
    everything = list(named.values())
    if unfreezing == "none":
        return [everything]

    def opened(*prefixes: str) -> list[Any]:
        return [v for name, v in named.items() if name.startswith(prefixes)]

    steps = [opened("head.", "pooler.")]
    if unfreezing == "layers":
        layers = range(model.config.num_layers - 1, -1, -1)
        names = [f"layers.{layer}." for layer in layers]
        steps += [opened("head.", "pooler.", *names[: n + 1]) for n in range(len(names))]
    return [*steps, everything]
