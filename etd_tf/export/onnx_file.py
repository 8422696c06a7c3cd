"""ONNX files, built from a checkpoint's arrays operator by operator."""

import dataclasses
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etd_tf import __version__
from etd_tf.errors import EtdError, InputError
from etd_tf.export.base import Export, Format, check_error, largest_error, size_on_disk
from etd_tf.export.saved_model import logits_function
from etd_tf.lazy import LazyModule
from etd_tf.settings import setting
from etd_tf.storage.atomic import atomic_directory
from etd_tf.types import Array

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint, TaskHead
    from etd_tf.modeling.pooling import Pooling

np: Any = LazyModule("numpy")
onnx: Any = LazyModule("onnx")

_FILE, _QUANTIZED = "onnx/model.onnx", "onnx/model_quantized.onnx"
_OPSET, _IR_VERSION = 17, 8  # of 2022: the first with LayerNormalization
_LARGEST = 1 << 30  # bytes of weights in one file; protobuf ends at 2 GiB
_MASKED_SCORE = -1e9  # exp() of it is exactly 0
_TINY = 1e-12  # of a norm, and of a number of tokens
_TOLERANCE = 1e-4  # of the largest value
_COSINE = 0.99  # of int8 vectors to the float ones
_PROBES = (
    "The cat sat on the mat.",
    "a",
    "What is the capital of France, and how many people live there?",
    "Rain is expected in the north; the south stays dry and warm until the weekend.",
)
_PAIR = "pair_"  # before the inputs' names of second texts
_FLOAT, _INT64 = 1, 7  # TensorProto.DataType


@dataclasses.dataclass(frozen=True, kw_only=True)
class Onnx(Format):
    """`onnx/model.onnx`, with configuration, tokenizer and pooling beside it.

    Inputs, by Hugging Face's names: int64 `input_ids`, `attention_mask` and, with several
    segments, `token_type_ids` `[batch, sequence]`. Float32 outputs: `last_hidden_state`
    `[batch, sequence, H]`; with a pooling `sentence_embedding` `[batch, D]`, through the
    dense layers and normalised as the model says; with a head `logits`. Where the head compares
    two texts read apart, there are `pair_input_ids` and so on, too; the other outputs are the
    first text's.

    Args:
        quantize: Write `onnx/model_quantized.onnx`, too, with int8 kernels; refused where
            its vectors have a mean cosine below 0.99 to the float ones.

    Raises:
        InputError: The package `onnx` is missing, or `onnxruntime` for int8.
    """

    name = "onnx"
    summary = "ONNX Runtime, text-embeddings-inference, Transformers.js"
    mark = _FILE
    folder = "exports/onnx"
    code = (
        "# ONNX Runtime; token ids go in, int64 [batch, length]\n"
        'student = onnxruntime.InferenceSession("{path}")\n'
        "outputs = student.run(None, dict(tokenizer(texts, return_tensors='np')))"
    )
    limit = 1e-4

    quantize: bool = setting(False, "litert and onnx: int8 kernels, a quarter of the size.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for package in ("onnx", *["onnxruntime"] * self.quantize):
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"ONNX files need the package {package}, which is not installed: "
                    f"pip install {package}."
                )

    def write(
        self, checkpoint: "Checkpoint", directory: str | Path, *, overwrite: bool = False
    ) -> Export:
        """Writes it, checks it with ONNX's checker and runs it; see the base class."""
        from etd_tf.checkpoints.huggingface import write_description
        from etd_tf.checkpoints.sentence_transformers import write_pooling

        with atomic_directory(directory, overwrite=overwrite) as scratch:
            (scratch / _FILE).parent.mkdir()
            write_description(checkpoint, scratch)
            write_pooling(checkpoint, scratch)
            _save(make_model(checkpoint), scratch / _FILE)
            error = _difference(scratch / _FILE, checkpoint)
            check_error("ONNX", error, _TOLERANCE)
            note = "Takes token ids."
            if self.quantize:
                cosine = _quantize(checkpoint, scratch)
                note += f" {_QUANTIZED} has int8 kernels: its vectors' mean cosine is {cosine:.4f}."
        path = Path(directory) / _FILE
        return Export(self.name, str(path), size_on_disk(path.parent), error, note)


