"""Model cards: the `README.md` of a directory that may be published."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from etd_tf import __version__
from etd_tf.checkpoints.checkpoint import CLASSIFIER, SPANS, TAGS, Checkpoint
from etd_tf.errors import InputError
from etd_tf.storage.sources import resolve_source

CARD_FILE = "README.md"

_FRONT = re.compile(r"\A---\r?\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
_LICENCE = re.compile(r"^license(?:_name|_link)?:.*(?:\n(?:[ \t]+|- ).*)*", re.MULTILINE)
_LANGUAGE = re.compile(r"^language:.*(?:\n(?:[ \t]+|- ).*)*", re.MULTILINE)
_HUB = "hf://"


class Measured(NamedTuple):
    """A row of the card's table: what was measured, of this model, of its teacher."""

    name: str
    student: str
    teacher: str = ""


def read_card(source: str | Path) -> str:
    """Reads the card of a model.

    Args:
        source: The model, as `load_checkpoint` takes it.

    Returns:
        The text; empty where there is none, or where the model cannot be found any more.
    """
    try:
        return (resolve_source(source) / CARD_FILE).read_text(encoding="utf-8")
    except (InputError, OSError, UnicodeDecodeError):
        return ""


def model_card(
    checkpoint: Checkpoint,
    *,
    teacher: Checkpoint | None = None,
    made: Sequence[str] = (),
    measured: Sequence[Measured] = (),
) -> str:
    """Writes a card: what the model is, how it was made, what was measured, how to use it.

    The licence is copied from the teacher's card, or said to be unknown.

    Args:
        checkpoint: The model.
        teacher: What it was made of, if anything.
        made: How, one sentence each.
        measured: Further rows of the table of sizes.

    Returns:
        Markdown with the front matter of Hugging Face's Hub.
    """
    parent = checkpoint if teacher is None else teacher
    front = _FRONT.match(read_card(parent.source)) if parent.source else None
    licence = [found[0] for found in _LICENCE.finditer(front[1])] if front else []
    language = [found[0] for found in _LANGUAGE.finditer(front[1])] if front else []
    size = f"{checkpoint.config.num_layers} layers of width {checkpoint.config.hidden_size}"
    lines = ["---", *language, *(licence or ["license: unknown"]), *_kind(checkpoint, teacher)]
    name = f"{short_name(teacher.source)}: " if teacher is not None and teacher.source else ""
    lines += ["---", f"# {name}{size}", "", f"An encoder of {size}."]
    lines += [*_vectors(checkpoint), "", *_table(checkpoint, teacher, measured)]
    if made:
        lines += ["", "## How it was made", "", *(f"- {sentence}" for sentence in made)]
        lines.append(f"- With etd_tf {__version__}.")
    lines += ["", "## Use", "", *_use(checkpoint), "", "## Licence", ""]
    whose = "this model" if teacher is None else "the teacher"
    if licence:
        lines.append(f"As the card of {whose} says: `{' '.join(' '.join(licence).split())}`.")
    else:
        lines.append(f"Unknown: no card of {whose} names one. Find out before you publish it.")
    return "\n".join(lines) + "\n"


def short_name(source: str) -> str:
    """A short name of a model: its package, or the last part of its path."""
    scheme, _, rest = source.rpartition(":")
    return rest.partition("/")[0] if scheme == "package" else Path(source).name


def _kind(checkpoint: Checkpoint, teacher: Checkpoint | None) -> list[str]:
    """Library, task, tags and origin, in the Hub's words."""
    head, tags = checkpoint.task_head, ["knowledge-distillation"] * (teacher is not None)
    library = "transformers"
    if checkpoint.pooling is not None:
        library, task = "sentence-transformers", "sentence-similarity"
        tags += [library, "feature-extraction", "text-embeddings-inference"]
    elif head is not None:
        task = {
            CLASSIFIER: "text-classification",
            SPANS: "question-answering",
            TAGS: "token-classification",
        }[head.name]
    else:
        task = "fill-mask" if checkpoint.has_mlm_head else "feature-extraction"
    lines = [f"library_name: {library}", f"pipeline_tag: {task}"]
    lines += ["tags:", *(f"- {tag}" for tag in tags)] if tags else []
    if teacher is not None and teacher.source.startswith(_HUB):
        lines.append(f"base_model: {teacher.source.removeprefix(_HUB)}")
    return lines


def _vectors(checkpoint: Checkpoint) -> list[str]:
    """What a user of the vectors must know."""
    pooling = checkpoint.pooling
    if pooling is None:
        return []
    length = "of length 1" if pooling.normalize else "not normalised"
    lines = [
        "",
        f"- A text becomes a vector of {pooling.dimension(checkpoint.config.hidden_size)} dims, "
        f"{length}; pooling: {', '.join(pooling.modes)}.",
        f"- Texts are cut after {checkpoint.max_seq_length} tokens.",
    ]
    if pooling.similarity_fn_name:
        lines.append(f"- Similarity: {pooling.similarity_fn_name}.")
    default = pooling.default_prompt_name
    for name, prompt in pooling.prompts.items():
        used = ", used where none is named" if name == default else ""
        lines.append(f"- Prompt `{name}`{used}: `{prompt!r}`.")
    return lines


def _table(
    checkpoint: Checkpoint, teacher: Checkpoint | None, measured: Sequence[Measured]
) -> list[str]:
    if teacher is None:
        return []

    def sizes(model: Checkpoint) -> dict[str, str]:
        config = model.config
        return {
            "layers": f"{config.num_layers}",
            "width": f"{config.hidden_size}",
            "heads": f"{config.num_heads}",
            "inner width": f"{config.intermediate_size}",
            "parameters": f"{model.num_parameters() / 1e6:,.1f} M",
        }

    ours, theirs = sizes(checkpoint), sizes(teacher)
    rows = [*(Measured(name, ours[name], theirs[name]) for name in ours), *measured]
    head = ["| | this model | its teacher |", "|---|---|---|"]
    return head + [f"| {row.name} | {row.student} | {row.teacher} |" for row in rows]


def _use(checkpoint: Checkpoint) -> list[str]:
    """Code that runs in the directory of the model."""
    lines = ["In this directory (elsewhere, put its path or its name on the Hub for the dot):", ""]
    if checkpoint.pooling is None:
        code = [
            "from transformers import AutoModel, AutoTokenizer",
            "",
            'model, tokenizer = (c.from_pretrained(".") for c in (AutoModel, AutoTokenizer))',
            'states = model(**tokenizer("Some text.", return_tensors="pt")).last_hidden_state',
        ]
        if checkpoint.tokenizer is None:
            code = ["from transformers import AutoModel", "", 'AutoModel.from_pretrained(".")']
    else:
        code = [
            "from sentence_transformers import SentenceTransformer",
            "",
            'model = SentenceTransformer(".")',
            'vectors = model.encode(["Some text.", "Another one."])',
            "similarities = model.similarity(vectors, vectors)",
        ]
    lines += ["```python", *code, "```", "", "In TensorFlow:", "", "```python", "import etd_tf", ""]
    lines.append('model = etd_tf.load_checkpoint(".")')
    if checkpoint.pooling is not None:
        lines.append('vectors = model.embed(["Some text.", "Another one."])')
    return [*lines, "```"]
