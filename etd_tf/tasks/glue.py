"""The GLUE tasks: files, columns, labels and metrics of each as data.

Source: Wang et al. 2018 (arXiv 1804.07461), and the headers of the distributed files.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from etd_tf.lazy import LazyModule
from etd_tf.settings import setting
from etd_tf.storage.atomic import write_atomically
from etd_tf.tasks.task import Task
from etd_tf.tasks.text_task import Examples, TextTask
from etd_tf.types import Array, IntArray

glue_data: Any = LazyModule("etd_tf.tasks.glue_data")  # what needs NumPy

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlueData(Task):
    """A task whose data is GLUE's.

    Attributes:
        glue_dir: The GLUE directory, or `tfds` or `tfds:DATA_DIR` for TensorFlow Datasets.
    """

    glue_dir: str | None = setting(
        None,
        "Directory with GLUE's own layout (SST-2/train.tsv, ...), or tfds for TensorFlow Datasets.",
    )

    data_setting: ClassVar[str] = "glue_dir"
    data_hint: ClassVar[str] = (
        "glue_dir=DIR with GLUE's own layout, or glue_dir=tfds to download it with TensorFlow "
        "Datasets"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlueTask(GlueData, TextTask):
    """What distinguishes one task from the others.

    Attributes:
        columns: TSV columns of the one or two texts; `text_names` are the same in TensorFlow
            Datasets.
        label_column: TSV column of the label.
        spellings: How TSV files and predictions write the labels, in class order.
        files: `SplitFile` by split name.
        skip_malformed: Rows with missing fields are part of the distributed files
            (QQP); they are skipped and counted instead of refused. In test files they are kept.
        undecided: How files mark rows whose annotators agreed on no label; they are left out
            and counted.
        raw_files: Pattern of the files of which those of the task are made.
        raw_hint: How.
    """

    columns: tuple[str, ...]
    label_column: str
    spellings: tuple[str, ...]
    files: Mapping[str, SplitFile]
    skip_malformed: bool = False
    undecided: str = ""
    raw_files: str = ""
    raw_hint: str = ""

    @property
    def test_splits(self) -> tuple[str, ...]:
        """Unlabelled splits that the GLUE server scores."""
        return tuple(split for split, file in self.files.items() if file.submission)

    def read(self, split: str) -> Examples:
        """Reads one split."""
        examples: Examples = glue_data.load_glue(self, split, self.source)
        return examples

    def submissions(self) -> list[tuple[TextTask, str]]:
        """The test sets that are there; a model of MNLI also predicts AX."""
        ax = dataclasses.replace(GLUE_TASKS["ax"], glue_dir=self.glue_dir)
        tasks = [self, *([ax] if self.name == "glue/mnli" else [])]
        return [
            (task, split)
            for task in tasks
            for split in task.test_splits
            if glue_data.has_split(task, split, self.source)
        ]

    def write_submission(
        self, directory: Path, split: str, indices: IntArray, predictions: Array
    ) -> Path:
        """Writes one prediction file for the GLUE server, e.g. `SST-2.tsv`.

        Args:
            directory: Gets the file.
            split: A test split.
            indices: GLUE's example numbers, `[n]`.
            predictions: Class numbers in the task's order, or scores, `[n]`; scores are
                clipped to the range of the task.
        """
        if self.is_regression:
            values = [f"{min(max(float(p), MIN_SCORE), MAX_SCORE):.3f}" for p in predictions]
        else:
            values = [self.spellings[int(value)] for value in predictions]
        rows = [f"{index}\t{value}\n" for index, value in zip(indices, values, strict=True)]
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.files[split].submission}.tsv"
        write_atomically(path, "index\tprediction\n" + "".join(rows))
        return path


def _files(
    folder: str, *, columns: tuple[str, ...] = (), submission: str = ""
) -> dict[str, SplitFile]:
    return {
        "train": SplitFile(f"{folder}/train.tsv", "train", columns),
        "dev": SplitFile(f"{folder}/dev.tsv", "validation", columns),
        "test": SplitFile(f"{folder}/test.tsv", "test", submission=submission or folder),
    }


_MNLI_FILES = {
    "train": SplitFile("MNLI/train.tsv", "train"),
    "dev_matched": SplitFile("MNLI/dev_matched.tsv", "validation_matched"),
    "dev_mismatched": SplitFile("MNLI/dev_mismatched.tsv", "validation_mismatched"),
    "test_matched": SplitFile("MNLI/test_matched.tsv", "test_matched", submission="MNLI-m"),
    "test_mismatched": SplitFile(
        "MNLI/test_mismatched.tsv", "test_mismatched", submission="MNLI-mm"
    ),
}


def _task(
    name: str,
    label: str,
    texts: tuple[str, ...],
    labels: tuple[str, ...],
    metrics: tuple[str, ...],
    **changes: Any,
) -> GlueTask:
    """A task of the usual form: files in a folder of its name, labels written as 0, 1, ..."""
    usual = {
        "columns": texts,
        "label_column": "label",
        "spellings": tuple(map(str, range(len(labels)))),
        "files": _files(label),
        "text_names": texts,
    }
    return GlueTask(
        name=f"glue/{name}", label=label, label_names=labels, metrics=metrics, **(usual | changes)
    )


_SENTENCE, _PAIR = ("sentence",), ("sentence1", "sentence2")
_NLI = ("entailment", "neutral", "contradiction")
_TWO_WAY = ("entailment", "not_entailment")
_ACCURACY, _F1 = ("accuracy",), ("f1", "accuracy")

GLUE_TASKS: dict[str, GlueTask] = {
    task.kept_name: task
    for task in (
        _task(
            *("cola", "CoLA", _SENTENCE, ("unacceptable", "acceptable")),
            ("matthews", "accuracy"),
            files=_files("CoLA", columns=_COLA_COLUMNS),
        ),
        _task("sst2", "SST-2", _SENTENCE, ("negative", "positive"), _ACCURACY),
        _task(
            *("mrpc", "MRPC", _PAIR, ("not_equivalent", "equivalent"), _F1),
            columns=("#1 String", "#2 String"),
            label_column="Quality",
            raw_files="MRPC/msr_paraphrase_*.txt",
            raw_hint="GLUE's download script (download_glue_data.py with path_to_mrpc) makes TSV "
            "files of them: train.tsv and dev.tsv out of msr_paraphrase_train.txt, by its list of "
            "dev ids, and test.tsv out of msr_paraphrase_test.txt.",
        ),
        _task("stsb", "STS-B", _PAIR, (), ("spearman", "pearson"), label_column="score"),
        _task(
            *("qqp", "QQP", ("question1", "question2"), ("not_duplicate", "duplicate"), _F1),
            label_column="is_duplicate",
            skip_malformed=True,
        ),
        _task(
            *("mnli", "MNLI", ("premise", "hypothesis"), _NLI, _ACCURACY),
            columns=_PAIR,
            label_column="gold_label",
            spellings=_NLI,
            undecided="-",
            files=_MNLI_FILES,
            evaluation_splits=("dev_matched", "dev_mismatched"),
        ),
        _task("qnli", "QNLI", ("question", "sentence"), _TWO_WAY, _ACCURACY, spellings=_TWO_WAY),
        _task("rte", "RTE", _PAIR, _TWO_WAY, _ACCURACY, spellings=_TWO_WAY),
        _task("wnli", "WNLI", _PAIR, ("not_entailment", "entailment"), _ACCURACY),
        _task(
            *("ax", "AX", ("premise", "hypothesis"), _NLI, ("matthews",)),
            columns=_PAIR,
            label_column="",
            spellings=_NLI,
            files={"test": SplitFile("diagnostic/diagnostic.tsv", "test", submission="AX")},
            evaluation_splits=(),
        ),
    )
}
"""All tasks by GLUE's own names. AX is test only and is predicted by a model trained on MNLI."""
