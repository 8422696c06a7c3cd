"""Retrieval: how well a model's vectors find what answers a query."""

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etd_tf.settings import setting
from etd_tf.tasks.squad import SquadData
from etd_tf.tasks.task import ScoredTask

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.evaluation.experiment import Scores
    from etd_tf.tasks.search_data import SearchData

_DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # in sentence-transformers' order


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchTask(ScoredTask, abc.ABC):
    """Ranks all documents for each query by the similarity of their vectors.

    Queries get the model's prompt `query`, documents the one for documents, where it has them.
    Vectors are compared as the model says: by dot products, or else by cosines.
    """

    metrics: tuple[str, ...] = ("ndcg@10", "recall@10", "recall@100", "mrr")

    @abc.abstractmethod
    def read(self) -> "SearchData":
        """Reads queries, documents and what is relevant.

        Raises:
            InputError: Data is missing or malformed.
        """

    def fingerprints(self) -> dict[str, str]:
        """Reads the data; its hash."""
        return {self.split: self.read().fingerprint()}

    def score(self, models: "Mapping[str, Checkpoint]") -> "dict[str, Scores]":
        """Scores models, see `ScoredTask.score`; texts are cut where each model cuts them."""
        data = self.read()
        return {name: self._score(model, data) for name, model in models.items()}

    def _score(self, model: "Checkpoint", data: "SearchData") -> "Scores":
        from etd_tf.evaluation.retrieval import score_retrieval

        pooling = model.pooling
        prompts: Mapping[str, str] = pooling.prompts if pooling is not None else {}
        of_document = next((name for name in _DOCUMENT_PROMPTS if name in prompts), None)
        of_query = "query" if "query" in prompts else None
        dot = pooling is not None and pooling.similarity_fn_name == "dot"
        return score_retrieval(
            model.embed(data.queries, prompt=of_query, max_length=self.max_length),
            model.embed(data.documents, prompt=of_document, max_length=self.max_length),
            data.relevant,
            left_out=data.left_out,
            similarity="dot" if dot else "cosine",
        )

    def remarks(self, scores: "Mapping[str, Scores]") -> tuple[str, ...]:
        """Says which share of the first model's score the others keep."""
        (first, best), *others = ((name, found[self.metric]) for name, found in scores.items())
        if best <= 0:
            return ()
        return tuple(
            f"{name} keeps {100 * value / best:.1f} % of {first}'s {self.metric}."
            for name, value in others
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retrieval(SearchTask):
    """Any collection in BEIR's layout."""

    name: str = "retrieval"
    label: str = "retrieval"
    retrieval_dir: str | None = setting(
        None,
        "retrieval: directory in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.",
    )
    retrieval_split: str = setting("test", "retrieval: which judgements in qrels.")

    split: ClassVar[str] = "judged"
    data_setting: ClassVar[str] = "retrieval_dir"
    data_hint: ClassVar[str] = (
        "retrieval_dir=DIR in BEIR's layout (corpus.jsonl, queries.jsonl, qrels/test.tsv)"
    )

    def read(self) -> "SearchData":
        """Reads the files, see `SearchTask.read`."""
        from etd_tf.tasks.search_data import read_beir

        return read_beir(Path(self.source), self.retrieval_split)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquadRetrieval(SearchTask, SquadData):
    """SQuAD v1.1's questions look for their paragraphs."""

    name: str = "squad-retrieval"
    label: str = "SQuAD retrieval"

    def read(self) -> "SearchData":
        """Reads SQuAD, see `SearchTask.read`."""
        from etd_tf.tasks.search_data import search_in_squad
        from etd_tf.tasks.squad_data import load_squad

        return search_in_squad(load_squad("v1.1", self.split, self.source))
