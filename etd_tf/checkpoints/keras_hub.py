"""KerasHub preset directories: `BertBackbone` with tokenizer, and masked-LM head or pooling.

KerasHub's BERT always computes tanh GELU and an epsilon of 1e-12 (1e-5 in the masked-LM
head), so other models come out slightly different there; the writer measures by how much.
"""

import gc
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from keras import ops

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.checkpoints.gathering import gather, reshape_all
from etd_tf.checkpoints.names import KERAS_HUB, expand
from etd_tf.errors import InputError
from etd_tf.lazy import float32_keras
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.pooling import Pooling
from etd_tf.storage.json_files import read_json_object
from etd_tf.storage.sources import check_present
from etd_tf.tokenization.directories import SIDECAR
from etd_tf.tokenization.saving import fits_bert
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Array, Parameters

_SIZE_NAMES = {  # ours -> BertBackbone's
    "vocab_size": "vocabulary_size",
    "num_layers": "num_layers",
    "hidden_size": "hidden_dim",
    "num_heads": "num_heads",
    "intermediate_size": "intermediate_dim",
    "max_positions": "max_sequence_length",
    "type_vocab_size": "num_segments",
    "hidden_dropout": "dropout",
}
_EPSILON = 1e-12
_HEAD_EPSILON = 1e-5
_WEIGHT_FILES = ("model.weights.h5", "model.weights.json")
_POOLING_MODES = ("mean", "cls", "max")
_BATCH, _LENGTH, _SEED = 4, 32, 0  # of the comparison


class Model(NamedTuple):
    """KerasHub's objects for one checkpoint; `task` is a `BertMaskedLM` or None."""

    backbone: Any
    task: Any

    def variables(self) -> dict[str, Any]:
        """Variables by the names of the table `KERAS_HUB`."""
        head = self.task.masked_lm_head.weights if self.task is not None else []
        return {variable.path: variable for variable in (*self.backbone.weights, *head)}


def is_preset(values: dict[str, Any]) -> bool:
    """Whether a `config.json` is a KerasHub preset's."""
    return "registered_name" in values


def read_keras_hub(directory: Path) -> Checkpoint:
    """Reads a preset directory of a `BertBackbone`.

    Args:
        directory: Holds `config.json` and `model.weights.h5`; with `task.json` of a
            `BertMaskedLM` and `task.weights.h5` the masked-LM head is read too, with that of a
            `BertTextEmbedder` the pooling.

    Raises:
        InputError: A file is missing or corrupt, or the preset is of another model.
    """
    config = _read_config(directory)
    for name in (*_WEIGHT_FILES, "task.weights.h5"):
        check_present(directory / name)
    weights = next((directory / n for n in _WEIGHT_FILES if (directory / n).is_file()), None)
    if weights is None:
        raise InputError(f"{directory} has no weights. Expected {' or '.join(_WEIGHT_FILES)}.")
    task_weights = _task_weights(directory)
    tensors = _read_tensors(config, weights, task_weights)
    gc.collect()  # a Keras model is full of cycles, and this one is as large as its weights
    parameters = gather(expand(KERAS_HUB, config.num_layers), tensors, str(weights))
    parameters = reshape_all(config, parameters, str(weights))
    if task_weights is not None and not (directory / SIDECAR).is_dir():
        logging.warning(
            "%s: KerasHub computes the masked-LM head with exact GELU and epsilon %g; here it "
            "uses the encoder's tanh GELU and epsilon %g, so logits differ slightly.",
            directory,
            _HEAD_EPSILON,
            _EPSILON,
        )
    return Checkpoint(
        config,
        parameters,
        tokenizer=Tokenizer.find(directory),
        source=str(directory),
        pooling=_read_pooling(directory),
    )


def _read_pooling(directory: Path) -> Pooling | None:
    """How a `BertTextEmbedder` pools; None for another task."""
    path = directory / "task.json"
    task = read_json_object(path) if path.is_file() else {}
    if _class_name(task) != "BertTextEmbedder" or not isinstance(task.get("config"), dict):
        return None
    path = directory / "preprocessor.json"
    settings = (read_json_object(path) if path.is_file() else {}).get("config")
    length = settings.get("sequence_length") if isinstance(settings, dict) else None
    return Pooling(
        (str(task["config"].get("pooling_mode", "mean")),),
        normalize=bool(task["config"].get("normalize", True)),
        max_seq_length=length if isinstance(length, int) and length > 0 else None,
    )


