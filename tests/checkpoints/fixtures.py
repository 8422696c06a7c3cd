"""Checkpoints of foreign formats, built independently of our writers."""

import json
from pathlib import Path

import numpy as np

from etd_tf.modeling.config import BertConfig
from etd_tf.types import Parameters


def torch_bert_state(parameters: Parameters, *, prefix: str = "", old_names: bool = False) -> dict:
    """A BERT state dictionary: `[output, input]` kernels, PyTorch names.

    Written out by hand rather than from the library's tables, so that an error there shows.
    """
    gamma, beta = ("gamma", "beta") if old_names else ("weight", "bias")
    state: dict[str, np.ndarray] = {}

    def dense(theirs: str, ours: str) -> None:
        state[f"{theirs}.weight"] = np.ascontiguousarray(parameters[f"{ours}.kernel"].T)
        state[f"{theirs}.bias"] = parameters[f"{ours}.bias"]

    def norm(theirs: str, ours: str) -> None:
        state[f"{theirs}.{gamma}"] = parameters[f"{ours}.gamma"]
        state[f"{theirs}.{beta}"] = parameters[f"{ours}.beta"]

    root = f"{prefix}embeddings"
    for theirs, ours in (("word", "token"), ("position", "position"), ("token_type", "segment")):
        state[f"{root}.{theirs}_embeddings.weight"] = parameters[f"embeddings.{ours}"]
    norm(f"{root}.LayerNorm", "embeddings.layer_norm")
    for i in range(count_layers(parameters)):
        theirs, ours = f"{prefix}encoder.layer.{i}", f"layers.{i}"
        for part in ("query", "key", "value"):
            dense(f"{theirs}.attention.self.{part}", f"{ours}.attention.{part}")
        dense(f"{theirs}.attention.output.dense", f"{ours}.attention.output")
        norm(f"{theirs}.attention.output.LayerNorm", f"{ours}.attention_layer_norm")
        dense(f"{theirs}.intermediate.dense", f"{ours}.intermediate")
        dense(f"{theirs}.output.dense", f"{ours}.output")
        norm(f"{theirs}.output.LayerNorm", f"{ours}.output_layer_norm")
    if "pooler.kernel" in parameters:
        dense(f"{prefix}pooler.dense", "pooler")
    if "mlm.dense.kernel" in parameters:
        dense("cls.predictions.transform.dense", "mlm.dense")
        norm("cls.predictions.transform.LayerNorm", "mlm.layer_norm")
        state["cls.predictions.bias"] = parameters["mlm.output_bias"]
    return state


def tf1_bert_variables(parameters: Parameters) -> dict[str, np.ndarray]:
    """The variables of google-research/bert, with the optimizer state it also saves."""
    variables: dict[str, np.ndarray] = {
        "bert/embeddings/word_embeddings": parameters["embeddings.token"],
        "bert/embeddings/position_embeddings": parameters["embeddings.position"],
        "bert/embeddings/token_type_embeddings": parameters["embeddings.segment"],
    }

    def weights(theirs: str, ours: str, names: tuple[str, str]) -> None:
        for name in names:
            variables[f"{theirs}/{name}"] = parameters[f"{ours}.{name}"]

    dense, norm = ("kernel", "bias"), ("gamma", "beta")
    weights("bert/embeddings/LayerNorm", "embeddings.layer_norm", norm)
    for i in range(count_layers(parameters)):
        theirs, ours = f"bert/encoder/layer_{i}", f"layers.{i}"
        for part in ("query", "key", "value"):
            weights(f"{theirs}/attention/self/{part}", f"{ours}.attention.{part}", dense)
        weights(f"{theirs}/attention/output/dense", f"{ours}.attention.output", dense)
        weights(f"{theirs}/attention/output/LayerNorm", f"{ours}.attention_layer_norm", norm)
        weights(f"{theirs}/intermediate/dense", f"{ours}.intermediate", dense)
        weights(f"{theirs}/output/dense", f"{ours}.output", dense)
        weights(f"{theirs}/output/LayerNorm", f"{ours}.output_layer_norm", norm)
    weights("bert/pooler/dense", "pooler", dense)
    weights("cls/predictions/transform/dense", "mlm.dense", dense)
    weights("cls/predictions/transform/LayerNorm", "mlm.layer_norm", norm)
    variables["cls/predictions/output_bias"] = parameters["mlm.output_bias"]
    variables["bert/pooler/dense/kernel/adam_m"] = np.zeros(3, np.float32)
    variables["global_step"] = np.array(7, np.int64)
    variables["cls/seq_relationship/output_weights"] = np.zeros((2, 4), np.float32)
    return variables


