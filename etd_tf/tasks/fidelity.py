"""Fidelity: how much of the teacher's vector space a student has kept, on plain texts."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etd_tf.errors import InputError
from etd_tf.settings import setting
from etd_tf.tasks.task import ScoredTask

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.evaluation.experiment import Scores
    from etd_tf.types import Array

_LEAST = 12  # texts, see `etd_tf.evaluation.fidelity`
_FLOOR = "static floor, {} dims"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FidelityTask(ScoredTask):
    """Vectors of a model beside its teacher's; needs no labels."""

    name: str = "fidelity"
    label: str = "fidelity"
    metrics: tuple[str, ...] = ("neighbours", "spearman", "cosine")
    texts: str | None = setting(
        None, "fidelity: a UTF-8 file with one text a line, like those that will be embedded."
    )
    num_texts: int = setting(
        2000, "fidelity: at most so many texts are compared, from all of the file.", least=_LEAST
    )

    split: ClassVar[str] = "texts"
    data_setting: ClassVar[str] = "texts"
    data_hint: ClassVar[str] = "texts=FILE with one text a line"
    least_models: ClassVar[int] = 2

    def read(self) -> list[str]:
        """Reads the texts; blank lines are no texts."""
        from etd_tf.storage.text_files import read_texts

        path = Path(self.source)
        texts = [text for text in read_texts(path) if text.strip()]
        if len(texts) < _LEAST:
            raise InputError(
                f"{path} holds {len(texts)} texts, a line each; expected at least {_LEAST}, "
                "better some hundreds, to look for nearest neighbours among them."
            )
        return texts

    def fingerprints(self) -> dict[str, str]:
        """Reads the texts; their hash."""
        return {self.split: hashlib.sha256(json.dumps(self.read()).encode()).hexdigest()}

    def score(self, models: "Mapping[str, Checkpoint]") -> "dict[str, Scores]":
        """Scores models against the first one, see `ScoredTask.score`; and their static floor.

        Returns:
            Metrics by model, then of a student without a Transformer for each width that
            students have. `cosine` is only there where the vectors are as wide as the teacher's.

        Raises:
            InputError: The texts cannot be read, or there is no student.
        """
        import numpy as np

        from etd_tf.evaluation.static_floor import count_tokens, make_static_floor

        self.check_models(models)
        every = self.read()
        number = min(self.num_texts, len(every))
        texts = [every[place * len(every) // number] for place in range(number)]
        (first, teacher), *others = models.items()
        target = teacher.embed(texts, max_length=self.max_length)
        scores = {first: _compare(target, target)}
        tokenizer, size = teacher.need_tokenizer(_LEAST), teacher.config.vocab_size
        rows = (np.asarray(ids, np.int64) for ids in tokenizer.encode_batch(every))
        counts = count_tokens(rows, size)
        floors = {}
        for name, model in others:
            vectors = model.embed(texts, max_length=self.max_length)
            scores[name] = _compare(target, vectors)
            width = vectors.shape[1]
            if width not in floors:
                floor = make_static_floor(teacher, counts, width).embed(texts)
                floors[width] = _compare(target, floor)
                floors[width].pop("cosine", None)  # it is not in the teacher's space
        return scores | {_FLOOR.format(width): floor for width, floor in floors.items()}

    def remarks(self, scores: "Mapping[str, Scores]") -> tuple[str, ...]:
        """Names the students that are not better than a model without a Transformer."""
        prefix = _FLOOR.partition("{")[0]
        floors = [found[self.metric] for name, found in scores.items() if name.startswith(prefix)]
        return tuple(
            f"{name} does not beat the static floor: its layers are not worth their time."
            for name, found in scores.items()
            if not name.startswith(prefix) and found[self.metric] <= max(floors, default=0.0)
        )


def _compare(teacher: "Array", vectors: "Array") -> "Scores":
    from etd_tf.evaluation.fidelity import measure_fidelity

    found = measure_fidelity(teacher, vectors)
    scores = {"neighbours": found.neighbours, "spearman": found.spearman}
    return scores if found.cosine is None else {**scores, "cosine": found.cosine}
