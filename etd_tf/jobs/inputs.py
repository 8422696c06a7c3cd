"""What a job reads: the corpus, the tokenizer and the batches of the training run."""

import dataclasses
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging

from etd_tf.checkpoints import Checkpoint
from etd_tf.distillation.teacher_vectors import with_teacher_vectors
from etd_tf.errors import InputError
from etd_tf.jobs.options import CorpusOptions
from etd_tf.storage.sources import resolve_source
from etd_tf.text.batches import (
    Worker,
    evaluation_batches,
    examples_of_evaluation,
    examples_of_steps,
    make_batches,
)
from etd_tf.text.corpus import open_corpus
from etd_tf.text.masking import Masking, mask_tokens
from etd_tf.text.options import RecordOptions
from etd_tf.text.prepare import cached_records, check_validation_corpus
from etd_tf.text.record_directories import check_records
from etd_tf.text.records import TRAIN, VALIDATION, RecordSet
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.training.options import TrainerOptions
from etd_tf.types import Tensor

_FEW_HELD_OUT = 100  # sequences; means of fewer move by some percent with the sample
_HELD_OUT_SEED_OFFSET = 1_000_003  # held-out masking must not repeat the training run's
_READY = 2  # batches masked before they are needed


def with_tokenizer(teacher: Checkpoint, directory: str | None) -> Checkpoint:
    """Gives the teacher the tokenizer of a model's or a tokenizer's directory, or keeps its own.

    Raises:
        InputError: There is no tokenizer, or it does not match the vocabulary.
    """
    if directory is not None:
        teacher = teacher.replace(tokenizer=Tokenizer.from_directory(resolve_source(directory)))
    if teacher.tokenizer is None:
        raise InputError(
            f"{teacher.source} holds no tokenizer (vocab.txt or tokenizer.json). Give the "
            "directory of the right one as tokenizer=DIR."
        )
    return teacher


def prepare_corpus(options: CorpusOptions, teacher: Checkpoint) -> RecordSet:
    """Tokenises the corpus, or finds it in the cache.

    The held-out share does not depend on a run's seed, so that runs can be compared.

    Raises:
        InputError: The text cannot be read or is too short to hold a share out.
    """
    if teacher.tokenizer is None:
        raise InputError(f"{teacher.source} holds no tokenizer.")
    records = cached_records(
        options.corpus,
        teacher.tokenizer,
        options=RecordOptions(sequence_length=options.sequence_length),
        validation_corpus=options.validation_corpus or None,
        cache_dir=options.cache_dir,
    )
    return dataclasses.replace(records, num_segments=teacher.config.type_vocab_size)


def check_corpus(options: CorpusOptions) -> None:
    """Reads the beginning of every file: the first document, or the first record.

    Raises:
        InputError: One is missing, or holds something else.
    """
    if options.is_text:
        open_corpus(options.corpus).check()
    elif len(options.corpus) == 1:
        check_records(options.corpus[0], options.sequence_length)
    check_validation_corpus(options.corpus, options.validation_corpus)
    if options.validation_corpus:
        open_corpus(options.validation_corpus).check()


def identity_of(teacher: Checkpoint, records: RecordSet) -> dict[str, Any]:
    """What tells teacher and text from others of the same names, as JSON values."""
    return {"teacher": teacher.fingerprint(), "text": records_identity(records)}


def records_identity(records: RecordSet) -> dict[str, Any]:
    """What tells some records from others, as JSON values."""
    keys = ("options", "tokenizer", "corpus", "validation_corpus")
    if records.manifest:
        return {key: records.manifest.get(key) for key in keys}
    return {
        split: [[shard.path.name, shard.num_records] for shard in shards]
        for split, shards in records.shards.items()
    }