def tf2_bert_variables(
    parameters: Parameters, config: BertConfig, *, generation: str
) -> dict[str, np.ndarray]:
    """The variables of tf-models: `"functional"` (older) or `"v2"` object-based names."""
    functional = generation == "functional"
    hidden, heads, size = config.hidden_size, config.num_heads, config.head_size
    variables: dict[str, np.ndarray] = {}

    def put(name: str, value: np.ndarray) -> None:
        variables[f"{name}/.ATTRIBUTES/VARIABLE_VALUE"] = value

    def weights(theirs: str, ours: str, names: tuple[str, str]) -> None:
        for name in names:
            put(f"{theirs}/{name}", parameters[f"{ours}.{name}"])

    dense, norm = ("kernel", "bias"), ("gamma", "beta")
    old = [f"encoder/layer_with_weights-{i}" for i in range(config.num_layers + 5)]
    words = f"{old[0]}/embeddings" if functional else "masked_lm/embedding_table"
    positions = old[1] if functional else "encoder/_position_embedding_layer"
    segments = old[2] if functional else "encoder/_type_embedding_layer"
    put(words, parameters["embeddings.token"])
    put(f"{positions}/embeddings", parameters["embeddings.position"])
    put(f"{segments}/embeddings", parameters["embeddings.segment"])
    first = old[3] if functional else "encoder/_embedding_norm_layer"
    weights(first, "embeddings.layer_norm", norm)
    for i in range(config.num_layers):
        theirs = old[i + 4] if functional else f"encoder/_transformer_layers/{i}"
        ours = f"layers.{i}"
        for part in ("query", "key", "value"):
            name, kernel = f"{theirs}/_attention_layer/_{part}_dense", f"{ours}.attention.{part}"
            put(f"{name}/kernel", parameters[f"{kernel}.kernel"].reshape(hidden, heads, size))
            put(f"{name}/bias", parameters[f"{kernel}.bias"].reshape(heads, size))
        output = f"{theirs}/_attention_layer/_output_dense"
        if functional:
            output = f"{theirs}/_attention_output_dense"
        kernel = parameters[f"{ours}.attention.output.kernel"]
        put(f"{output}/kernel", kernel.reshape(heads, size, hidden))
        put(f"{output}/bias", parameters[f"{ours}.attention.output.bias"])
        weights(f"{theirs}/_attention_layer_norm", f"{ours}.attention_layer_norm", norm)
        weights(f"{theirs}/_intermediate_dense", f"{ours}.intermediate", dense)
        weights(f"{theirs}/_output_dense", f"{ours}.output", dense)
        weights(f"{theirs}/_output_layer_norm", f"{ours}.output_layer_norm", norm)
    weights(old[-1] if functional else "encoder/_pooler_layer", "pooler", dense)
    weights("masked_lm/dense", "mlm.dense", dense)
    weights("masked_lm/layer_norm", "mlm.layer_norm", norm)
    put("masked_lm/bias", parameters["mlm.output_bias"])
    put("save_counter", np.array(1, np.int64))
    slot = ".OPTIMIZER_SLOT/optimizer/m"
    put(f"masked_lm/bias/{slot}", np.zeros(2, np.float32))
    variables["_CHECKPOINTABLE_OBJECT_GRAPH"] = np.array(b"graph")
    return variables


def write_tf_checkpoint(prefix: Path, variables: dict[str, np.ndarray]) -> None:
    """Writes a TensorFlow checkpoint with exactly these names."""
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tf.constant(value) for value in variables.values()],
    )


def write_config(directory: Path, config: BertConfig, **changes: object) -> None:
    """Writes a Hugging Face `config.json`, with keys changed."""
    values = {
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.type_vocab_size,
        "hidden_act": "gelu",
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(values | changes))


def count_layers(parameters: Parameters) -> int:
    """Layers of a parameter dictionary."""
    return len({name.split(".")[1] for name in parameters if name.startswith("layers.")})


def assert_same(actual: Parameters, expected: Parameters) -> None:
    """The same names and bit-identical arrays."""
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert actual[name].dtype == np.float32, name
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