def _task_weights(directory: Path) -> Path | None:
    """The weights of the masked-LM head, where the preset has one."""
    path = directory / "task.weights.h5"
    if not path.is_file():
        return None
    is_masked_lm = _class_name(read_json_object(directory / "task.json")) == "BertMaskedLM"
    return path if is_masked_lm else None


def _read_tensors(config: BertConfig, weights: Path, task_weights: Path | None) -> dict[str, Array]:
    """Lets KerasHub read its files, whose layout depends on the Keras version."""
    size = sum(path.stat().st_size for path in weights.parent.glob("model*.weights.h5"))
    if config.num_parameters() > size:  # a weight takes at least a byte
        raise InputError(
            f"{weights.parent / 'config.json'} describes {config.num_parameters():,} weights, but "
            f"the weights files have {size:,} bytes. They may be truncated or not belong together."
        )
    model = build(config, with_head=task_weights is not None)
    try:
        model.backbone.load_weights(str(weights))
        if task_weights is not None:
            model.task.load_task_weights(str(task_weights))
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise InputError(
            f"The weights of {weights.parent} cannot be read ({error}). They may be truncated or "
            "not belong to config.json; copy or download the preset again."
        ) from error
    return {
        name: ops.convert_to_numpy(ops.cast(variable, "float32"))
        for name, variable in model.variables().items()
    }


def _class_name(values: dict[str, Any]) -> str:
    """The class of a serialised Keras object, whichever package name it was saved under."""
    return str(values.get("registered_name")).partition(">")[2]


def _read_config(directory: Path) -> BertConfig:
    path = directory / "config.json"
    values = read_json_object(path)
    if _class_name(values) != "BertBackbone":
        raise InputError(
            f"{path} describes {values.get('registered_name')!r}. "
            "The only KerasHub model supported is BertBackbone."
        )
    sizes = values.get("config")
    missing = [n for n in _SIZE_NAMES.values() if not isinstance(sizes, dict) or n not in sizes]
    if missing or not isinstance(sizes, dict):
        raise InputError(f"{path} lacks {', '.join(missing)}; it does not describe a BertBackbone.")
    try:
        config = BertConfig(**{ours: sizes[theirs] for ours, theirs in _SIZE_NAMES.items()})
    except TypeError as error:
        raise InputError(f"{path} has a value of the wrong type ({error}).") from error
    return config.replace(hidden_act="gelu_new", attention_dropout=config.hidden_dropout)


def build(config: BertConfig, *, with_head: bool) -> Model:
    """Builds KerasHub's model in float32, with random weights."""
    import keras_hub

    sizes = {theirs: getattr(config, ours) for ours, theirs in _SIZE_NAMES.items()}
    task = None
    with float32_keras():
        backbone = keras_hub.models.BertBackbone(**sizes, dtype="float32")
        if with_head:
            task = keras_hub.models.BertMaskedLM(backbone, preprocessor=None)
    return Model(backbone, task)


def write_keras_hub(checkpoint: Checkpoint, directory: Path) -> Model:
    """Writes a preset directory that `keras_hub.models.Backbone.from_preset` loads.

    That of a sentence encoder is one of a `BertTextEmbedder` where that can pool as the model
    does (see `embedder_fits`). KerasHub's backbone always has a pooler: where the checkpoint
    has none, an identity matrix stands in (and `etd_tf/config.json` says so).

    Args:
        checkpoint: What to write; of tokenizers only a WordPiece one.
        directory: An existing directory.

    Returns:
        The model that was written, for comparing its output.
    """
    config = checkpoint.config
    model = build(config, with_head=checkpoint.has_mlm_head)
    hidden = config.hidden_size
    weights: Parameters = {
        "pooler.kernel": np.eye(hidden, dtype=np.float32),
        "pooler.bias": np.zeros(hidden, np.float32),
        **checkpoint.parameters(),
    }
    variables = model.variables()
    for row in expand(KERAS_HUB, config.num_layers):
        if row.theirs in variables:
            variable = variables[row.theirs]
            variable.assign(weights[row.canonical].reshape(variable.shape))
    with float32_keras():
        _save(model, checkpoint, directory)
    return model


