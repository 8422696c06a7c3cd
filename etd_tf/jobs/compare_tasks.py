"""The downstream tasks of a comparison: which, trained how, on which data."""

import dataclasses
import hashlib
from collections.abc import Iterator

from etd_tf.errors import InputError
from etd_tf.evaluation.finetuning import FinetuneOptions
from etd_tf.jobs.evaluate import STS_PROBE
from etd_tf.tasks.glue_data import load_glue
from etd_tf.tasks.glue_tasks import glue_task
from etd_tf.tasks.squad import SquadExperiment
from etd_tf.tasks.squad_data import SQUAD_SPLITS, load_squad


@dataclasses.dataclass(frozen=True)
class DownstreamOptions:
    """What the students are tried on besides the held-out loss.

    Attributes:
        tasks: `"sts-probe"`, `"glue/NAME"` and `"squad/VERSION"`.
        glue_dir: Where GLUE is, STS-B for the probe included.
        squad_dir: Where SQuAD is.
        finetune: How students are trained on tasks of GLUE and, but for the epochs, SQuAD.
        squad_epochs: Passes over SQuAD, which is larger than most tasks of GLUE.
        finetune_at: Percentages of the steps whose students are fine-tuned.
    """

    tasks: tuple[str, ...] = ()
    glue_dir: str = ""
    squad_dir: str = ""
    finetune: FinetuneOptions = dataclasses.field(default_factory=FinetuneOptions)
    squad_epochs: int = 2
    finetune_at: tuple[int, ...] = (100,)

    def __post_init__(self) -> None:
        if len(set(self.tasks)) != len(self.tasks):
            raise InputError(f"--tasks={','.join(self.tasks)}: expected none twice.")
        trained = ("glue/", "squad/")
        wrong = [t for t in self.tasks if t != STS_PROBE and not t.startswith(trained)]
        if wrong:
            raise InputError(
                f"--tasks={','.join(wrong)} is unknown; use {STS_PROBE}, glue/NAME or squad/v1.1."
            )
        for name, layout in (("glue_dir", "GLUE's own layout"), ("squad_dir", "SQuAD's files")):
            lack = [task for task in self.tasks if _data_flag(task) == name]
            if lack and not getattr(self, name):
                raise InputError(
                    f"--tasks={','.join(lack)} needs its data: pass --{name}=DIR with {layout}, "
                    f"or --{name}=tfds."
                )

    def data_dir(self, task: str) -> str:
        """Where a task's data is."""
        return str(getattr(self, _data_flag(task)))

    def finetuning(self, task: str) -> FinetuneOptions:
        """How students are trained on a task."""
        if not task.startswith("squad/"):
            return self.finetune
        return dataclasses.replace(self.finetune, epochs=self.squad_epochs)


def _data_flag(task: str) -> str:
    return "squad_dir" if task.startswith("squad/") else "glue_dir"


def fingerprint_tasks(options: DownstreamOptions) -> dict[str, str]:
    """Reads the tasks' labelled data, so that what is missing or another shows at once.

    Args:
        options: The tasks.

    Returns:
        By task a SHA-256 of its data.

    Raises:
        InputError: A task is unknown, or its data cannot be read.
    """
    return {
        task: hashlib.sha256("".join(_split_fingerprints(options, task)).encode()).hexdigest()
        for task in options.tasks
    }


def _split_fingerprints(options: DownstreamOptions, task: str) -> Iterator[str]:
    family, _, name = task.partition("/")
    if family == "squad":
        for split in SQUAD_SPLITS:
            yield load_squad(name, split, options.squad_dir).fingerprint()
        return
    known = glue_task("stsb" if task == STS_PROBE else name)
    training = () if task == STS_PROBE else ("train",)
    for split in (*training, *known.evaluation_splits):
        yield load_glue(known, split, options.glue_dir).fingerprint()


def task_metric(task: str) -> str:
    """Name of the metric that ranks models on a task."""
    family, _, name = task.partition("/")
    if family == "squad":
        return SquadExperiment.metric
    return "spearman" if task == STS_PROBE else glue_task(name).metrics[0]
