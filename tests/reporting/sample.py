"""A report with every part filled, shared by the tests of reporting."""

import math
from typing import Any

from etd_tf.evaluation.latency import LatencyComparison, LatencyStats
from etd_tf.reporting import (
    Check,
    Cost,
    Curve,
    Export,
    ExtractionFacts,
    Machine,
    ModelFacts,
    RunReport,
    Stage,
)

TEACHER = ModelFacts(
    "package:teacher", 6, 384, 12, 1536, 30522, 22713216, 10646784, 2869739520, 90852864
)
STUDENT = ModelFacts("out/student", 3, 192, 12, 768, 30522, 7325376, 1334592, 371589120, 29301504)


def latency(batch_size: int, teacher_ms: float, student_ms: float) -> LatencyComparison:
    return LatencyComparison(
        LatencyStats(batch_size, 128, 20, teacher_ms, 1.1 * teacher_ms, 1e3 / teacher_ms),
        LatencyStats(batch_size, 128, 20, student_ms, 1.2 * student_ms, 1e3 / student_ms),
    )


def curves() -> tuple[Curve, ...]:
    steps = tuple(range(10, 1001, 10))
    held_out = tuple(range(0, 1001, 100))

    def decay(scale: float, at: tuple[int, ...]) -> tuple[float, ...]:
        return tuple(scale * (0.2 + math.exp(-s / 250) + 0.03 * math.sin(s)) for s in at)

    result = []
    for name, scale in (("loss", 2.0), ("attention", 1.3), ("hidden", 0.7)):
        result.append(Curve(name, "train", steps, decay(scale, steps)))
        result.append(Curve(name, "validation", held_out, decay(scale * 0.97, held_out)))
    rate = tuple(5e-4 * min(s / 100, (1000 - s) / 900) for s in steps)
    return (*result, Curve("learning_rate", "train", steps, rate))


def sample_report(**changes: Any) -> RunReport:
    fields: dict[str, Any] = {
        "title": "all-MiniLM-L6 to 3 x 192",
        "created": "2026-11-22T18:00:00+00:00",
        "command": "bin/etd_distill --flagfile=out/flags.txt",
        "sequence_length": 128,
        "teacher": TEACHER,
        "student": STUDENT,
        "extraction": ExtractionFacts(
            "ETD-Impt", (2, 4, 6), "neurons", "taylor scores, reconstruction loss", 512
        ),
        "loss": "minilm",
        "latency": (latency(1, 31.3, 6.17), latency(32, 640.2, 131.9)),
        "curves": curves(),
        "cost": Cost(
            *(127500000000000, 1384.2, 1000, 32000, 2958.4),
            before=(Stage("scoring", 4408000000000, 61.5),),
        ),
        "machine": Machine(
            "Example CPU 3.1 GHz",
            4,
            16_000_000_000,
            (),
            "Linux-6.1",
            {"python": "3.11.9", "tensorflow": "2.21.0", "keras": "3.15.1"},
        ),
        "data": {"Corpus": "stdlib:pydoc", "Documents": 3100, "Training sequences": 12345},
        "checks": (Check("student/ loaded back, sequence output", 0.0, 1e-5),),
        "exports": (
            Export("huggingface", "out/student", 29_500_000, 0.0),
            Export("saved_model", "out/saved_model/1", 32_500_000, 2.4e-7, "takes text", True),
            Export("litert", "out/exports/litert/model.tflite", 29_400_000, 3.1e-6),
        ),
        "flags": {"teacher": "package:teacher", "steps": "1000", "loss": "minilm"},
    }
    return RunReport(**(fields | changes))
