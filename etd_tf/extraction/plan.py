"""The extraction plan: which teacher units and layers make up the student.

A plan together with its teacher determines the student's weights bit for bit, so the
plan is what should be kept of an extraction; a seed alone would tie the result to one
version of the random generator.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.json_files import read_json_object
from etd_tf.types import Array, IntArray

_FORMAT = "etd_tf extraction plan 1"
HEAD_MODES = ("neurons", "heads", "both")
EXTRACTIONS = ("impt", "rand", "mixed", "chosen")
_LAYER_KEYS = ("query_key", "value", "ffn")


@dataclasses.dataclass(frozen=True, eq=False)
class ExtractionPlan:
    """Index arrays that slice a student out of a teacher.

    Layers are counted from 1 as in the literature (layer 0 would be the embeddings);
    units are counted from 0 as in arrays. All index arrays are strictly increasing.

    Attributes:
        teacher_config: The architecture that the plan applies to.
        student_config: The architecture that it produces.
        layers: L' teacher layers, counted from 1, strictly increasing.
        hidden: `[H']` teacher channels of the residual stream, the same in all layers.
        query_key: L' arrays `[H']`: columns n * D + d of dim d of teacher head n, shared
            by queries and keys; D' columns for each kept head.
        value: L' arrays `[H']`: the same for values and the rows of the output kernel.
        ffn: L' arrays `[F']` of inner feed-forward neurons.
        head_mode: `"neurons"` (every head kept, cut inside), `"heads"` (whole heads kept)
            or `"both"` (a composition of the two).
        attention_scale: Factor on query and key kernels and biases; (D'/D)^(1/4) keeps
            the retained part of the attention logits, 1.0 is plain slicing.
        extraction: `"impt"`, `"rand"`, `"mixed"` (some unit kinds random) or `"chosen"`
            (by the caller, or composed).
        seed: Seed of the random part, if any.
        teacher_fingerprint: `Checkpoint.fingerprint()` of the only teacher that the plan
            is valid for; None for a plan that depends on shapes alone.

    Raises:
        InputError: An index array has the wrong length, is not increasing, leaves the
            teacher or mixes heads; or a field has an unknown value.
    """

    teacher_config: BertConfig
    student_config: BertConfig
    layers: tuple[int, ...]
    hidden: IntArray
    query_key: tuple[IntArray, ...]
    value: tuple[IntArray, ...]
    ffn: tuple[IntArray, ...]
    head_mode: str = "neurons"
    attention_scale: float = 1.0
    extraction: str = "chosen"
    seed: int | None = None
    teacher_fingerprint: str | None = None

    def __post_init__(self) -> None:
        self._freeze_arrays()
        teacher, student = self.teacher_config, self.student_config
        _check_indices("layers", self.layers, student.num_layers, 1, teacher.num_layers)
        _check_indices("hidden", self.hidden, student.hidden_size, 0, teacher.hidden_size - 1)
        for name in _LAYER_KEYS:
            if len(getattr(self, name)) != student.num_layers:
                raise InputError(
                    f"The plan has {len(getattr(self, name))} arrays {name}, expected one for "
                    f"each of the student's {student.num_layers} layers."
                )
        for index in range(student.num_layers):
            self._check_layer(index)
        self._check_scalars()

    def _freeze_arrays(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "hidden", _frozen("hidden", self.hidden))
        for name in _LAYER_KEYS:
            arrays = tuple(_frozen(name, array) for array in getattr(self, name))
            object.__setattr__(self, name, arrays)

    def _check_layer(self, index: int) -> None:
        teacher, student = self.teacher_config, self.student_config
        place = f" of student layer {index + 1}"
        ffn = self.ffn[index]
        _check_indices(
            f"ffn{place}", ffn, student.intermediate_size, 0, teacher.intermediate_size - 1
        )
        kept_heads = []
        for name in ("query_key", "value"):
            columns = getattr(self, name)[index]
            _check_indices(name + place, columns, student.hidden_size, 0, teacher.hidden_size - 1)
            heads = (columns // teacher.head_size).reshape(student.num_heads, student.head_size)
            if (heads != heads[:, :1]).any() or (np.diff(heads[:, 0]) <= 0).any():
                raise InputError(
                    f"The plan's {name}{place} does not hold {student.head_size} dims of each of "
                    f"{student.num_heads} teacher heads."
                )
            kept_heads.append(heads[:, 0])
        if (kept_heads[0] != kept_heads[1]).any():
            raise InputError(f"The plan's query_key and value{place} keep different heads.")

    def _check_scalars(self) -> None:
        for name, options in (("head_mode", HEAD_MODES), ("extraction", EXTRACTIONS)):
            if getattr(self, name) not in options:
                raise InputError(
                    f"The plan's {name}={getattr(self, name)!r} is not one of {', '.join(options)}."
                )
        scale = self.attention_scale
        if not isinstance(scale, float) or not 0.0 < scale <= 1.0:
            raise InputError(f"The plan's attention_scale={scale!r} is not a number in (0, 1].")
        if self.seed is not None and (type(self.seed) is not int or self.seed < 0):
            raise InputError(f"The plan's seed={self.seed!r} is not a whole number >= 0.")
        mark = self.teacher_fingerprint
        if mark is not None and not (isinstance(mark, str) and len(mark) == 64):
            raise InputError(f"The plan's teacher_fingerprint={mark!r} is not a SHA-256.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExtractionPlan):
            return NotImplemented
        return self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def selection_matrix(self) -> Array:
        """Returns the float32 matrix `[H', H]` with a one at (i, hidden[i]).

        Multiplying student states with it puts each channel where the teacher has it, so it
        is the natural start of a projection to the teacher's width.
        """
        matrix = np.zeros((self.hidden.size, self.teacher_config.hidden_size), np.float32)
        matrix[np.arange(self.hidden.size), self.hidden] = 1.0
        return matrix

    def to_json(self) -> str:
        """Returns the plan as readable JSON that `from_json` restores exactly."""
        fields: dict[str, Any] = {
            "format": _FORMAT,
            "extraction": self.extraction,
            "seed": self.seed,
            "head_mode": self.head_mode,
            "attention_scale": self.attention_scale,
            "teacher_fingerprint": self.teacher_fingerprint,
            "teacher": self.teacher_config.to_dict(),
            "student": self.student_config.to_dict(),
            "hidden": self.hidden.tolist(),
        }
        lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items()]
        rows = ",\n".join(self._layer_json(index) for index in range(len(self.layers)))
        return "{\n" + ",\n".join(lines) + f',\n  "layers": [\n{rows}\n  ]\n}}\n'

    def _layer_json(self, index: int) -> str:
        lines = [f'"teacher_layer": {self.layers[index]}']
        lines += [f'"{name}": {getattr(self, name)[index].tolist()}' for name in _LAYER_KEYS]
        return "    {" + ",\n     ".join(lines) + "}"

    @classmethod
    def from_json(cls, text: str) -> "ExtractionPlan":
        """Reads what `to_json` wrote.

        Raises:
            InputError: The text is not a valid plan; the message says what is wrong.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"The extraction plan is not valid JSON ({error}).") from error
        return cls._from_values(values)

    @classmethod
    def _from_values(cls, values: Any) -> "ExtractionPlan":
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise InputError(f'This is no extraction plan: expected "format": "{_FORMAT}".')
        names = ("extraction", "seed", "head_mode", "attention_scale", "teacher_fingerprint")
        keys = ("format", *names, "teacher", "student", "hidden", "layers")
        _check_keys("The extraction plan", values, keys)
        layers = values["layers"]
        if not isinstance(layers, list):
            raise InputError("The extraction plan's layers are not a list.")
        for layer in layers:
            _check_keys("A layer of the extraction plan", layer, ("teacher_layer", *_LAYER_KEYS))
        fields: dict[str, Any] = {name: values[name] for name in names}
        for name in _LAYER_KEYS:
            fields[name] = tuple(layer[name] for layer in layers)
        return cls(
            teacher_config=_config_from("teacher", values["teacher"]),
            student_config=_config_from("student", values["student"]),
            layers=tuple(layer["teacher_layer"] for layer in layers),
            hidden=values["hidden"],
            **fields,
        )

    def save(self, path: str | Path) -> None:
        """Writes the plan as one JSON file, atomically."""
        write_atomically(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "ExtractionPlan":
        """Reads a plan's JSON file.

        Raises:
            InputError: The file cannot be read or holds no valid plan; names the file.
        """
        values = read_json_object(Path(path))
        try:
            return cls._from_values(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def same_shapes(one: BertConfig, other: BertConfig) -> bool:
    """Whether two configurations compute the same function of the same weights."""
    rates = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    return one.replace(**rates) == other.replace(**rates)


def _frozen(name: str, values: Any) -> IntArray:
    """Copies indices into a read-only int64 array; no silent rounding or boolean masks."""
    try:
        given = np.asarray(values)
    except ValueError as error:  # ragged nested lists
        raise InputError(f"The plan's {name} is not a list of whole numbers.") from error
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise InputError(f"The plan's {name} is not a list of whole numbers.")
    array = given.astype(np.int64)
    array.setflags(write=False)
    return array


def _check_indices(
    name: str, values: Sequence[int] | IntArray, size: int, low: int, high: int
) -> None:
    array = _frozen(name, list(values) or [0])
    if len(values) != size:
        raise InputError(f"The plan's {name} has {len(values)} entries, the student needs {size}.")
    if (np.diff(array) <= 0).any() or array[0] < low or array[-1] > high:
        raise InputError(
            f"The plan's {name} must be strictly increasing numbers from {low} to {high}."
        )


def _check_keys(what: str, values: Any, keys: Sequence[str]) -> None:
    if not isinstance(values, dict):
        raise InputError(f"{what} is not a JSON object.")
    missing = [key for key in keys if key not in values]
    unknown = [key for key in values if key not in keys]
    if missing or unknown:
        found = [f"lacks {', '.join(missing)}"] if missing else []
        found += [f"has unknown entries {', '.join(unknown)}"] if unknown else []
        raise InputError(f"{what} {' and '.join(found)}.")


def _config_from(name: str, values: Any) -> BertConfig:
    fields = [field.name for field in dataclasses.fields(BertConfig)]
    _check_keys(f"The extraction plan's {name}", values, fields)
    try:
        return BertConfig(**values)
    except TypeError as error:
        raise InputError(f"The extraction plan's {name} is not valid: {error}.") from error
