"""Google's checkpoints: TF1 (google-research/bert) and TF2 object-based (tf-models)."""

import glob
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.checkpoints.families import find_family, read_config
from etd_tf.checkpoints.gathering import Lookup, Tensors, gather, report_leftover, reshape_all
from etd_tf.checkpoints.names import GOOGLE_TF1, Row, expand, tf2_canonical
from etd_tf.checkpoints.tf_index_file import check_index
from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.storage.json_files import read_json_object
from etd_tf.storage.sources import check_present
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Array, Parameters

CONFIG_FILE = "bert_config.json"
_PREFIX = "bert_model.ckpt"
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# Optimizer state and counters, which every pre-training checkpoint carries.
_UNINTERESTING = re.compile(
    r".*/adam_[mv]$|.*OPTIMIZER_SLOT.*|(?:.*/)?(?:global_step|save_counter)\b.*|optimizer/.*"
    rf"|{_OBJECT_GRAPH}"
)


class _Variables(Tensors):
    """The variables of a TensorFlow checkpoint, read on access."""

    def __init__(self, prefix: Path) -> None:
        import tensorflow as tf

        check_index(prefix)  # what is wrong in it ends the process in TensorFlow
        self._prefix = prefix
        self._errors = (tf.errors.OpError, ValueError, RuntimeError, IndexError)
        try:
            self._reader: Any = tf.train.load_checkpoint(str(prefix))
            self._entries = self._reader.get_variable_to_shape_map()
        except self._errors as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(
            f"{self._prefix} is not a readable TensorFlow checkpoint ({error}). Expected "
            f"{self._prefix.name}.index and {self._prefix.name}.data-*; they may be truncated."
        )

    def __getitem__(self, name: str) -> Array:
        try:
            value: Array = self._reader.get_tensor(name)
        except self._errors as error:
            raise self._unreadable(error) from error
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiuV":  # V: bfloat16
            raise self._unreadable(ValueError(f"{name} is no array of numbers"))
        return value


def find_prefix(directory: Path) -> Path | None:
    """Finds the checkpoint of a directory.

    Returns:
        The checkpoint's path without `.index`, or None where there is none.

    Raises:
        InputError: There are several and none is called `bert_model.ckpt`.
    """
    prefixes = sorted(path.with_suffix("") for path in directory.glob("*.index"))
    preferred = directory / _PREFIX
    if preferred in prefixes:
        return preferred
    if len(prefixes) > 1:
        names = ", ".join(path.name for path in prefixes)
        raise InputError(f"{directory} holds several checkpoints; name one of them: {names}.")
    return prefixes[0] if prefixes else None


def read_google(prefix: Path) -> Checkpoint:
    """Reads a checkpoint with the `bert_config.json` and `vocab.txt` beside it.

    Args:
        prefix: The checkpoint's path without `.index`.

    Returns:
        The checkpoint; GELU is taken as exact (see `BertConfig.from_google`).

    Raises:
        InputError: A file is missing or corrupt, or a weight is missing.
    """
    directory = prefix.parent
    for path in sorted(directory.glob(f"{glob.escape(prefix.name)}.*")):
        check_present(path)
    config = _read_config(directory)
    variables = _Variables(prefix)
    source = str(prefix)
    if _OBJECT_GRAPH in variables:
        parameters = _read_tf2(variables, config, source)
    else:
        rows = list(expand(GOOGLE_TF1, config.num_layers))
        parameters = gather(rows, variables, source)
        _report(set(variables) - {row.theirs for row in rows}, source)
    parameters = reshape_all(config, parameters, source)
    return Checkpoint(config, parameters, tokenizer=Tokenizer.find(directory), source=source)


def _read_config(directory: Path) -> BertConfig:
    """Reads `bert_config.json`, or the `config.json` that Transformers' users rename it to."""
    other = directory / "config.json"
    if (directory / CONFIG_FILE).is_file() or not other.is_file():
        return BertConfig.from_google(read_json_object(directory / CONFIG_FILE))
    values = read_json_object(other)
    family = find_family(values, str(other))
    return read_config(values, family)


def _read_tf2(variables: _Variables, config: BertConfig, source: str) -> Parameters:
    places: dict[str, tuple[Mapping[str, Array], str]] = {}
    unused = set()
    for name in sorted(variables):
        canonical = tf2_canonical(name, config.num_layers)
        if canonical is None:
            unused.add(name)
        else:
            places[canonical] = (variables, name)
    rows = [Row(row.canonical, row.canonical) for row in expand(GOOGLE_TF1, config.num_layers)]
    unused |= {places[name][1] for name in places.keys() - {row.canonical for row in rows}}
    parameters = gather(rows, Lookup(places), source)
    _report(unused, source)
    return parameters


def _report(names: set[str], source: str) -> None:
    report_leftover((name for name in names if not _UNINTERESTING.match(name)), source)


def write_google(checkpoint: Checkpoint, directory: Path) -> None:
    """Writes `bert_model.ckpt`, `bert_config.json` (`gelu` for both forms) and the tokenizer."""
    import tensorflow as tf

    config, tokenizer, parameters = (
        checkpoint.config,
        checkpoint.tokenizer,
        checkpoint.parameters(),
    )
    rows = [r for r in expand(GOOGLE_TF1, config.num_layers) if r.canonical in parameters]
    tf.raw_ops.SaveV2(
        prefix=str(directory / _PREFIX),
        tensor_names=[row.theirs for row in rows],
        shape_and_slices=[""] * len(rows),
        tensors=[tf.convert_to_tensor(parameters[row.canonical]) for row in rows],
    )
    values = config.to_google()
    if values["hidden_act"] == "gelu_new":
        values["hidden_act"] = "gelu"  # the only name Google's code knows
    (directory / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    if tokenizer is not None:
        tokenizer.save(directory)
        if tokenizer.wordpieces is not None and (
            "vocab.txt" not in tokenizer.files or "tokenizer.json" in tokenizer.files
        ):
            tokenizer.save_vocabulary(directory / "vocab.txt")
