"""The GLUE tasks as data: files, columns, labels and metrics of each.

Source: Wang et al. 2018 (arXiv 1804.07461), and the headers of the distributed files.
"""

import dataclasses
from collections.abc import Mapping

from etd_tf.errors import InputError

_COLA_COLUMNS = ("source", "label", "mark", "sentence")

MIN_SCORE, MAX_SCORE = 0.0, 5.0
"""Range of STS-B's similarity scores."""


@dataclasses.dataclass(frozen=True)
class SplitFile:
    """One file of a task.

    Attributes:
        path: Relative to the GLUE directory.
        tfds: Name of the same split in TensorFlow Datasets.
        columns: Column names where the file has no header line, else empty.
        submission: Name of the prediction file that the GLUE server expects for this
            split, or empty for labelled splits.
    """

    path: str
    tfds: str
    columns: tuple[str, ...] = ()
    submission: str = ""


@dataclasses.dataclass(frozen=True)
class GlueTask:
    """What distinguishes one task from the others.

    Attributes:
        name: Name on the command line and in TensorFlow Datasets, e.g. `"sst2"`.
        title: GLUE's own spelling, e.g. `"SST-2"`.
        texts: TSV columns of the one or two texts.
        tfds_texts: The same in TensorFlow Datasets.
        label_column: TSV column of the label.
        labels: Label names in class order, each with its spelling in TSV files and in
            predictions; empty for regression.
        metrics: Names for `evaluation.metrics`; the first one ranks models.
        files: `SplitFile` by split name.
        skip_malformed: Rows with missing fields are part of the distributed files
            (QQP); they are skipped and counted instead of refused.
    """

    name: str
    title: str
    texts: tuple[str, ...]
    tfds_texts: tuple[str, ...]
    label_column: str
    labels: tuple[tuple[str, str], ...]
    metrics: tuple[str, ...]
    files: Mapping[str, SplitFile]
    skip_malformed: bool = False

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number (STS-B)."""
        return not self.labels

    @property
    def label_names(self) -> tuple[str, ...]:
        """Label names in class order; empty for regression."""
        return tuple(name for name, _ in self.labels)

    @property
    def evaluation_splits(self) -> tuple[str, ...]:
        """Labelled splits that results are reported on."""
        return tuple(split for split in self.files if split.startswith("dev"))

    @property
    def test_splits(self) -> tuple[str, ...]:
        """Unlabelled splits that the GLUE server scores."""
        return tuple(split for split, file in self.files.items() if file.submission)


def _files(
    folder: str, *, columns: tuple[str, ...] = (), submission: str = ""
) -> dict[str, SplitFile]:
    return {
        "train": SplitFile(f"{folder}/train.tsv", "train", columns),
        "dev": SplitFile(f"{folder}/dev.tsv", "validation", columns),
        "test": SplitFile(f"{folder}/test.tsv", "test", submission=submission or folder),
    }


def _numbered(*names: str) -> tuple[tuple[str, str], ...]:
    """Labels that the files write as 0, 1, ..."""
    return tuple((name, str(index)) for index, name in enumerate(names))


def _spelled(*names: str) -> tuple[tuple[str, str], ...]:
    """Labels that the files write as words."""
    return tuple((name, name) for name in names)


_PAIR = ("sentence1", "sentence2")
_NLI = ("entailment", "neutral", "contradiction")
_MNLI_FILES = {
    "train": SplitFile("MNLI/train.tsv", "train"),
    "dev_matched": SplitFile("MNLI/dev_matched.tsv", "validation_matched"),
    "dev_mismatched": SplitFile("MNLI/dev_mismatched.tsv", "validation_mismatched"),
    "test_matched": SplitFile("MNLI/test_matched.tsv", "test_matched", submission="MNLI-m"),
    "test_mismatched": SplitFile(
        "MNLI/test_mismatched.tsv", "test_mismatched", submission="MNLI-mm"
    ),
}
_AX_FILES = {"test": SplitFile("diagnostic/diagnostic.tsv", "test", submission="AX")}

GLUE_TASKS: dict[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask(
            "cola",
            "CoLA",
            ("sentence",),
            ("sentence",),
            "label",
            _numbered("unacceptable", "acceptable"),
            ("matthews", "accuracy"),
            _files("CoLA", columns=_COLA_COLUMNS),
        ),
        GlueTask(
            "sst2",
            "SST-2",
            ("sentence",),
            ("sentence",),
            "label",
            _numbered("negative", "positive"),
            ("accuracy",),
            _files("SST-2"),
        ),
        GlueTask(
            "mrpc",
            "MRPC",
            ("#1 String", "#2 String"),
            _PAIR,
            "Quality",
            _numbered("not_equivalent", "equivalent"),
            ("f1", "accuracy"),
            _files("MRPC"),
        ),
        GlueTask(
            "stsb", "STS-B", _PAIR, _PAIR, "score", (), ("spearman", "pearson"), _files("STS-B")
        ),
        GlueTask(
            "qqp",
            "QQP",
            ("question1", "question2"),
            ("question1", "question2"),
            "is_duplicate",
            _numbered("not_duplicate", "duplicate"),
            ("f1", "accuracy"),
            _files("QQP"),
            skip_malformed=True,
        ),
        GlueTask(
            "mnli",
            "MNLI",
            _PAIR,
            ("premise", "hypothesis"),
            "gold_label",
            _spelled(*_NLI),
            ("accuracy",),
            _MNLI_FILES,
        ),
        GlueTask(
            "qnli",
            "QNLI",
            ("question", "sentence"),
            ("question", "sentence"),
            "label",
            _spelled("entailment", "not_entailment"),
            ("accuracy",),
            _files("QNLI"),
        ),
        GlueTask(
            "rte",
            "RTE",
            _PAIR,
            _PAIR,
            "label",
            _spelled("entailment", "not_entailment"),
            ("accuracy",),
            _files("RTE"),
        ),
        GlueTask(
            "wnli",
            "WNLI",
            _PAIR,
            _PAIR,
            "label",
            _numbered("not_entailment", "entailment"),
            ("accuracy",),
            _files("WNLI"),
        ),
        GlueTask(
            "ax",
            "AX",
            _PAIR,
            ("premise", "hypothesis"),
            "",
            _spelled(*_NLI),
            ("matthews",),
            _AX_FILES,
        ),
    )
}
"""All tasks by name. AX is test only and is predicted by a model trained on MNLI."""


def glue_task(name: str) -> GlueTask:
    """Finds a task.

    Args:
        name: As in `GLUE_TASKS`; case and hyphens do not matter.

    Returns:
        The task.

    Raises:
        InputError: There is no such task.
    """
    task = GLUE_TASKS.get(name.lower().replace("-", ""))
    if task is None:
        raise InputError(f"Unknown GLUE task {name!r}. Tasks: {', '.join(GLUE_TASKS)}.")
    return task
