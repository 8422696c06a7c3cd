"""What the documentation says is true: links, flags, names, numbers and commands."""

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from absl import flags as absl_flags

from etd_tf.cli.app import FlagSet, help_text
from tests.helpers import REPOSITORY, tiny_tokenizer
from tests.sources import PACKAGE

DOCS = REPOSITORY / "docs"
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")])
CONFIGS = sorted((REPOSITORY / "configs").glob("*.flags"))
COMMANDS = sorted(path.name for path in (REPOSITORY / "bin").glob("etd_*"))
# What absl gives every command.
COMMON_FLAGS = {"help", "flagfile"}
# Flags of other programs, by the program that a code span or command starts with.
OTHER_PROGRAMS = {"tensorflow_model_server", "tensorboard", "pip", "make", "mypy", "ruff"}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FLAG = re.compile(r"(?<![\w-])--(?:\[no\])?([a-z]\w*)")


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def fences(path: Path, *languages: str) -> list[str]:
    return [body for language, body in _FENCE.findall(text_of(path)) if language in languages]


def prose(path: Path) -> str:
    return _FENCE.sub("", text_of(path))


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def flag_set(command: str) -> FlagSet:
    """The flags of a command; starts no TensorFlow."""
    found = FlagSet()
    importlib.import_module(f"etd_tf.cli.{command.removeprefix('etd_')}").COMMAND.define(found)
    return found


def known_flags(command: str) -> set[str]:
    values = flag_set(command).values
    switches = {f"no{name}" for name in values if values[name].boolean}
    return {*values, *switches, *COMMON_FLAGS}


KNOWN = {command: known_flags(command) for command in COMMANDS}


def benchmark_flags(script: str) -> set[str]:
    """Flags that a script of benchmarks/ adds to its parser."""
    tree = ast.parse(text_of(REPOSITORY / script))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    added = (node for node in calls if getattr(node.func, "attr", "") == "add_argument")
    return {"help", *(ast.literal_eval(node.args[0]).removeprefix("--") for node in added)}


BENCHMARKS = {
    name_of(path): benchmark_flags(name_of(path))
    for path in sorted((REPOSITORY / "benchmarks").glob("*.py"))
}


def test_there_is_something_to_test():
    assert {"README.md", "docs/index.md", "docs/scaling.md"} <= {name_of(page) for page in PAGES}
    assert CONFIGS
    assert COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page):
    wrong = []
    for target in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(REPOSITORY):
            wrong.append(f"{target}: there is no such file")
        elif anchor and anchor not in anchors(file):
            wrong.append(f"{target}: {sorted(anchors(file))}")
    assert not wrong, "\n".join(wrong)


def commands_in(text: str) -> Iterator[list[str]]:
    """Words of the lines that start a command of ours or a benchmark, continuations joined."""
    for line in text.replace("\\\n", " ").splitlines():
        with contextlib.suppress(ValueError):  # no shell line
            words = shlex.split(line.strip().removeprefix("# Run: "), comments=True)
            if words and words[0].endswith("python") and len(words) > 1:
                words = words[1:]
            if words and (Path(words[0]).name in KNOWN or words[0] in BENCHMARKS):
                yield words


def flags_of(program: str) -> set[str]:
    return BENCHMARKS.get(program) or KNOWN[Path(program).name]


def unknown_flags(words: list[str]) -> list[str]:
    """Flags in a command that it does not have; stops at its end."""
    end = next((i for i, word in enumerate(words) if word in ("|", ";", "&&", ">")), len(words))
    used = (re.match(r"\[?--(\w+)", word) for word in words[1:end])
    return [f"{words[0]} --{m[1]}" for m in used if m and m[1] not in flags_of(words[0])]


def code_blocks(path: Path) -> list[str]:
    if path.suffix == ".md":
        return fences(path, "", "bash", "sh")
    comments = [line for line in text_of(path).splitlines() if line.startswith("#")]
    return ["\n".join(line.removeprefix("# ") for line in comments).replace("Run: ", "")]


