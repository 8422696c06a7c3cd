"""What a comparison will cost, before it starts."""

import dataclasses

from etd_tf.checkpoints import Checkpoint
from etd_tf.jobs.compare_arm import RESULT_FILE
from etd_tf.jobs.compare_arms import ARMS
from etd_tf.jobs.compare_study import check_comparison, workspace_of
from etd_tf.jobs.compare_tasks import fingerprint_tasks
from etd_tf.jobs.compare_types import CompareOptions, RunSpec
from etd_tf.jobs.cost import STEP_EFFICIENCY, measure_gemm_rate
from etd_tf.jobs.extraction_costs import compensation_flops, scores_flops
from etd_tf.modeling.config import BertConfig
from etd_tf.reporting import numbers, training_flops

_FLOAT_BYTES = 4
_START_SECONDS = 10.0  # of a run: models are built and its step is compiled


@dataclasses.dataclass(frozen=True)
class ComparisonForecast:
    """Expected cost of a comparison.

    Attributes:
        runs: Runs asked for.
        finished: Those of them that are finished already.
        flops: Operations of the others, scoring and compensation included.
        evaluation_flops: Operations of measuring their held-out losses.
        disk_bytes: Students that will be kept.
        seconds: Expected time, downstream tasks not included.
        peak_flops: Matrix-product rate measured just now, FLOP/s.
    """

    runs: int
    finished: int
    flops: int
    evaluation_flops: int
    disk_bytes: int
    seconds: float
    peak_flops: float


def _training(options: CompareOptions, teacher: Checkpoint, config: BertConfig) -> int:
    trainer = options.base.trainer
    return training_flops(
        teacher.config,
        config,
        sequences=trainer.steps * trainer.batch_size,
        sequence_length=options.base.corpus.sequence_length,
    )


def forecast_comparison(options: CompareOptions) -> ComparisonForecast:
    """Checks a comparison as far as possible without long work, and forecasts its cost.

    Args:
        options: The settings.

    Returns:
        The forecast; times are rough.

    Raises:
        InputError: A run could not be made.
    """
    workspace = workspace_of(options)
    workspace.check()
    fingerprint_tasks(options.downstream)  # only for its checks
    teacher, configs = check_comparison(options)
    missing = {
        spec: config
        for spec, config in configs.items()
        if not (workspace.path / spec.folder / RESULT_FILE).exists()
    }
    training = sum(_training(options, teacher, config) for config in missing.values())
    flops = training + _scoring(options, teacher, missing)
    evaluation = sum(_evaluation(options, teacher, config) for config in missing.values())
    parameters = sum(
        config.num_parameters(pooler=teacher.has_pooler, mlm_head=teacher.mlm_head is not None)
        for config in missing.values()
    )
    # A run's cost counts the teacher, which really runs once for each group.
    teacher_flops = _step_sequences(options) * teacher.config.flops(
        options.base.corpus.sequence_length
    )
    shared = teacher_flops * (len(missing) - len(options.groups(list(missing))))
    peak = measure_gemm_rate()
    return ComparisonForecast(
        runs=len(configs),
        finished=len(configs) - len(missing),
        flops=flops,
        evaluation_flops=evaluation,
        disk_bytes=_FLOAT_BYTES * len(options.snapshots) * parameters,
        seconds=_START_SECONDS * len(missing)
        + (flops - shared + evaluation) / (peak * STEP_EFFICIENCY),
        peak_flops=peak,
    )


def describe_forecast(forecast: ComparisonForecast) -> str:
    """Formats a forecast.

    Args:
        forecast: The forecast.

    Returns:
        Text of several lines.
    """
    finished = f" ({forecast.finished} finished)" if forecast.finished else ""
    rate = numbers.flops(forecast.peak_flops)
    rows = {
        "runs": f"{forecast.runs}{finished}",
        "distillation": f"{numbers.flops(forecast.flops)} with scoring",
        "held-out loss": numbers.flops(forecast.evaluation_flops),
        "students": f"{numbers.size(forecast.disk_bytes)} on disk",
        "expected time": f"{numbers.seconds(forecast.seconds)} at {rate}/s measured now (rough), "
        "without downstream tasks",
    }
    return "".join(f"  {name:<14} {value}\n" for name, value in rows.items())


def _scoring(
    options: CompareOptions, teacher: Checkpoint, missing: dict[RunSpec, BertConfig]
) -> int:
    arms = [ARMS[spec.arm] for spec in missing]
    extraction = options.base.extraction
    amount = {
        "sequences": extraction.importance_examples,
        "sequence_length": options.base.corpus.sequence_length,
    }
    metrics = {arm.metric for arm in arms if arm.extraction == "impt"}
    scoring = sum(
        scores_flops(metric, extraction.importance_loss, teacher, **amount) for metric in metrics
    )
    return scoring + sum(
        compensation_flops(teacher.config, config, **amount)
        for spec, config in missing.items()
        if ARMS[spec.arm].compensation
    )


def _step_sequences(options: CompareOptions) -> int:
    return options.base.trainer.steps * options.base.trainer.batch_size


def _evaluation(options: CompareOptions, teacher: Checkpoint, config: BertConfig) -> int:
    length = options.base.corpus.sequence_length
    sequences = options.held_out_batches * options.base.trainer.batch_size
    points = len(options.evaluations()) + 1
    return points * sequences * (teacher.config.flops(length) + config.flops(length))
