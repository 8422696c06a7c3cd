"""Tiny teachers, students and batches for tests of the Distiller."""

import keras
import numpy as np
import tensorflow as tf

from tests.helpers import random_batch, tiny_checkpoint


def make_teacher(**changes):
    return tiny_checkpoint(0, **{"mlm_head": True, "num_layers": 2, **changes})


def make_student(dtype=None, **changes):
    sizes = {"num_layers": 1, "hidden_size": 9, "intermediate_size": 8, "hidden_dropout": 0.0}
    student = tiny_checkpoint(1, **{"mlm_head": True, "attention_dropout": 0.0, **sizes, **changes})
    return student if dtype is None else student.astype(dtype)


def make_batch(size=4, seed=0):
    batch = random_batch(make_teacher().config, batch_size=size, seed=seed)
    generator = np.random.default_rng(seed)
    batch["masked_lm_positions"] = np.tile(np.int32([0, 2]), (size, 1))
    batch["masked_lm_ids"] = generator.integers(0, 80, (size, 2)).astype(np.int32)
    batch["masked_lm_weights"] = np.tile(np.float32([1, 0]), (size, 1))
    return batch


def make_dataset(batches=4, size=4):
    parts = [make_batch(size, seed) for seed in range(batches)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return tf.data.Dataset.from_tensor_slices(whole).batch(size)


def compiled(distiller, optimizer=None, **options):
    if optimizer is None:
        optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.1)
    distiller.compile(optimizer=optimizer, jit_compile=options.pop("jit_compile", False), **options)
    return distiller
