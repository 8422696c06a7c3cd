"""`bin/etd_embed`: a vector of each line of a text file."""

import dataclasses
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from etd_tf.cli.app import Command
from etd_tf.cli.flags import FlagSet, model_source
from etd_tf.errors import InputError
from etd_tf.settings import MISSING, Settings, setting
from etd_tf.storage.text_files import read_texts

if TYPE_CHECKING:
    from etd_tf.checkpoints import Checkpoint

SUMMARY = """makes a vector of each line of a text file, as the model's own files say.

Example:
  etd_embed --model=out --texts=sentences.txt --output=vectors.npy"""


def _modes() -> Iterable[str]:
    from etd_tf.modeling.pooling import POOLING_MODES

    return POOLING_MODES


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedFlags(Settings):
    """Which texts become vectors, and how."""

    title = "Vectors"

    model: str = setting(
        MISSING,
        "A directory made by etd_distill or etd_extract, or anything that is a teacher there.",
        required=True,
        group="Model",
    )
    texts: Path = setting(MISSING, "A UTF-8 file with one text a line.", required=True)
    output: Path = setting(
        MISSING,
        "The NumPy file to write: float32 [n, D], where row i belongs to line i, be it empty.",
        required=True,
    )
    pooling: tuple[str, ...] = setting(
        (),
        "Pool in this way instead of the model's own, without a dense layer behind it; several "
        "are concatenated.",
        choices=_modes,
        distinct=True,
    )
    normalize: bool | None = setting(
        None, "Whether vectors get length 1. Default: what the model says."
    )
    prompt: str | None = setting(
        None,
        "Name of one of the model's prompts, or a text to put before each line; empty for none. "
        "Default: the model's default prompt.",
    )
    batch_size: int = setting(32, "Texts at a time; they are sorted by length.", least=1)
    overwrite: bool = setting(False, "Replace the file.")


def run(flag_set: FlagSet) -> None:
    """Writes the vectors and says how many there are."""
    flags = flag_set.read(EmbedFlags)
    _check_output(flags)
    texts = read_texts(flags.texts)
    import numpy as np

    from etd_tf.checkpoints import load_checkpoint
    from etd_tf.storage.atomic import write_atomically

    checkpoint = _pooled(load_checkpoint(model_source(flags.model)), flags.pooling)
    vectors = checkpoint.embed(
        texts, prompt=flags.prompt, batch_size=flags.batch_size, normalize=flags.normalize
    )
    content = io.BytesIO()
    np.save(content, vectors)
    write_atomically(flags.output, content.getvalue())
    rows, dims = vectors.shape
    sys.stdout.write(f"{flags.output}  {rows:,} vectors of {dims} dims\n")


def _pooled(checkpoint: "Checkpoint", modes: tuple[str, ...]) -> "Checkpoint":
    if not modes:
        return checkpoint
    from etd_tf.modeling.pooling import Pooling

    own = checkpoint.pooling or Pooling()
    return checkpoint.replace(pooling=dataclasses.replace(own, modes=modes, dense=()))


def _check_output(flags: EmbedFlags) -> None:
    """Refuses before any long work what could not be written at its end."""
    path = flags.output
    if path.suffix != ".npy":
        raise InputError(f"output={path} does not end in .npy, the name of NumPy's files.")
    if not path.parent.is_dir():
        raise InputError(f"The directory {path.parent} of output={path} does not exist. Make it.")
    if path.is_dir():
        raise InputError(f"{path} is a directory. Choose another output.")
    if path.exists() and not flags.overwrite:
        raise InputError(f"{path} exists already. Choose another output or pass overwrite=True.")


COMMAND = Command("etd_embed", SUMMARY, (EmbedFlags,), run)


if __name__ == "__main__":
    COMMAND.main()