def embedder_fits(checkpoint: Checkpoint) -> bool:
    """Whether KerasHub's `BertTextEmbedder` makes the vectors of texts without a prompt.

    A preset holds one task: of a model with a masked-LM head it is that.
    """
    pooling, tokenizer = checkpoint.pooling, checkpoint.tokenizer
    if pooling is None or checkpoint.has_mlm_head:
        return False
    changes_case = pooling.lowercase and not (tokenizer is not None and tokenizer.lowercase)
    one_step = not pooling.dense and pooling.truncate_dim is None and not changes_case
    return one_step and len(pooling.modes) == 1 and pooling.modes[0] in _POOLING_MODES


def _save(model: Model, checkpoint: Checkpoint, directory: Path) -> None:
    import keras_hub

    config, tokenizer, pooling = checkpoint.config, checkpoint.tokenizer, checkpoint.pooling
    theirs = None
    if tokenizer is not None and fits_bert(tokenizer):
        strip = tokenizer.lowercase if tokenizer.strip_accents is None else tokenizer.strip_accents
        theirs = keras_hub.models.BertTokenizer(
            tokenizer.wordpieces or [],
            lowercase=tokenizer.lowercase,
            strip_accents=strip,
            special_tokens_in_strings=True,
        )
    if model.task is not None:
        if theirs is not None:
            model.task.preprocessor = keras_hub.models.BertMaskedLMPreprocessor(
                theirs, sequence_length=config.max_positions
            )
        model.task.save_to_preset(str(directory))
        return
    if pooling is not None and embedder_fits(checkpoint):
        preprocessor = None
        if theirs is not None:
            preprocessor = keras_hub.models.BertTextEmbedderPreprocessor(
                theirs, sequence_length=checkpoint.max_seq_length
            )
        keras_hub.models.BertTextEmbedder(
            model.backbone,
            preprocessor=preprocessor,
            pooling_mode=pooling.modes[0],
            normalize=pooling.normalize,
        ).save_to_preset(str(directory))
        return
    model.backbone.save_to_preset(str(directory))
    if theirs is not None:
        theirs.save_to_preset(str(directory))


def largest_difference(checkpoint: Checkpoint, theirs: Model) -> float:
    """Runs both models on random tokens and compares what both compute.

    Returns:
        Largest absolute difference of the sequence output, of the pooled output and of the
        masked-LM logits, whichever of them the checkpoint has.
    """
    config = checkpoint.config
    length = min(_LENGTH, config.max_positions)
    generator = np.random.default_rng(_SEED)
    token_ids = generator.integers(0, config.vocab_size, (_BATCH, length)).astype(np.int32)
    lengths = generator.integers((length + 1) // 2, length + 1, (_BATCH, 1))
    padding_mask = (np.arange(length) < lengths).astype(np.int32)
    inputs = {
        "token_ids": token_ids,
        "segment_ids": np.zeros_like(token_ids),
        "padding_mask": padding_mask,
    }
    ours = _numpy(checkpoint.encoder(inputs))
    other = _numpy(theirs.backbone(inputs))
    real = padding_mask.astype(bool)
    differences = [_gap(ours["sequence_output"][real], other["sequence_output"][real])]
    if checkpoint.has_pooler:
        differences.append(_gap(ours["pooled_output"], other["pooled_output"]))
    if checkpoint.mlm_head is not None:
        positions = np.broadcast_to(np.arange(length, dtype=np.int32), token_ids.shape)
        logits = checkpoint.mlm_head(
            ops.convert_to_tensor(ours["sequence_output"]), checkpoint.encoder.embeddings.token
        )
        other_logits = theirs.task({**inputs, "mask_positions": positions})
        differences.append(
            _gap(ops.convert_to_numpy(logits)[real], ops.convert_to_numpy(other_logits)[real])
        )
    return max(differences)


def _numpy(outputs: dict[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(ops.convert_to_numpy(value)) for name, value in outputs.items()}


def _gap(a: Array, b: Array) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