class _Graph:
    """A graph that grows node by node; values are known by name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        output = f"{operator.lower()}_{len(self.nodes)}"
        node = onnx.helper.make_node(operator, inputs, [output], name=output, **attributes)
        self.nodes.append(node)
        return output

    def weight(self, name: str, value: Any, dtype: str = "float32") -> str:
        """Adds an array under its name."""
        if name not in self.weights:
            array = np.ascontiguousarray(value, dtype)
            self.weights[name] = onnx.numpy_helper.from_array(array.reshape(np.shape(value)), name)
        return name

    def number(self, value: float) -> str:
        """A float as a weight."""
        return self.weight(f"number_{value!r}", np.asarray(value, np.float32))

    def integers(self, *values: int) -> str:
        """A list of integers as a weight."""
        name = "integers_" + "_".join(map(str, values))
        return self.weight(name, np.asarray(values, np.int64), "int64")

    def rename(self, value: str, name: str) -> None:
        """Makes a value an output of the graph."""
        self.nodes.append(onnx.helper.make_node("Identity", [value], [name], name=name))


def make_model(checkpoint: "Checkpoint") -> Any:
    """Builds the model in memory.

    Returns:
        An `onnx.ModelProto`; see `Onnx` for its inputs and outputs.
    """
    config, head, graph = checkpoint.config, checkpoint.task_head, _Graph()
    hidden = {} if head is None else head.hidden_parameters()
    encoder = _Encoder(graph, config, {**checkpoint.parameters(), **hidden})
    states, mask = encoder.states()
    outputs: dict[str, list[Any]] = {"last_hidden_state": ["batch", "sequence", config.hidden_size]}
    graph.rename(states, "last_hidden_state")
    if checkpoint.pooling is not None:
        vectors = _pooled(graph, checkpoint.pooling, states, mask)
        graph.rename(vectors, "sentence_embedding")
        dims = checkpoint.pooling.dimension(config.hidden_size)
        outputs["sentence_embedding"] = ["batch", dims]
    if head is not None:
        inputs = states if head.of_tokens else _read(encoder, head, (states, mask))
        product = graph.add("MatMul", inputs, graph.weight("head.kernel", head.kernel))
        graph.rename(graph.add("Add", product, graph.weight("head.bias", head.bias)), "logits")
        outputs["logits"] = ["batch", *["sequence"] * head.of_tokens, head.num_outputs]
    make = onnx.helper.make_tensor_value_info
    built = onnx.helper.make_graph(
        graph.nodes,
        "encoder",
        [make(name, _INT64, ["batch", axis]) for name, axis in _inputs(checkpoint).items()],
        [make(name, _FLOAT, shape) for name, shape in outputs.items()],
        list(graph.weights.values()),
    )
    return onnx.helper.make_model(
        built,
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="etd_tf",
        producer_version=__version__,
    )


def _inputs(checkpoint: "Checkpoint") -> dict[str, str]:
    """Inputs with the name of their length; a model of one segment takes none, twins both texts."""
    segments, head = checkpoint.config.type_vocab_size > 1, checkpoint.task_head
    names = "input_ids", "attention_mask", *["token_type_ids"] * segments
    prefixes = ("", _PAIR) if head is not None and head.reading.is_twin else ("",)
    return {f"{prefix}{name}": f"{prefix}sequence" for prefix in prefixes for name in names}


class _Encoder:
    """The encoder's part of a graph.

    Args:
        config: Sizes.
        parameters: Arrays by canonical name.
    """

    def __init__(self, graph: _Graph, config: Any, parameters: Mapping[str, Array]) -> None:
        self.graph, self.config, self._parameters = graph, config, parameters

    def _weight(self, name: str) -> str:
        return self.graph.weight(name, self._parameters[name])

    def _dense(self, x: str, name: str) -> str:
        product = self.graph.add("MatMul", x, self._weight(f"{name}.kernel"))
        return self.graph.add("Add", product, self._weight(f"{name}.bias"))

    def _norm(self, x: str, name: str) -> str:
        weights = (self._weight(f"{name}.{part}") for part in ("gamma", "beta"))
        epsilon = self.config.layer_norm_epsilon
        return self.graph.add("LayerNormalization", x, *weights, axis=-1, epsilon=epsilon)

    def states(self, prefix: str = "") -> tuple[str, str]:
        """The last states `[B, T, H]`, and the float mask `[B, T]`, of the inputs so called."""
        add, graph = self.graph.add, self.graph
        token_ids = f"{prefix}input_ids"
        mask = add("Cast", f"{prefix}attention_mask", to=_FLOAT)
        padding = add("Sub", graph.number(1.0), add("Unsqueeze", mask, graph.integers(1, 2)))
        bias = add("Mul", padding, graph.number(_MASKED_SCORE))
        length = add("Shape", token_ids, start=1, end=2)
        positions = add(
            "Slice",
            *(self._weight("embeddings.position"), graph.integers(0), length, graph.integers(0)),
        )
        x = add("Gather", self._weight("embeddings.token"), token_ids)
        x = add("Add", x, positions)
        if self.config.type_vocab_size > 1:
            segments = f"{prefix}token_type_ids"
            x = add("Add", x, add("Gather", self._weight("embeddings.segment"), segments))
        else:
            x = add("Add", x, self._weight("embeddings.segment"))
        x = self._norm(x, "embeddings.layer_norm")
        for index in range(self.config.num_layers):
            x = self._layer(x, bias, f"layers.{index}")
        return x, mask

    def _layer(self, x: str, bias: str, name: str) -> str:
        add = self.graph.add
        attended = self._dense(self._attention(x, bias, name), f"{name}.attention.output")
        x = self._norm(add("Add", x, attended), f"{name}.attention_layer_norm")
        inner = _activated(
            self.graph, self.config.hidden_act, self._dense(x, f"{name}.intermediate")
        )
        outer = self._dense(inner, f"{name}.output")
        return self._norm(add("Add", x, outer), f"{name}.output_layer_norm")

    def _attention(self, x: str, bias: str, name: str) -> str:
        """The heads' weighted values `[B, T, H]`."""
        add, graph, config = self.graph.add, self.graph, self.config
        dims = config.hidden_size // config.num_heads
        apart = graph.integers(0, 0, config.num_heads, dims)

        def heads(part: str, order: list[int]) -> str:
            y = self._dense(x, f"{name}.attention.{part}")
            if part == "query":
                y = add("Mul", y, graph.number(1 / math.sqrt(dims)))
            return add("Transpose", add("Reshape", y, apart), perm=order)

        query, value = (heads(part, [0, 2, 1, 3]) for part in ("query", "value"))
        scores = add("MatMul", query, heads("key", [0, 2, 3, 1]))
        weights = add("Softmax", add("Add", scores, bias), axis=-1)
        context = add("Transpose", add("MatMul", weights, value), perm=[0, 2, 1, 3])
        return add("Reshape", context, graph.integers(0, 0, config.hidden_size))

    def pooled(self, states: str, head: "TaskHead") -> str:
        """What a head reads of a text: a layer over the first token, BERT's pooler or its own."""
        place = self.graph.weight("integer_0", np.asarray(0, np.int64), "int64")
        first = self.graph.add("Gather", states, place, axis=1)
        if head.hidden is None:
            return self.graph.add("Tanh", self._dense(first, "pooler"))
        return _activated(self.graph, head.hidden_act, self._dense(first, "head.hidden"))


