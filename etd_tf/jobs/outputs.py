"""What a finished distillation leaves behind: student, exports, report."""

from etd_tf import __version__
from etd_tf.checkpoints import Checkpoint
from etd_tf.checkpoints.cards import CARD_FILE, short_name
from etd_tf.evaluation.latency import LatencyComparison, compare_latency
from etd_tf.export import FORMATS, Export
from etd_tf.export.huggingface import HuggingFace
from etd_tf.extraction.starts import Amount, InitialStudent, Work, sample_size
from etd_tf.jobs.cards import distilled_card
from etd_tf.jobs.costs import training_flops
from etd_tf.jobs.distill_types import DistillOptions, DistillResult
from etd_tf.reporting import (
    Check,
    Cost,
    ExtractionFacts,
    RunReport,
    Stage,
    describe_machine,
    make_curves,
    model_facts,
    write_report,
)
from etd_tf.reporting.facts import command_line, now
from etd_tf.storage.atomic import write_atomically
from etd_tf.text.records import TRAIN, VALIDATION, RecordSet
from etd_tf.training.metrics_log import read_metrics

STUDENT = HuggingFace.folder
"""Where in the run directory the student is."""
_LATENCY_BATCHES = (1, 32)


def write_outputs(
    options: DistillOptions,
    result: DistillResult,
    latency: tuple[LatencyComparison, ...] | None = None,
) -> RunReport:
    """Saves the student in every format asked for, measures it and writes the report.

    The report comes last: its presence marks a finished run.
    """
    forms = [name for name, form in FORMATS.items() if not form.optional]
    exports = tuple(_export(result, name) for name in (*forms, *options.exports))
    if latency is None:
        length = result.records.sequence_length
        latency = measure_latencies(result.teacher, result.student, length)
    report = make_report(options, result, exports, latency)
    card = distilled_card(options, result, report)
    write_atomically(result.run_dir / STUDENT / CARD_FILE, card)
    write_report(result.run_dir, report)
    return report


def _export(result: DistillResult, name: str) -> Export:
    form = FORMATS[name]()
    return form.write(result.student, result.run_dir / form.folder, overwrite=True)


def make_report(
    options: DistillOptions,
    result: DistillResult,
    exports: tuple[Export, ...],
    latency: tuple[LatencyComparison, ...],
) -> RunReport:
    """Collects the facts of a run."""
    length = result.records.sequence_length
    student = model_facts(
        result.student, sequence_length=length, source=str(result.run_dir / STUDENT)
    )
    name = short_name(options.teacher)
    return RunReport(
        title=f"{name}: {student.num_layers} layers of {student.hidden_size}",
        created=now(),
        command=command_line("etd_distill", options.flags),
        sequence_length=length,
        teacher=model_facts(result.teacher, sequence_length=length),
        student=student,
        extraction=_extraction_facts(options, result.initial),
        loss=options.loss_text,
        latency=latency,
        curves=make_curves(read_metrics(result.run_dir / "metrics.jsonl")),
        cost=_cost(options, result),
        machine=describe_machine(),
        data=data_facts(options, result.records),
        checks=tuple(
            Check(f"{export.format}, loaded back", export.max_difference, limit)
            for export in exports
            if (limit := FORMATS[export.format].limit) is not None
            and export.max_difference is not None
        ),
        exports=exports,
        fidelity=result.fidelity,
        flags={**options.flags, "etd_tf version": __version__},
    )


def _extraction_facts(options: DistillOptions, initial: InitialStudent) -> ExtractionFacts:
    method = options.extraction.start.title
    if initial.plan is None:
        return ExtractionFacts(method)
    scores = initial.scores
    return ExtractionFacts(
        method,
        teacher_layers=initial.plan.layers,
        head_mode=initial.plan.head_mode,
        scores=f"{scores.metric}, {scores.loss} loss" if scores else "",
        scored_sequences=scores.num_examples if scores else 0,
    )


def _cost(options: DistillOptions, result: DistillResult) -> Cost:
    length, steps = result.records.sequence_length, result.training.steps
    sequences = steps * options.trainer.batch_size
    teacher, student, initial = result.teacher, result.student.config, result.initial
    size = sample_size(result.records, options.extraction)
    cached = result.records.teacher_vectors is not None
    before = options.extraction.start.flops(
        Work(teacher, student, options.extraction), Amount(size, length), initial.scores
    )
    return Cost(
        before=tuple(
            Stage(name, flops, initial.seconds.get(name, 0.0)) for name, flops in before.items()
        ),
        training_flops=training_flops(
            teacher.config,
            student,
            sequences=sequences,
            sequence_length=length,
            taught=result.records.num_examples(TRAIN) if cached else None,
        ),
        training_seconds=result.training.seconds,
        training_steps=steps,
        training_sequences=sequences,
        tokens_per_second=result.training.tokens_per_second,
    )


def data_facts(options: DistillOptions, records: RecordSet) -> dict[str, str | int | float]:
    """Tells the text of a run, by name."""
    facts: dict[str, str | int | float] = {
        "corpus": ", ".join(options.corpus.corpus),
        "sequence length": records.sequence_length,
        "training sequences": records.num_examples(TRAIN),
    }
    if records.shards.get(VALIDATION):
        size = options.trainer.batch_size
        used = -(-options.held_out_sequences // size) * size  # whole batches
        facts["held-out sequences"] = min(records.num_examples(VALIDATION), used)
    return facts


def measure_latencies(
    teacher: Checkpoint, student: Checkpoint, sequence_length: int
) -> tuple[LatencyComparison, ...]:
    """Times both models on a sequence and on a batch.

    Returns:
        The times by batch size, the smallest first.
    """
    return tuple(
        compare_latency(
            teacher, student, batch_size=batch, sequence_length=sequence_length, repeats=10
        )
        for batch in _LATENCY_BATCHES
    )
