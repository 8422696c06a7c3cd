"""Results of `etd_evaluate` and `etd_transfer` as tables."""

from etd_tf.evaluation.baseline import Baselines, describe_failures
from etd_tf.evaluation.experiment import Scores, SplitScores, shares_kept
from etd_tf.evaluation.finetuning import FinetuneResult
from etd_tf.evaluation.latency import ModelCost
from etd_tf.evaluation.run_record import FINAL, HELD_OUT, SELECTION
from etd_tf.evaluation.transfer import TransferResult
from etd_tf.jobs.evaluate import EvaluationResult
from etd_tf.jobs.summary import format_table
from etd_tf.tasks import ScoredTask, TrainedTask


def describe_evaluation(result: EvaluationResult) -> str:
    """Formats everything that an evaluation found out."""
    task, blocks = result.task, []
    if isinstance(task, ScoredTask) and result.zero_shot is not None:
        blocks.append(_zero_shot(task, result.zero_shot))
    if task is not None and result.finetuned is not None:
        blocks.append(_finetuned(task.name, result.finetuned))
    if task is not None and result.scores is not None:
        blocks.append(_scores(task.name, result.scores, result.baseline))
    found = result.scores or (result.finetuned.means() if result.finetuned else None)
    if task is not None and found is not None and result.teacher is not None:
        blocks.append(_kept(task.metric, found, result.teacher))
    if result.costs is not None:
        blocks.append(_costs(result.costs))
    return "\n".join(blocks)


def _zero_shot(task: ScoredTask, scores: dict[str, Scores]) -> str:
    rows = [
        (model, *(f"{found[metric]:.4f}" if metric in found else "" for metric in task.metrics))
        for model, found in scores.items()
    ]
    header = (f"{task.label} {task.split}", *(metric.capitalize() for metric in task.metrics))
    return format_table(header, rows) + "".join(f"{remark}\n" for remark in task.remarks(scores))


def _finetuned(task: str, result: FinetuneResult) -> str:
    finals = [cell for cell in result.cells if cell.phase == FINAL]
    rows = []
    for split, metrics in result.summary.items():
        for metric, value in metrics.items():
            spread = "" if value["std"] is None else f"{value['std']:.4f}"
            seeds = " ".join(f"{v:.4f}" for v in value["values"])
            floor = _baseline(result.baseline, split, metric)
            rows.append((split, metric, f"{value['mean']:.4f}", spread, floor, seeds))
    text = format_table((task, "metric", "mean", "std", "baseline", "by seed"), rows)
    text += _failures(result.means(), result.baseline)
    text += f"learning rate {result.learning_rate:g}, {len(finals)} seed(s)\n"
    selection = [cell for cell in result.cells if cell.phase == SELECTION]
    if not selection:
        return text
    chosen = [
        (
            f"{cell.learning_rate:g}",
            str(cell.seed),
            " ".join(f"{name} {value:.4f}" for name, value in cell.scores[HELD_OUT].items())
            if cell.scores
            else "diverged",
        )
        for cell in selection
    ]
    return text + "\n" + format_table(("learning rate", "seed", "held-out part of train"), chosen)


def _baseline(baselines: Baselines, split: str, metric: str) -> str:
    found = baselines.get(split, {}).get(metric)
    return "" if found is None else f"{found.value:.4f}"


def _failures(scores: dict[str, Scores], baselines: Baselines) -> str:
    return "".join(f"{sentence}\n" for sentence in describe_failures(scores, baselines))


def _scores(task: str, scores: dict[str, Scores], baselines: Baselines) -> str:
    rows = [
        (split, metric, f"{value:.4f}", _baseline(baselines, split, metric))
        for split, metrics in scores.items()
        for metric, value in metrics.items()
    ]
    return format_table((task, "metric", "value", "baseline"), rows) + _failures(scores, baselines)


def _kept(metric: str, scores: SplitScores, teacher: SplitScores) -> str:
    """Score of model and teacher, and the share that is kept."""
    rows = [
        (
            split,
            f"{scores[split][metric]:.4f}",
            f"{teacher[split][metric]:.4f}",
            "" if share is None else f"{share:.1%}",
        )
        for split, share in shares_kept(scores, teacher, metric).items()
    ]
    return format_table((metric, "model", "teacher", "kept"), rows)


def _costs(costs: dict[str, ModelCost]) -> str:
    reference = next(iter(costs.values()))
    batches = [stats.batch_size for stats in reference.latency]
    header = (
        f"{reference.sequence_length} tokens a sequence",
        "parameters",
        "GFLOPs",
        "MB on disk",
        *(f"ms, batch {size}" for size in batches),
        *(f"speedup, batch {size}" for size in batches),
    )
    rows = [
        (
            name,
            f"{cost.parameters / 1e6:.2f} M",
            f"{cost.flops / 1e9:.3f}",
            f"{cost.bytes_on_disk / 1e6:.1f}",
            *(f"{stats.median_ms:.1f}" for stats in cost.latency),
            *(
                f"{base.median_ms / stats.median_ms:.2f}"
                for base, stats in zip(reference.latency, cost.latency, strict=True)
            ),
        )
        for name, cost in costs.items()
    ]
    return format_table(header, rows)


def describe_transfer(task: TrainedTask, result: TransferResult) -> str:
    """Formats the scores of student and teacher."""
    rows = []
    for split, metrics in result.student.summary.items():
        for metric, value in metrics.items():
            teacher, share = result.teacher[split][metric], result.kept[split]
            kept = f"{share:.1%}" if metric == task.metric and share is not None else ""
            spread = "" if value["std"] is None else f"{value['std']:.4f}"
            rows.append((split, metric, f"{value['mean']:.4f}", spread, f"{teacher:.4f}", kept))
    table = format_table((task.name, "metric", "student", "std", "teacher", "kept"), rows)
    seeds = len(next(iter(next(iter(result.student.summary.values())).values()))["values"])
    rate = result.student.learning_rate
    return f"{table}last stage {result.stage}, learning rate {rate:g}, {seeds} seed(s)\n"
