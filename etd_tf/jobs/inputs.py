"""What a job reads: the corpus, the tokenizer and the batches of the training run."""

import dataclasses

import tensorflow as tf

from etd_tf.checkpoints import Checkpoint
from etd_tf.data.batches import Worker, make_batches
from etd_tf.data.masking import Masking, mask_tokens
from etd_tf.data.prepare import RecordOptions, cached_records
from etd_tf.data.records import RecordSet
from etd_tf.data.tokenizer import Tokenizer
from etd_tf.errors import InputError
from etd_tf.jobs.options import CorpusOptions
from etd_tf.types import Tensor

_HELD_OUT_SEED_OFFSET = 1_000_003  # held-out masking must not repeat the training run's


def with_tokenizer(teacher: Checkpoint, directory: str | None) -> Checkpoint:
    """Gives the teacher the tokenizer of `directory`, or keeps its own.

    Raises:
        InputError: There is no tokenizer, or it does not match the vocabulary.
    """
    if directory is not None:
        teacher = dataclasses.replace(teacher, tokenizer=Tokenizer.from_directory(directory))
    if teacher.tokenizer is None:
        raise InputError(
            f"{teacher.source} holds no tokenizer (vocab.txt or tokenizer.json). Name the "
            "directory of the right one with --tokenizer."
        )
    return teacher


def prepare_corpus(options: CorpusOptions, teacher: Checkpoint, *, seed: int) -> RecordSet:
    """Tokenises the corpus, or finds it in the cache.

    Raises:
        InputError: The text cannot be read or is too short to hold a share out.
    """
    if teacher.tokenizer is None:
        raise InputError(f"{teacher.source} holds no tokenizer.")
    return cached_records(
        options.corpus,
        teacher.tokenizer,
        options=RecordOptions(sequence_length=options.sequence_length, seed=seed),
        validation_corpus=options.validation_corpus or None,
        cache_dir=options.cache_dir,
    )


def masked_batches(
    records: RecordSet,
    teacher: Checkpoint,
    *,
    rate: float,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    num_workers: int = 1,
    worker_index: int = 0,
) -> tf.data.Dataset:
    """The training batches from a step on, masked where `rate` is above 0.

    Args:
        records: The text.
        teacher: Whose tokenizer made it.
        rate: Share of tokens to mask.
        batch_size: Examples a step over all workers.
        seed: Seed of order and masking.
        start_step: First step.
        num_workers: Worker processes.
        worker_index: This one.

    Returns:
        Endless dataset of this worker's share of each batch.
    """
    batches = make_batches(
        records,
        batch_size=batch_size,
        seed=seed,
        start_step=start_step,
        worker=Worker(worker_index, num_workers),
    )
    if rate <= 0:
        return batches
    first_row = worker_index * (batch_size // num_workers)
    return mask_dataset(
        batches, teacher, rate=rate, seed=seed, start_step=start_step, first_row=first_row
    )


def mask_held_out(
    batches: tf.data.Dataset, teacher: Checkpoint, *, rate: float, seed: int
) -> tf.data.Dataset:
    """Masks held-out batches, the same way every time."""
    return mask_dataset(batches, teacher, rate=rate, seed=seed + _HELD_OUT_SEED_OFFSET)


def mask_dataset(
    batches: tf.data.Dataset,
    teacher: Checkpoint,
    *,
    rate: float,
    seed: int,
    start_step: int = 0,
    first_row: int = 0,
) -> tf.data.Dataset:
    """Masks each batch by (seed, step) and adds the masked-LM targets."""
    if teacher.tokenizer is None:
        raise InputError(f"{teacher.source} holds no tokenizer.")
    masking = Masking.from_tokenizer(teacher.tokenizer, rate=rate)

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

    return batches.enumerate(start_step).map(mask)
