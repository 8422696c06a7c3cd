"""How faithful a student's vectors are to its teacher's on held-out text, in training and after."""

import dataclasses
import functools
from weakref import WeakKeyDictionary

import numpy as np
from absl import logging

from etd_tf.checkpoints import Checkpoint
from etd_tf.checkpoints.embedding import TextEmbedder
from etd_tf.distillation import Distiller
from etd_tf.errors import InputError
from etd_tf.evaluation.fidelity import MIN_TEXTS, measure_fidelity
from etd_tf.evaluation.static_floor import count_tokens, make_static_floor
from etd_tf.lazy import ops
from etd_tf.modeling.pooling import Pooling
from etd_tf.reporting.report import FidelityFacts
from etd_tf.text.batches import load_examples
from etd_tf.text.records import TRAIN, VALIDATION, RecordSet
from etd_tf.tokenization.sequences import Sequences

_COUNTED = 4096  # training sequences behind the shares of tokens


class HeldOutFidelity:
    """Compares students with one teacher, whose vectors are made once.

    A text is a held-out sequence as it stands in the records, token by token, so nothing has to
    be found in the raw text again. In packed records it holds several short texts.

    Args:
        teacher: The teacher, with a pooling.
        records: The text.
        count: Held-out sequences, those behind the held-out loss.

    Raises:
        InputError: The teacher has no pooling, or the records hold too few sequences.
    """

    def __init__(self, teacher: Checkpoint, records: RecordSet, count: int) -> None:
        check_measurable(teacher, records, count)
        self._teacher, self._records = teacher, records
        available = records.num_examples(VALIDATION)
        batch = load_examples(records, min(count, available), seed=0, split=VALIDATION)
        lengths = batch["padding_mask"].sum(axis=1)
        token_ids, segment_ids = (
            tuple(row[:length] for row, length in zip(batch[key], lengths, strict=True))
            for key in ("token_ids", "segment_ids")
        )
        self._sequences = Sequences(
            token_ids, segment_ids, teacher.config.pad_token_id, records.sequence_length
        )
        # Weak, so that a comparison does not keep every student that it has measured.
        self._embedders: WeakKeyDictionary[Checkpoint, TextEmbedder] = WeakKeyDictionary()
        self._pooling = check_pooling(teacher)

    @functools.cached_property
    def _target(self) -> np.ndarray:
        """The teacher's vectors; a run waits for them at its first evaluation, not at its start."""
        return self._vectors(self._teacher, self._pooling)

    def log_values(self, distiller: Distiller) -> dict[str, float]:
        """Measures a student in training, and the map behind its pooling, for `metrics.jsonl`.

        Returns:
            Numbers by name; none where it has diverged, which ends the run anyway.
        """
        vectors = self._vectors(distiller.student, distiller.student_pooling)
        if not np.all(np.isfinite(vectors)):
            return {}
        return measure_fidelity(self._target, vectors).log_values()

    def facts(self, student: Checkpoint, initial: Checkpoint) -> FidelityFacts:
        """Measures a student, what it was before training, and one without a Transformer."""
        sample = min(_COUNTED, self._records.num_examples(TRAIN))
        ids = load_examples(self._records, sample, seed=0)["token_ids"]
        counts = count_tokens([ids], self._teacher.config.vocab_size)
        vectors = self._vectors(student, student.pooling)
        floor = make_static_floor(self._teacher, counts, vectors.shape[1])
        return FidelityFacts(
            student=measure_fidelity(self._target, vectors),
            initial=measure_fidelity(self._target, self._vectors(initial, initial.pooling)),
            floor=measure_fidelity(self._target, floor.embed_ids(self._sequences.token_ids)),
            floor_seconds=floor.seconds,
        )

    def _vectors(self, model: Checkpoint, pooling: Pooling | None) -> np.ndarray:
        """Vectors of the sequences; their lengths do not matter here."""
        pooling = pooling or self._pooling
        if model not in self._embedders:  # compiled once, so without what training changes
            plain = dataclasses.replace(pooling, dense=(), normalize=False, truncate_dim=None)
            tokenizer = model.need_tokenizer(self._records.sequence_length)
            self._embedders[model] = TextEmbedder(model.encoder, tokenizer, plain)
        vectors = self._embedders[model].embed_sequences(self._sequences)
        for layer in pooling.dense:
            vectors = np.asarray(ops.convert_to_numpy(layer(vectors)))
        return vectors[:, : pooling.truncate_dim]


def check_measurable(teacher: Checkpoint, records: RecordSet, count: int) -> None:
    """Checks that fidelity can be measured."""
    check_pooling(teacher)
    held_out = records.num_examples(VALIDATION) if records.shards.get(VALIDATION) else 0
    if min(held_out, count) < MIN_TEXTS:
        raise InputError(
            f"{records.source} has {held_out} held-out sequences, held_out_sequences={count}: "
            f"fidelity needs {MIN_TEXTS} at least, better some hundreds. Give more text or "
            "validation_corpus=FILES."
        )


def check_pooling(teacher: Checkpoint) -> Pooling:
    """Checks that a teacher is a sentence encoder.

    Returns:
        How it pools.

    Raises:
        InputError: Its files do not say how to make a vector of a text.
    """
    if teacher.pooling is None:
        raise InputError(
            f"{teacher.source} does not say how to make a sentence vector (no modules.json), so "
            "there is no fidelity to measure. Leave min_fidelity out, or use a sentence encoder."
        )
    return teacher.pooling


def held_out_fidelity(
    teacher: Checkpoint, records: RecordSet, count: int
) -> HeldOutFidelity | None:
    """Prepares the measurement where teacher and text allow it.

    Returns:
        It; None for a teacher without pooling or, with a warning, too little held-out text.
    """
    if teacher.pooling is None:
        return None
    try:
        check_measurable(teacher, records, count)
    except InputError as error:
        logging.warning("Fidelity to the teacher is not measured: %s", error)
        return None
    return HeldOutFidelity(teacher, records, count)
