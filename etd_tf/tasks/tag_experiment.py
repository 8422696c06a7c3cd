"""Token classification: windows of sentences, scores by entities, prediction files."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.evaluation.baseline import Baseline, Baselines
from etd_tf.evaluation.classifiers import TokenClassifier
from etd_tf.evaluation.encoding import tokenize_all
from etd_tf.evaluation.experiment import Experiment, Scores
from etd_tf.evaluation.task_losses import IGNORED
from etd_tf.evaluation.training import TrainingSet, WordTable
from etd_tf.tasks import breakdown, entities
from etd_tf.tasks.tag import Tag
from etd_tf.tasks.tag_data import Sentences, write_predictions
from etd_tf.tokenization.sequences import Sequences
from etd_tf.types import Array, IntArray


@dataclasses.dataclass(frozen=True)
class Windows:
    """Sentences as `[CLS] tokens [SEP]`, long ones in parts; each word is in one of them.

    Attributes:
        sequences: The tokens, those of a sentence one after the other.
        sentence: Number of the sentence, `[w]`.
        places: Of each window the positions of its words' first tokens.
        cut: Words that are longer than a window, and lost tokens.
    """

    sequences: Sequences
    sentence: IntArray
    places: tuple[IntArray, ...]
    cut: int

    def label_table(self, labels: IntArray) -> Array:
        """Labels by token.

        Args:
            labels: Classes of all words in order.

        Returns:
            Int32 `[w, T]`: a word's class at its first token, else `IGNORED`.
        """
        longest = int(self.sequences.lengths.max())
        table = np.full((len(self.places), longest + -longest % 8), IGNORED, np.int32)
        done = 0
        for row, places in zip(table, self.places, strict=True):
            row[places] = labels[done : done + len(places)]
            done += len(places)
        return table


def make_windows(
    checkpoint: Checkpoint, texts: Sequence[Sequence[str]], *, max_length: int = 128
) -> Windows:
    """Tokenises sentences of words, and cuts those between words that do not fit.

    A word in the sentence is tokenised as behind a blank. A word of no token becomes `[UNK]`.

    Args:
        checkpoint: The model, for its tokenizer.
        texts: The words of each sentence.
        max_length: Tokens of a window, special tokens included.

    Returns:
        The windows.

    Raises:
        InputError: The model has no tokenizer or too few positions.
    """
    tokenizer = checkpoint.need_tokenizer(max_length)
    room, cut = max_length - 2, 0
    first = sorted({words[0] for words in texts})
    later = sorted({word for words in texts for word in words[1:]})
    spaced = [f" {word}" for word in later]
    known = dict(zip([*first, *spaced], tokenize_all(tokenizer, [*first, *spaced]), strict=True))
    rows: list[IntArray] = []
    sentence: list[int] = []
    places: list[IntArray] = []
    for number, words in enumerate(texts):
        found = [known[words[0]], *(known[f" {word}"] for word in words[1:])]
        cut += sum(len(ids) > room for ids in found)
        pieces = [ids[:room] or [tokenizer.unk_id] for ids in found]
        for part in _parts(pieces, room):
            ends = np.cumsum([len(ids) for ids in part])
            ids = [tokenizer.cls_id, *(one for ids in part for one in ids), tokenizer.sep_id]
            rows.append(np.asarray(ids, np.int32))
            places.append(np.concatenate([[1], 1 + ends[:-1]]).astype(np.int64))
            sentence.append(number)
    segments = tuple(np.zeros_like(row) for row in rows)
    sequences = Sequences(tuple(rows), segments, tokenizer.pad_id, max_length)
    return Windows(sequences, np.asarray(sentence, np.int64), tuple(places), cut)


def _parts(pieces: Sequence[list[int]], room: int) -> Iterator[list[list[int]]]:
    """Cuts the words of a sentence into parts that fit, of about the same length."""
    total = sum(map(len, pieces))
    aim = -(-total // -(-total // room))
    part: list[list[int]] = []
    used = 0
    for ids in pieces:
        if part and (used >= aim or used + len(ids) > room):
            yield part
            part, used = [], 0
        part.append(ids)
        used += len(ids)
    yield part


def _shown(words: Sequence[str], tags: Sequence[str]) -> str:
    """The entities of a sentence in words."""
    found = entities.find_entities(tags)
    return "; ".join(f"{kind}: {' '.join(words[start:end])}" for kind, start, end in found)


class TagExperiment(Experiment):
    """A token classification task, tokenised for one model.

    Args:
        checkpoint: The model, for its tokenizer and sizes.
        label_names: Class order of the model's logits, the task's own by default.

    Raises:
        InputError: Data is missing or malformed, or the label names are not the task's.
    """

    head = TokenClassifier

    def __init__(
        self, task: Tag, checkpoint: Checkpoint, label_names: Sequence[str] | None = None
    ) -> None:
        length = task.length_for(checkpoint)
        super().__init__(checkpoint, name=task.name, metric=task.metric, max_length=length)
        self.task = task
        self.take_labels(task.classes(), label_names)
        self._windows: dict[str, Windows] = {}
        self._found: dict[str, IntArray] = {}  # of the last evaluation, by split

    def _tokens(self, split: str) -> Windows:
        """Tokenises a split once."""
        if split not in self._windows:
            texts = self._read(split).texts
            windows = make_windows(self._checkpoint, texts, max_length=self.max_length)
            self._windows[split] = windows
            longer = len(windows.places) - len(texts)
            if longer or windows.cut:
                logging.warning(
                    "%s %s: sentences of more than %d tokens are cut between words into %d more "
                    "parts; %d words are longer than that and lose their last tokens.",
                    *(self.task.label, split, self.max_length, longer, windows.cut),
                )
        return self._windows[split]

    def _read(self, split: str) -> Sentences:
        found: Sentences = self.task.read(split)
        return found

    def _labels(self, split: str) -> IntArray:
        labels = self._read(split).labels
        return np.empty(0, np.int64) if labels is None else labels

    def settings(self) -> dict[str, Any]:
        """Source, content and length of the examples."""
        return {
            "source": self.task.source,
            "data": self.task.fingerprints(),
            "max_length": self.max_length,
            **self.task.settings_of_training(),
        }

    def make_model(self, checkpoint: Checkpoint, dtype: Any = None) -> TokenClassifier:
        """Builds a classifier of tokens."""
        return TokenClassifier(checkpoint.config, len(self.label_names), dtype=dtype)

    def training_set(self) -> TrainingSet:
        """All windows of the training sentences."""
        windows = self._tokens("train")
        return TrainingSet(
            windows.sequences, {"labels": windows.label_table(self._labels("train"))}
        )

    def by_token(self, values: Mapping[str, Array]) -> Mapping[str, Array | WordTable]:
        """Gives the first token of each training word what is known of the word."""
        windows = self._tokens("train")
        places = windows.label_table(np.arange(sum(map(len, windows.places))))
        return {name: WordTable(value, places) for name, value in values.items()}

    @property
    def training_words(self) -> tuple[IntArray, ...]:
        """Of each training sequence the positions of its words' first tokens."""
        return self._tokens("train").places

    def training_groups(self) -> IntArray:
        """The sentence of each window."""
        return self._tokens("train").sentence

    def evaluate_training_rows(self, model: keras.Model, rows: IntArray) -> Scores:
        """Scores a model on some training sentences."""
        part = self._read("train").take(np.unique(self.training_groups()[rows]))
        windows = make_windows(self._checkpoint, part.texts, max_length=self.max_length)
        found = self.predict(model, windows, f"Evaluating {self.task.label} held-out")
        return self._scores(part, found)

    def evaluate(self, model: keras.Model) -> dict[str, Scores]:
        """Scores a model on every split with tags."""
        for split in self.task.scored_splits():
            what = f"Evaluating {self.task.label} {split}"
            self._found[split] = self.predict(model, self._tokens(split), what)
        return {split: self._scores(self._read(split), one) for split, one in self._found.items()}

    def details(self) -> dict[str, Any]:
        """By split the scores of each type of entity, the confusion of tags, worst sentences."""
        return {split: self._details(split, found) for split, found in self._found.items()}

    def _details(self, split: str, found: IntArray) -> dict[str, Any]:
        labels, sentences = self._labels(split), self._read(split)
        gold, ours = (self._named(sentences, one) for one in (labels, found))
        values = breakdown.by_class(self.label_names, found, labels)
        values["classes"] = breakdown.count_table(entities.count_entities(gold, ours))
        if self.show_examples:
            starts = np.cumsum(sentences.lengths) - sentences.lengths
            wrong = np.add.reduceat((found != labels).astype(np.int64), starts)
            values["examples"] = [
                breakdown.example(
                    [" ".join(sentences.texts[row])],
                    _shown(sentences.texts[row], gold[row]),
                    _shown(sentences.texts[row], ours[row]),
                    wrong[row],
                )
                for row in breakdown.worst_first(wrong, self.show_examples)
            ]
        return values

    def _named(self, sentences: Sentences, labels: IntArray) -> list[Sequence[str]]:
        """Tags of each sentence."""
        tags = [self.label_names[label] for label in labels]
        return list(entities.sentences_of(tags, sentences.lengths.tolist()))

    def _scores(self, sentences: Sentences, found: IntArray) -> Scores:
        labels = np.empty(0, np.int64) if sentences.labels is None else sentences.labels
        pair = (self._named(sentences, one) for one in (labels, found))
        scores = entities.total(entities.count_entities(*pair).values()).scores()
        scores["accuracy"] = float(np.mean(found == labels))
        return {name: scores[name] for name in self.task.metrics}

    def baseline(self) -> Baselines:
        """What the most frequent tag for every word reaches, most often `O`."""
        found: Baselines = {}
        for split in self.task.scored_splits():
            labels = self._labels(split)
            most = int(np.bincount(labels).argmax())
            scores = self._scores(self._read(split), np.full_like(labels, most))
            answer = f"always answering {self.label_names[most]}"
            found[split] = {name: Baseline(value, answer) for name, value in scores.items()}
        return found

    def predict(self, model: keras.Model, windows: Windows, description: str) -> IntArray:
        """Predicts a class of the task for every word, in order, of its first token."""
        logits = self.run(model, windows.sequences, description)
        chosen: list[Array] = [
            row[places][:, self.class_order].argmax(axis=1)
            for row, places in zip(logits, windows.places, strict=True)
        ]
        return np.concatenate(chosen)

    def write_predictions(self, model: keras.Model, directory: Path) -> list[Path]:
        """Writes `test.conll`: every word of the test file and its tag."""
        if not self.task.test:
            return []
        found = self.predict(model, self._tokens("test"), f"Predicting {self.task.label} test")
        tags = [self.label_names[label] for label in found]
        return [write_predictions(directory / "test.conll", self._read("test").texts, tags)]