def _activated(graph: _Graph, name: str, x: str) -> str:
    """GELU in both forms, and what ONNX has by name."""
    add, number = graph.add, graph.number
    if name == "gelu":
        erf = add("Erf", add("Mul", x, number(math.sqrt(0.5))))
        return add("Mul", add("Mul", x, number(0.5)), add("Add", erf, number(1.0)))
    if name == "gelu_new":
        cube = add("Mul", add("Mul", x, x), x)
        inner = add("Add", x, add("Mul", cube, number(0.044715)))
        tanh = add("Tanh", add("Mul", inner, number(math.sqrt(2 / math.pi))))
        return add("Mul", add("Mul", x, number(0.5)), add("Add", tanh, number(1.0)))
    if name == "silu":
        return add("Mul", x, add("Sigmoid", x))
    return x if name == "linear" else add(name.capitalize(), x)


def _pooled(graph: _Graph, pooling: "Pooling", states: str, mask: str) -> str:
    """One vector of each text, in the order of `Pooling.__call__`."""
    add = graph.add
    parts = [_pooled_by(graph, mode, states, mask) for mode in pooling.modes]
    vectors = add("Concat", *parts, axis=-1) if parts[1:] else parts[0]
    for place, layer in enumerate(pooling.dense):
        kernel = graph.weight(f"dense.{place}.kernel", layer.kernel)
        bias = graph.weight(f"dense.{place}.bias", layer.bias)
        vectors = add("Add", add("MatMul", vectors, kernel), bias)
        vectors = _activated(graph, layer.activation, vectors)
    if pooling.normalize:
        length = add("ReduceL2", vectors, axes=[-1], keepdims=1)
        vectors = add("Div", vectors, add("Max", length, graph.number(_TINY)))
    if pooling.truncate_dim is not None:
        borders = (graph.integers(0), graph.integers(pooling.truncate_dim), graph.integers(-1))
        vectors = add("Slice", vectors, *borders)
    return vectors


