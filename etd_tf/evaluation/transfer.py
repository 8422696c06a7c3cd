"""Distilling a fine-tuned model into a student of its task, stage by stage.

Source: XtremeDistilTransformers (Mukherjee et al. 2021, arXiv 2106.04563), whose stages are the
teacher's states, its logits and the labels, with a fresh optimizer each. It differs from the
published code in three points: the stage to end with is chosen on held-out training examples
instead of the test set, the map from the student's states to the teacher's starts as their
least-squares fit, and it ends with its stage.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging
from keras import ops

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.classifiers import (
    SpanClassifier,
    TaskModel,
    initial_parameters,
)
from etd_tf.evaluation.experiment import Experiment, Scores
from etd_tf.evaluation.finetuning import FinetuneResult, Trainings
from etd_tf.evaluation.imitation import (
    STATE,
    LayerMatcher,
    StateMatcher,
    layer_loss,
    least_squares,
    logit_loss,
    span_logit_loss,
    state_loss,
)
from etd_tf.evaluation.inference import compile_forward, run_sequences
from etd_tf.evaluation.run_record import HELD_OUT, RunRecord
from etd_tf.evaluation.stages import LAYERS, LOGITS, STAGES, STATES, TransferOptions
from etd_tf.evaluation.teacher import TeacherOutputs
from etd_tf.evaluation.training import FineTuner, Loss, TrainingSet
from etd_tf.modeling.parameters import parameter_variables
from etd_tf.types import Array

_FIT_EXAMPLES = 2048  # for the least-squares map; more change little
_FIT_TOKENS = 4  # a sequence of words counts as so many


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


@dataclasses.dataclass(frozen=True)
class TransferData:
    """What the teacher says about the texts.

    Attributes:
        train: Of the training examples, in the order of the experiment's.
        unlabelled: Further texts in the student's tokens, with the teacher's outputs.
        teacher: The teacher itself, which the stage of layers runs.
        selection: `[H', H]`, which of its channels each of the student's was cut from; None
            where nobody knows.
    """

    train: TeacherOutputs
    unlabelled: TrainingSet | None = None
    teacher: TaskModel | None = None
    selection: Array | None = None


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
        self._layers: LayerMatcher | None = None

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
            elif stage == LAYERS:
                self._need_layers().restart(seed)
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
            self._tuners[stage] = self._make_tuners(stage)
        return self._tuners[stage]

    def _make_tuners(self, stage: str) -> list[FineTuner]:
        model, decay = self._tuner_model(), self._options.weight_decay
        if stage == STATES:
            matcher = self._need_matcher()
            trained = [*_without(model, "pooler", "head"), *matcher.projection.trainable_variables]
            return [FineTuner(matcher, state_loss, weight_decay=decay, variables=trained)]
        if stage == LAYERS:
            layers = self._need_layers()
            return [FineTuner(layers, layer_loss, weight_decay=decay, variables=layers.trained())]
        loss: Loss = self._experiment.head.training_loss
        if stage == LOGITS:
            spans = isinstance(model, SpanClassifier)
            loss = (span_logit_loss if spans else logit_loss)(self._stages.temperature)
        return [
            FineTuner(model, loss, weight_decay=decay, variables=variables)
            for variables in opened_blocks(model, self._stages.unfreezing)
        ]

    def _need_matcher(self) -> StateMatcher:
        if self._matcher is None:
            states = self._need_data().train.states
            if states is None:
                raise InputError("An answer span has no one state. Leave states out of stages.")
            self._matcher = StateMatcher(self._tuner_model(), states.shape[-1])
        return self._matcher

    def _need_layers(self) -> LayerMatcher:
        if self._layers is None:
            data = self._need_data()
            if data.teacher is None:
                raise InputError("The stage layers needs the teacher itself.")
            loss = self._stages.make_layer_loss()
            self._layers = LayerMatcher(self._tuner_model(), data.teacher, loss, data.selection)
        return self._layers

    def _fit_projection(self, rows: TrainingSet) -> None:
        """Lets the map start as the least-squares fit of the student as it is."""
        matcher = self._need_matcher()
        count = _FIT_EXAMPLES // (_FIT_TOKENS if matcher.of_tokens else 1)
        some = rows.take(np.arange(min(len(rows), count)))
        forward = compile_forward(lambda inputs: ops.cast(matcher.own_states(inputs), "float32"))
        found = run_sequences(forward, some.sequences, description="Fitting the student's states")
        wanted = np.asarray(some.labels[STATE])
        if matcher.of_tokens:
            known = np.isfinite(wanted[..., 0])
            states = [row[k[: len(row)]] for row, k in zip(found, known, strict=True)]
            kernel, bias = least_squares(np.concatenate(states), wanted[known])
        else:  # of twins, two states an example
            pairs = np.stack(found), wanted
            kernel, bias = least_squares(*(one.reshape(-1, one.shape[-1]) for one in pairs))
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
