"""Tasks: what models are measured on, with their data, metrics and prediction files."""

from typing import Any

from etd_tf.errors import InputError
from etd_tf.lazy import lazy_names
from etd_tf.tasks.fidelity import FidelityTask
from etd_tf.tasks.glue import GLUE_TASKS
from etd_tf.tasks.own import Classify, OwnFiles, OwnTask, Pairs, Regress
from etd_tf.tasks.probe import StsProbe
from etd_tf.tasks.retrieval import Retrieval, SquadRetrieval
from etd_tf.tasks.squad import SquadV1, SquadV2
from etd_tf.tasks.tag import Tag
from etd_tf.tasks.task import ScoredTask, Task, TrainedTask
from etd_tf.tasks.text_task import Examples, TextTask

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        StsProbe(),
        FidelityTask(),
        Retrieval(),
        SquadRetrieval(),
        *(task for task in GLUE_TASKS.values() if task.evaluation_splits),
        SquadV1(),
        SquadV2(),
        Classify(),
        Pairs(),
        Regress(),
        Tag(),
    )
}
"""Every task that a command can be given, by name."""


def get(name: str, **options: Any) -> Task:
    """Finds a task.

    Args:
        name: A name in `TASKS`.
        **options: Its options, e.g. `glue_dir="glue"`.

    Returns:
        The task with these options.

    Raises:
        InputError: The name or an option is unknown, or an option's value is not valid.
    """
    if name not in TASKS:
        raise InputError(f"task={name} is unknown; choose from {', '.join(TASKS)}.")
    return TASKS[name].configured(options)


_HOMES = {
    "compare_sts": "probe",
    "compute_metrics": "metrics",
    "exact_match": "squad_metrics",
    "f1_score": "squad_metrics",
    "score_predictions": "squad_metrics",
    "sentence_embeddings": "probe",
    "sts_probe": "probe",
}

__all__ = [  # noqa: PLE0604
    *_HOMES,
    "GLUE_TASKS",
    "TASKS",
    "Classify",
    "Examples",
    "FidelityTask",
    "OwnFiles",
    "OwnTask",
    "Pairs",
    "Regress",
    "Retrieval",
    "ScoredTask",
    "SquadRetrieval",
    "StsProbe",
    "Tag",
    "Task",
    "TextTask",
    "TrainedTask",
    "get",
]
__getattr__ = lazy_names(__name__, _HOMES)