def _read(encoder: _Encoder, head: "TaskHead", text: tuple[str, str]) -> str:
    """What a classifier's head reads, see `Reading`, of the states and mask of the first text."""
    graph, mode = encoder.graph, "mean" if head.reading.pool == "mean" else "cls"

    def vector(states: str, mask: str) -> str:
        pooler = head.reading.needs_pooler
        return encoder.pooled(states, head) if pooler else _pooled_by(graph, mode, states, mask)

    if not head.reading.is_twin:
        return vector(*text)
    u, v = vector(*text), vector(*encoder.states(_PAIR))
    apart = graph.add("Abs", graph.add("Sub", u, v))
    return graph.add("Concat", u, v, apart, graph.add("Mul", u, v), axis=-1)


def _pooled_by(graph: _Graph, mode: str, states: str, mask: str) -> str:
    """What one mode of `POOLING_MODES` makes of the states."""
    add, axis = graph.add, graph.integers(1)
    axis_of_cumsum = graph.weight("integer_1", np.asarray(1, np.int64), "int64")
    if mode == "max":
        is_token = add("Greater", add("Unsqueeze", mask, graph.integers(2)), graph.number(0.0))
        lowest = graph.weight("lowest", np.asarray(-np.inf, np.float32))
        return add("ReduceMax", add("Where", is_token, states, lowest), axes=[1], keepdims=0)
    weights, count = mask, add("CumSum", mask, axis_of_cumsum)
    if mode in ("cls", "lasttoken"):
        place = graph.number(1.0) if mode == "cls" else add("ReduceSum", mask, axis, keepdims=1)
        weights = add("Mul", mask, add("Cast", add("Equal", count, place), to=_FLOAT))
    elif mode == "weightedmean":
        ones = add("Add", add("Mul", mask, graph.number(0.0)), graph.number(1.0))
        weights = add("Mul", mask, add("CumSum", ones, axis_of_cumsum))
    if mode in ("mean", "weightedmean", "mean_sqrt_len_tokens"):
        total = add("Max", add("ReduceSum", weights, axis, keepdims=1), graph.number(_TINY))
        total = add("Sqrt", total) if mode == "mean_sqrt_len_tokens" else total
        weights = add("Div", weights, total)
    weighted = add("Mul", states, add("Unsqueeze", weights, graph.integers(2)))
    return add("ReduceSum", weighted, axis, keepdims=0)


