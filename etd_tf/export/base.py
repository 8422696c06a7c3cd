"""What was exported, and the interface of a format."""

import abc
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from etd_tf.errors import EtdError
from etd_tf.settings import Settings

if TYPE_CHECKING:
    from etd_tf.checkpoints import Checkpoint


@dataclasses.dataclass(frozen=True)
class Export:
    """One form of a model on disk.

    Attributes:
        format: A name in `etd_tf.export.FORMATS`.
        path: What to load: a directory, or a file for `"litert"`.
        bytes_on_disk: Size of all its files.
        max_difference: Largest difference of its outputs from the model's, found when it
            was loaded back; 0 where the weights were compared bit by bit.
        note: What its user should know.
        takes_text: Whether text goes in, not token ids.
    """

    format: str
    path: str
    bytes_on_disk: int
    max_difference: float | None = None
    note: str = ""
    takes_text: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format(Settings, abc.ABC):
    """Base of the forms that a model is written in; its fields are its options.

    Attributes:
        name: Its name in `etd_tf.export.FORMATS` and on the command line.
        summary: One phrase for help pages: who reads it.
        mark: Pattern of a file that every export of the format has.
        folder: Where a distillation run writes it, below its directory.
        optional: Whether a run writes it only where asked.
        code: Lines of Python that load it from `{path}`.
        limit: Largest difference that a report lets pass; None where none can be promised.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    mark: ClassVar[str]
    folder: ClassVar[str]
    optional: ClassVar[bool] = True
    code: ClassVar[str] = ""
    limit: ClassVar[float | None] = None

    @abc.abstractmethod
    def write(
        self, checkpoint: "Checkpoint", directory: str | Path, *, overwrite: bool = False
    ) -> Export:
        """Writes a model, loads it back and compares.

        Raises:
            InputError: The directory exists, or an option does not fit the model.
            EtdError: What was written does not give the model's numbers.
        """

    def usage(self, export: Export) -> str:
        """Lines of Python that load an export, for readers of a report."""
        return self.code.format(path=export.path)

    @classmethod
    def may_replace(cls, directory: Path) -> bool:
        """Whether a directory is empty, missing, or looks like what the format writes.

        Returns:
            Whether an export may take its place without the loss of anything else.
        """
        if not directory.exists():
            return True
        if not directory.is_dir():
            return False
        return any(directory.glob(cls.mark)) or not any(directory.iterdir())


class CheckpointFormat(Format):
    """Base of the formats that `save_checkpoint` writes and `load_checkpoint` reads."""

    def write(
        self, checkpoint: "Checkpoint", directory: str | Path, *, overwrite: bool = False
    ) -> Export:
        """Writes the checkpoint and compares its weights bit by bit; see the base class."""
        from etd_tf.checkpoints import save_checkpoint

        card = self.card(checkpoint)
        saved = save_checkpoint(
            checkpoint, directory, format=self.name, overwrite=overwrite, card=card
        )
        return Export(
            self.name,
            str(directory),
            size_on_disk(Path(directory)),
            max_difference=saved.max_difference or 0.0,
            note=" ".join(saved.notes),
        )

    def card(self, checkpoint: "Checkpoint") -> str:
        """Text of the directory's `README.md`; empty for none."""
        return ""


def largest_error(actual: Any, expected: Any) -> float:
    """Largest absolute difference, relative to the largest expected value or 1.

    Infinite for different shapes or a value that is not a number.
    """
    import numpy as np

    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.shape != expected.shape:
        return math.inf
    if actual.size == 0:
        return 0.0
    error = np.max(np.abs(actual - expected)) / max(1.0, np.max(np.abs(expected)))
    return float(error) if np.isfinite(error) else math.inf


def check_error(form: str, error: float, allowed: float) -> None:
    """Refuses a file that gives other numbers than the model.

    Raises:
        EtdError: The largest error is above what is allowed.
    """
    if error > allowed:
        raise EtdError(
            f"{form} check failed: outputs differ from the model by {error:.1e} of the largest "
            f"value (allowed {allowed:.0e})."
        )


def size_on_disk(path: Path) -> int:
    """Adds up the bytes of a file, or of all files below a directory."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
