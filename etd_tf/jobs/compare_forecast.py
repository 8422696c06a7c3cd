"""What a comparison will cost, before it starts."""

from etd_tf.jobs.compare_runs import is_finished
from etd_tf.jobs.compare_study import check_comparison, workspace_of
from etd_tf.jobs.compare_tasks import fingerprint_tasks
from etd_tf.jobs.compare_types import CompareOptions
from etd_tf.jobs.costs import ComparisonForecast, forecast_runs
from etd_tf.reporting import numbers


def forecast_comparison(options: CompareOptions) -> ComparisonForecast:
    """Checks a comparison as far as possible without long work, and forecasts its cost.

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
        if not is_finished(workspace.path / spec.folder)
    }
    return forecast_runs(options, teacher, missing, finished=len(configs) - len(missing))


def describe_forecast(forecast: ComparisonForecast) -> str:
    """Formats a forecast."""
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