@pytest.mark.parametrize("path", [*PAGES, *CONFIGS], ids=name_of)
def test_commands_have_the_flags_they_are_shown_with(path):
    wrong = [
        flag
        for block in code_blocks(path)
        for words in commands_in(block)
        for flag in unknown_flags(words)
    ]
    assert not wrong, wrong


def is_excerpt(words: list[str]) -> bool:
    return any(word.startswith(("--help", "[", "...", "--flagfile=...")) for word in words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_shown_can_be_parsed(page, monkeypatch):
    """Values are of the right kind, and no required flag is missing."""
    monkeypatch.chdir(REPOSITORY)  # where the flag files are
    for block in code_blocks(page):
        for words in commands_in(block):
            if words[0] in BENCHMARKS or is_excerpt(words):
                continue
            flags = flag_set(Path(words[0]).name)
            assert flags.values(words)[1:] == [], words
            flags.check_required()


def test_commands_are_found_in_documents():
    """The test before must not pass because it sees nothing."""
    shown = {
        Path(words[0]).name
        for path in [*PAGES, *CONFIGS]
        for block in code_blocks(path)
        for words in commands_in(block)
    }
    assert set(COMMANDS) <= shown
    assert "cost_model.py" in shown
    assert unknown_flags(["bin/etd_distill", "--teacher=x", "--noverwrite", "--nooverwrite"]) == [
        "bin/etd_distill --noverwrite"
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_flags_named_in_prose_exist(page):
    wrong = []
    anything = set().union(*KNOWN.values(), *BENCHMARKS.values())
    for span in re.findall(r"`([^`]+)`", prose(page)):
        words = span.split()
        program = next((w for w in words if w in BENCHMARKS or Path(w).name in KNOWN), None)
        if words[0] in OTHER_PROGRAMS or words[0].startswith("pip"):
            continue
        known = anything if program is None else flags_of(program)
        wrong += [f"`{span}`: --{flag}" for flag in _FLAG.findall(span) if flag not in known]
    assert not wrong, wrong


def choices_of(name: str) -> list[list[str]]:
    """The values that each command with this flag takes; none where the flag is no choice."""
    found = [flag_set(command).values for command in COMMANDS]
    flags = [values[name] for values in found if name in values]
    return [flag.parser.enum_values for flag in flags if isinstance(flag, absl_flags.EnumFlag)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_values_of_choices_exist(page):
    wrong = []
    for name, value in re.findall(r"--(\w+)=([\w./-]+)", text_of(page)):
        choices = choices_of(name)
        if choices and not any(value in known for known in choices):
            wrong.append(f"--{name}={value}")
    assert not wrong, wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_compile(page):
    for block in fences(page, "python"):
        compile(block, name_of(page), "exec")


def dotted_names(page: Path) -> set[str]:
    """`etd_tf.a.b` in Python blocks, code spans and reference directives."""
    names = set()
    for block in fences(page, "python"):
        names |= {
            ast.unparse(n) for n in ast.walk(ast.parse(block)) if isinstance(n, ast.Attribute)
        }
        names |= {
            f"{node.module}.{alias.name}"
            for node in ast.walk(ast.parse(block))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
    text = prose(page)
    names |= set(re.findall(r"`(etd_tf(?:\.\w+)+)", text))
    names |= set(re.findall(r"^::: (etd_tf[\w.]*)$", text, re.MULTILINE))
    names |= set(re.findall(r"\]\[(etd_tf[\w.]+)\]", text))
    return {name for name in names if re.fullmatch(r"etd_tf(\.\w+)*", name)}


def exists(name: str) -> bool:
    found, parts = importlib.import_module("etd_tf"), name.split(".")[1:]
    for index, part in enumerate(parts):
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(".".join(["etd_tf", *parts[: index + 1]]))
            except ModuleNotFoundError:
                return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_of_the_library_exist(page):
    missing = [name for name in sorted(dotted_names(page)) if not exists(name)]
    assert not missing, missing


def test_files_named_in_documents_exist():
    pattern = re.compile(r"\b((?:configs|benchmarks|tests|requirements)/[\w./-]*\w)")
    wrong = [
        f"{name_of(page)}: {path}"
        for page in PAGES
        for path in pattern.findall(text_of(page))
        if not (REPOSITORY / path).exists()
    ]
    assert not wrong, wrong


def test_make_targets_named_in_documents_exist():
    targets = set(re.findall(r"^([a-z-]+):", text_of(REPOSITORY / "Makefile"), re.MULTILINE))
    pattern = re.compile(r"(?:^|`)make ([a-z-]+)", re.MULTILINE)
    for page in PAGES:
        named = set(pattern.findall(text_of(page)))
        assert named <= targets, f"{name_of(page)}: {named - targets}"


def test_printed_values_in_python_blocks_are_right():
    """Lines `expression  # number` of the page on sizes."""
    (block, *_) = fences(DOCS / "student-size.md", "python")
    names: dict[str, object] = {}
    exec(compile(block, "student-size.md", "exec"), names)  # noqa: S102 - our own text
    shown = re.findall(r"^(\S.*?)\s+# ([\d_.]+)", block, re.MULTILINE)
    assert len(shown) == 3
    for expression, value in shown:
        result = eval(expression, names)  # noqa: S307 - our own text
        assert result == pytest.approx(float(value), rel=1e-3 if "." in value else 0), expression


def size_rows() -> Iterator[list[str]]:
    for line in text_of(DOCS / "student-size.md").splitlines():
        if re.match(r"\| \d+ x \d+ x \d+ x \d+", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_of_sizes_is_right():
    from etd_tf.modeling import BertConfig

    rows, whole = list(size_rows()), 0
    assert len(rows) == 6
    for sizes, parameters, embeddings, flops, share in rows:
        layers, hidden, heads, inner = (int(size) for size in re.findall(r"\d+", sizes)[:4])
        config = BertConfig(30522, layers, hidden, heads, inner)
        whole = whole or config.flops(128)
        assert parameters == f"{config.num_parameters() / 1e6:.1f} M"
        assert embeddings == f"{30522 * hidden / 1e6:.1f} M"
        assert flops == f"{config.flops(128) / 1e9:.2f}"
        assert share == f"{config.flops(128) / whole:.0%}".replace("%", " %")


def load_script(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def shown_outputs() -> list[tuple[str, str]]:
    pattern = r"^```\n(\S*python benchmarks/cost_model.py.*?)\n```\n```text\n(.*?)```$"
    return re.findall(pattern, text_of(DOCS / "scaling.md"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("place", range(5))
def test_the_cost_model_prints_what_is_shown(place, capsys):
    shown = shown_outputs()
    assert len(shown) == 5
    command, output = shown[place]
    load_script("benchmarks/cost_model.py").main(shlex.split(command)[2:])
    assert capsys.readouterr().out == output


def test_the_cost_model_by_hand():
    from etd_tf.modeling import BertConfig

    model = load_script("benchmarks/cost_model.py")
    teacher, student = BertConfig(11, 4, 6, 2, 10), BertConfig(11, 2, 4, 2, 7)
    job = model.Job(teacher, student, batch_size=8, sequence_length=5)
    # L * [2T (4 H H + 2 H F) + 4 T T H]
    forward_t = 4 * (10 * (4 * 36 + 2 * 60) + 100 * 6)
    forward_s = 2 * (10 * (4 * 16 + 2 * 28) + 100 * 4)
    assert job.flops == 8 * (forward_t + 3 * forward_s)
    device = model.Device(rate=1e6, memory=1e5, bandwidth=1e4, latency=0.5, source="")
    step = model.predict(job, device, devices=4, efficiency=0.25)
    assert step.compute == pytest.approx(job.flops / 4 / 0.25e6)
    assert step.update == pytest.approx(40 * job.parameters / 1e5)
    assert step.exchange == pytest.approx(6 / 4 * 4 * job.parameters / 1e4 + 6 * 0.5)
    alone = model.predict(job, device, devices=1, efficiency=0.25)
    assert alone.exchange == 0
    share = model.calibrated(job, device, alone.seconds)
    assert share == pytest.approx(0.25)
    with pytest.raises(SystemExit, match="give a longer time"):
        model.calibrated(job, device, alone.update / 2)


def test_own_devices_need_all_rates():
    model = load_script("benchmarks/cost_model.py")
    with pytest.raises(SystemExit, match="needs --rate, --memory_bandwidth"):
        model.main(["--device=own", "--rate=1e12"])
    flags = model.read_flags(["--device=v100", "--bandwidth=1e9"])
    assert isinstance(flags, argparse.Namespace)
    device = model.chosen_device(flags)
    assert (device.rate, device.bandwidth) == (model.DEVICES["v100"].rate, 1e9)
    assert "By flag: bandwidth." in device.source


def test_records_are_as_long_as_those_on_disk(tmp_path):
    from etd_tf.data.prepare import RecordOptions, prepare_records

    (tmp_path / "text").write_text("the cat sat on the mat\n" * 200)
    options = RecordOptions(sequence_length=16, held_out_fraction=0.0)
    records = prepare_records(
        [str(tmp_path / "text")], tiny_tokenizer(), tmp_path / "out", options=options
    )
    (file,) = records.shards["train"]
    size = load_script("benchmarks/cost_model.py").record_bytes(16, tiny_tokenizer().vocab_size)
    assert file.path.stat().st_size == size * records.num_examples()


def test_every_command_is_in_the_reference():
    hooks = load_script("docs/site_hooks.py")
    page = text_of(DOCS / "reference" / "commands.md")
    built = hooks.on_page_markdown(page)
    for command in COMMANDS:
        module = importlib.import_module(f"etd_tf.cli.{command.removeprefix('etd_')}")
        assert help_text(module.COMMAND, flag_set(command)) in built
    assert "<!-- help" not in built


def test_every_part_has_a_reference_page():
    parts = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"cli"}
    pages = {path.stem for path in (DOCS / "reference").glob("*.md")}
    assert pages == parts | {"commands", "errors", "etd_tf"}


def test_every_public_name_is_in_the_reference():
    import etd_tf

    page = text_of(DOCS / "reference" / "etd_tf.md")
    missing = [n for n in etd_tf.__all__ if n != "__version__" and f"`etd_tf.{n}`" not in page]
    assert not missing, missing


def test_lazily_loaded_names_reach_the_reference():
    griffe = pytest.importorskip("griffe")
    extension = load_script("docs/lazy_names.py").LazyNames()
    package = griffe.load(
        "etd_tf",
        search_paths=[str(REPOSITORY)],
        allow_inspection=False,
        extensions=griffe.Extensions(extension),
    )
    import etd_tf.data
    import etd_tf.evaluation

    for module in (etd_tf.data, etd_tf.evaluation):
        documented = package[module.__name__.removeprefix("etd_tf.")]
        assert set(module.__all__) == set(documented.exports)
        for name in module.__all__:
            assert documented[name].docstring, f"{module.__name__}.{name}"


def test_the_site_lists_every_page():
    listed = set(re.findall(r"[\w/-]+\.md", text_of(REPOSITORY / "mkdocs.yml")))
    assert listed == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


def test_the_timing_of_processes_explains_itself():
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stop:
        parser_of("benchmarks/processes.py")
    assert stop.value.code == 0
    assert "two workers" in out.getvalue()


def parser_of(script: str) -> None:
    """Runs a script's `--help`."""
    arguments, sys.argv = sys.argv, [script, "--help"]
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        load_script(script).main()
    finally:
        sys.path.remove(str(REPOSITORY / "benchmarks"))
        sys.argv = arguments


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