def _save(model: Any, path: Path) -> None:
    """Writes a model, with its weights apart where one file could not hold them, and checks it."""
    apart = sum(len(one.raw_data) for one in model.graph.initializer) > _LARGEST
    location = {"save_as_external_data": True, "location": f"{path.name}_data"} if apart else {}
    onnx.save_model(model, str(path), **location)
    onnx.checker.check_model(str(path), full_check=True)


def run_onnx(path: str | Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Runs a file on the CPU: in ONNX Runtime where it is installed, else in ONNX's own Python.

    Args:
        path: The file.
        inputs: Inputs by name; those that the model does not take are left out.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(str(path))
        taken, names = session.input_names, session.output_names
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        taken = [one.name for one in session.get_inputs()]
        names = [one.name for one in session.get_outputs()]
    feed = {name: np.asarray(inputs[name], np.int64) for name in taken}
    return dict(zip(names, session.run(None, feed), strict=True))


def _probe(checkpoint: "Checkpoint") -> dict[str, Array]:
    """Texts of different lengths as the model's inputs; random ids without a tokenizer."""
    length = min(32, checkpoint.config.max_positions)
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, checkpoint.config.vocab_size, n) for n in (length, 1, 3)]
    if (tokenizer := checkpoint.tokenizer) is not None:
        rows = [
            np.asarray([tokenizer.cls_id, *ids[: length - 2], tokenizer.sep_id])
            for ids in tokenizer.encode_batch(_PROBES)
        ]
    shape = len(rows), max(map(len, rows))
    ids = np.full(shape, checkpoint.config.pad_token_id, np.int64)
    mask = np.zeros(shape, np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    probe = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros(shape, np.int64)}
    return probe | {f"{_PAIR}{name}": value[::-1] for name, value in probe.items()}


def _difference(path: Path, checkpoint: "Checkpoint") -> float:
    """Largest difference of the file's outputs from the model's, on texts with padding."""
    from keras import ops

    probe = _probe(checkpoint)
    found = run_onnx(path, probe)
    ours = ("token_ids", "padding_mask", "segment_ids")  # in the order of the probe
    inputs = {a: b.astype(np.int32) for a, b in zip(ours, probe.values(), strict=False)}
    copy, head = checkpoint.astype("float32"), checkpoint.task_head
    states = copy.encoder(inputs, training=False)["sequence_output"]
    wanted = {"last_hidden_state": states}
    if checkpoint.pooling is not None:
        wanted["sentence_embedding"] = checkpoint.pooling(states, inputs["padding_mask"])
    if head is not None:
        if head.reading.is_twin:
            inputs = {name: np.concatenate([v, v[::-1]]) for name, v in inputs.items()}
        wanted["logits"] = logits_function(copy)(inputs)["logits"]
    return max(
        largest_error(found[name], ops.convert_to_numpy(value)) for name, value in wanted.items()
    )


def _quantize(checkpoint: "Checkpoint", directory: Path) -> float:
    """Writes the int8 file beside the float one; returns the mean cosine of their vectors."""
    from onnxruntime import quantization

    # Unsigned weights: products of signed ones overflow on processors without VNNI.
    unsigned, files = quantization.QuantType.QUInt8, [directory / _FILE, directory / _QUANTIZED]
    quantization.quantize_dynamic(*files, weight_type=unsigned, per_channel=True)
    probe = _probe(checkpoint)
    exact, small = (_vectors(run_onnx(file, probe), probe) for file in files)
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(small, axis=1)
    cosine = float(np.mean(np.sum(exact * small, axis=1) / np.maximum(lengths, _TINY)))
    if not cosine >= _COSINE:
        raise EtdError(
            f"The int8 model's vectors have a mean cosine of {cosine:.4f} to the float ones; at "
            f"least {_COSINE} is expected. Leave quantize out."
        )
    return cosine


def _vectors(outputs: Mapping[str, Array], inputs: Mapping[str, Array]) -> Array:
    """The sentence's vectors; without a pooling the mean of the states."""
    if "sentence_embedding" in outputs:
        return outputs["sentence_embedding"]
    mask = inputs["attention_mask"][:, :, None]
    return np.asarray((outputs["last_hidden_state"] * mask).sum(1) / mask.sum(1), np.float32)