@dataclasses.dataclass(frozen=True)
class TrainingText:
    """The batches of a training run, masked where `masking_rate` is above 0.

    Attributes:
        records: The text.
        teacher: Whose tokenizer made it.
        masking_rate: Share of the tokens to mask.
        trainer: Gives the batch size, and the seed of order and masking.
        similar_lengths: Whether texts of similar length share a batch.
    """

    records: RecordSet
    teacher: Checkpoint
    masking_rate: float
    trainer: TrainerOptions
    similar_lengths: bool = False

    def with_teacher_vectors(
        self, cache_dir: Path, held_out_sequences: int, dtype: Any = None
    ) -> "TrainingText":
        """Adds the teacher's sentence vectors of all examples that a run reads.

        Args:
            cache_dir: Where they are kept for other runs.
            held_out_sequences: As for `held_out`.
            dtype: Keras dtype policy of the teacher.

        Returns:
            Text whose batches have the vectors.
        """
        records, size = self.records, self.trainer.batch_size
        count = records.num_examples(TRAIN)
        steps, seed, similar = self.trainer.steps, self.trainer.seed, self.similar_lengths
        rows = examples_of_steps(steps, size, count, seed=seed, similar_lengths=similar)
        needed = {TRAIN: rows}
        if records.shards.get(VALIDATION):
            count = records.num_examples(VALIDATION)
            needed[VALIDATION] = examples_of_evaluation(held_out_sequences, size, count)
        found = with_teacher_vectors(
            records, self.teacher, needed, cache_dir=cache_dir, dtype=dtype
        )
        return dataclasses.replace(self, records=found)

    def batches(
        self, start_step: int = 0, num_workers: int = 1, worker_index: int = 0
    ) -> tf.data.Dataset:
        """The training batches from a step on.

        Args:
            start_step: First step.
            num_workers: Worker processes.
            worker_index: This one.

        Returns:
            Endless dataset of this worker's share of each batch.
        """
        size, seed = self.trainer.batch_size, self.trainer.seed
        batches = make_batches(
            self.records,
            batch_size=size,
            seed=seed,
            start_step=start_step,
            worker=Worker(worker_index, num_workers),
            similar_lengths=self.similar_lengths,
        )
        if self.masking_rate <= 0:
            return batches
        first_row = worker_index * (size // num_workers)
        return self._mask(batches, seed=seed, start_step=start_step, first_row=first_row)

    def held_out(self, sequences: int) -> tf.data.Dataset | None:
        """Held-out batches, always the same ones and masked the same way.

        Args:
            sequences: How many, rounded up to whole batches; of a large corpus all of them
                would take longer than the training.

        Returns:
            Finite dataset, kept in memory once read; None without a validation split.
        """
        if not self.records.shards.get(VALIDATION):
            return None
        found = min(sequences, self.records.num_examples(VALIDATION))
        if found < _FEW_HELD_OUT:
            logging.warning(
                "Losses are measured on %d held-out sequences only, so small differences mean "
                "nothing. Give more text, or held-out text of its own.",
                found,
            )
        size = self.trainer.batch_size
        batches = evaluation_batches(self.records, batch_size=size, split=VALIDATION)
        batches = batches.take(-(-sequences // size))
        if self.masking_rate > 0:
            batches = self._mask(batches, seed=self.trainer.seed + _HELD_OUT_SEED_OFFSET)
        return batches.cache()

    def _mask(
        self, batches: tf.data.Dataset, *, seed: int, start_step: int = 0, first_row: int = 0
    ) -> tf.data.Dataset:
        """Masks each batch by (seed, step, row) and adds the masked-LM targets."""
        if self.teacher.tokenizer is None:
            raise InputError(f"{self.teacher.source} holds no tokenizer.")
        masking = Masking.from_tokenizer(self.teacher.tokenizer, rate=self.masking_rate)

        def mask(step: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            masked = mask_tokens(
                batch["token_ids"],
                batch["padding_mask"],
                masking=masking,
                seed=seed,
                step=step,
                first_row=first_row,
            )
            return {
                **batch,
                "token_ids": masked.token_ids,
                "masked_lm_positions": masked.positions,
                "masked_lm_ids": masked.labels,
                "masked_lm_weights": masked.weights,
            }

        return batches.enumerate(start_step).map(mask).prefetch(_READY)
