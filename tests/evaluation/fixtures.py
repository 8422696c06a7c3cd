"""A tiny model and hand-made GLUE and SQuAD folders that it can learn from."""

import json
from pathlib import Path

import numpy as np

WORDS = ("cat", "dog", "mat", "the", "of", "on", "sat", "ran")


def write_sst2(folder: Path, *, train: int = 48, dev: int = 16, seed: int = 0) -> Path:
    """Sentences that are positive where they hold `cat` and negative where `dog`."""
    generator = np.random.default_rng(seed)

    def sentence(label: int) -> str:
        filler = generator.choice(WORDS[2:], size=generator.integers(1, 6))
        words = [*filler, "cat" if label else "dog"]
        return " ".join(generator.permutation(words))

    directory = folder / "SST-2"
    directory.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("dev", dev)):
        labels = generator.permutation(np.arange(count) % 2)
        rows = [f"{sentence(label)}\t{label}\n" for label in labels]
        (directory / f"{split}.tsv").write_text("sentence\tlabel\n" + "".join(rows))
    rows = [f"{10 + index}\t{sentence(index % 2)}\n" for index in range(5)]
    (directory / "test.tsv").write_text("index\tsentence\n" + "".join(rows))
    return folder


def write_stsb(folder: Path, *, pairs: int = 12, seed: int = 0) -> Path:
    """Random pairs of words with random scores."""
    generator = np.random.default_rng(seed)
    directory = folder / "STS-B"
    directory.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev"):
        rows = []
        for _ in range(pairs):
            first, second = (" ".join(generator.choice(WORDS, size=3)) for _ in range(2))
            rows.append(f"{first}\t{second}\t{generator.uniform(0, 5):.3f}\n")
        (directory / f"{split}.tsv").write_text("sentence1\tsentence2\tscore\n" + "".join(rows))
    rows = [f"{index}\ta cat\ta dog\n" for index in range(3)]
    (directory / "test.tsv").write_text("index\tsentence1\tsentence2\n" + "".join(rows))
    return folder


def squad_document(version: str, *, articles: int = 3, seed: int = 0) -> dict:
    """Paragraphs of random words; each question asks for the word behind `the`."""
    generator = np.random.default_rng(seed)
    data = []
    for article in range(articles):
        paragraphs = []
        for place in range(2):
            words = [str(word) for word in generator.choice(("cat", "dog", "mat"), size=14)]
            at = int(generator.integers(0, 12))
            words[at] = "The"
            context = " ".join(words) + "."
            start = len(" ".join(words[: at + 1])) + 1
            impossible = version == "v2.0" and place == 1
            answer = {"text": words[at + 1], "answer_start": start}
            qa = {
                "id": f"{article}-{place}",
                "question": "the?",
                "answers": [] if impossible else [answer],
            }
            if version == "v2.0":
                qa["is_impossible"] = impossible
            paragraphs.append({"context": context, "qas": [qa]})
        data.append({"title": f"Article {article}", "paragraphs": paragraphs})
    return {"version": version.removeprefix("v") if version == "v1.1" else version, "data": data}


def write_squad(folder: Path, version: str = "v1.1") -> Path:
    """A training file and a dev file."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, split in enumerate(("train", "dev")):
        values = squad_document(version, seed=seed)
        (folder / f"{split}-{version}.json").write_text(json.dumps(values), encoding="utf-8")
    return folder
