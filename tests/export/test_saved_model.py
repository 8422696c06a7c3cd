"""The serving SavedModel of a checkpoint: signatures, numbers, and use without etd_tf."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.tools import saved_model_cli

from etd_tf.errors import EtdError, InputError
from etd_tf.export import SavedModel, saved_model
from etd_tf.export.saved_model import masked_lm_function, pooled_function
from etd_tf.modeling.pooling import POOLING_MODES, DenseLayer, Pooling
from etd_tf.modeling.reading import USUAL, Reading
from tests.export.numbers import encode, read_logits, with_head, with_tags
from tests.helpers import WORDPIECES, random_batch, relative_error, tiny_checkpoint

TEXTS = ["The cat sat on the mat.", "", "na\u00efve \U0001f600 [MASK]", "dog " * 40]


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint(mlm_head=True)


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory):
    return SavedModel().write(checkpoint, tmp_path_factory.mktemp("served") / "student")


def signature_table(path):
    loaded = tf.saved_model.load(str(path))

    def specs(structure):
        return {name: (s.dtype.name, s.shape.as_list()) for name, s in structure.items()}

    return {
        name: (specs(f.structured_input_signature[1]), specs(f.structured_outputs))
        for name, f in loaded.signatures.items()
    }


def test_golden_signatures(model):
    ids = {name: ("int32", [None, None]) for name in ("token_ids", "segment_ids", "padding_mask")}
    encoded = {
        "sequence_output": ("float32", [None, None, 15]),
        "pooled_output": ("float32", [None, 15]),
    }
    tokens = {name: ("int32", [None, None]) for name in ("token_ids", "padding_mask")}
    assert signature_table(model.path) == {
        "serving_default": ({"text": ("string", [None])}, {**encoded, **tokens}),
        "serve_ids": (ids, encoded),
        "masked_lm": (ids, {"mlm_logits": ("float32", [None, None, len(WORDPIECES)])}),
    }


def test_layout_is_that_of_tensorflow_serving(model):
    assert Path(model.path).name == "1"
    assert model.takes_text
    assert {entry.name for entry in Path(model.path).parent.iterdir()} == {"1"}
    assert (Path(model.path) / "saved_model.pb").is_file()
    assert (Path(model.path) / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 0
    lines = (Path(model.path) / "assets" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert lines == list(WORDPIECES)


def test_every_signature_has_a_warmup_request(model):
    path = Path(model.path) / "assets.extra" / "tf_serving_warmup_requests"
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    for name in (b"serving_default", b"serve_ids", b"masked_lm"):
        assert sum(name in record for record in records) == 1
    assert all(b"student" in record for record in records)


def test_ids_signature_equals_the_encoder(model, checkpoint):
    batch = random_batch(checkpoint.config)
    expected = checkpoint.encoder(batch)
    outputs = tf.saved_model.load(str(model.path)).signatures["serve_ids"](
        **{name: tf.constant(value) for name, value in batch.items()}
    )
    for name in ("sequence_output", "pooled_output"):
        assert relative_error(outputs[name], expected[name]) < 1e-5


@pytest.mark.parametrize("reading", [USUAL, Reading("mean"), Reading("mean", "twin")])
def test_a_head_gives_logits_of_texts(tmp_path, reading):
    checkpoint = with_head(reading)
    export = SavedModel().write(checkpoint, tmp_path / "out")
    assert "Without the head" not in export.note
    serve = tf.saved_model.load(export.path).signatures["serving_default"]
    texts = {"text": TEXTS[:2], "text_pair": ["a dog", "the cat"]}
    names = ["text", "text_pair"] if reading.is_twin else ["text"]
    assert sorted(serve.structured_input_signature[1]) == names
    outputs = serve(**{name: tf.constant(texts[name]) for name in names})
    first, second = (encode(checkpoint, one, max_length=23) for one in texts.values())
    expected = read_logits(checkpoint, first, second)
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-4)
    assert ("sequence_output" in outputs) != reading.is_twin


def test_a_head_of_tokens_gives_logits_of_each(tmp_path):
    checkpoint = with_tags()
    path = Path(SavedModel().write(checkpoint, tmp_path / "out").path)
    assert (path / "assets.extra" / "labels.txt").read_text() == "O\nB-A\nI-A\n"
    outputs = tf.saved_model.load(str(path)).signatures["serving_default"](tf.constant(TEXTS[:2]))
    batch, head = encode(checkpoint, TEXTS[:2], max_length=23), checkpoint.task_head
    np.testing.assert_array_equal(outputs["token_ids"], batch["token_ids"])
    states = np.asarray(checkpoint.encoder(batch)["sequence_output"])
    difference = np.abs(outputs["logits"] - (states @ head.kernel + head.bias))
    assert difference[batch["padding_mask"] == 1].max() <= 2e-5


def test_masked_lm_signature_equals_encoder_and_head(model, checkpoint):
    batch = random_batch(checkpoint.config)
    hidden = checkpoint.encoder(batch)["sequence_output"]
    expected = checkpoint.mlm_head(hidden, checkpoint.encoder.embeddings.token)
    outputs = tf.saved_model.load(str(model.path)).signatures["masked_lm"](
        **{name: tf.constant(value) for name, value in batch.items()}
    )
    assert relative_error(outputs["mlm_logits"], expected) < 1e-5


_CONSUMER = """
import json, sys
import tensorflow as tf, tensorflow_text
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
outputs = serve(text=tf.constant(json.loads(sys.argv[2])))
loaded = sorted(m for m in ("etd_tf", "keras_hub", "tokenizers") if m in sys.modules)
values = {name: value.numpy().tolist() for name, value in outputs.items()}
print(json.dumps({"modules": loaded, "outputs": values}))
"""


def test_text_in_a_fresh_process_with_tensorflow_alone(model, checkpoint, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(model.path, moved)  # nothing refers to where it was written
    done = subprocess.run(
        [sys.executable, "-c", _CONSUMER, str(moved), json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    answer = json.loads(done.stdout)
    assert answer["modules"] == []
    outputs = {name: np.array(value) for name, value in answer["outputs"].items()}
    batch = encode(checkpoint, TEXTS, max_length=checkpoint.config.max_positions)
    for name in ("token_ids", "padding_mask"):
        np.testing.assert_array_equal(outputs[name], batch[name])
    expected = checkpoint.encoder(batch)
    for name in ("sequence_output", "pooled_output"):
        assert relative_error(outputs[name], expected[name]) < 1e-5


POOLINGS = {
    "plain": Pooling(normalize=True),
    "all modes": Pooling(tuple(POOLING_MODES), max_seq_length=9, truncate_dim=70),
    "prompt pooled": Pooling(("cls", "mean"), prompts={"q": "on: "}, default_prompt_name="q"),
    "prompt not pooled": Pooling(
        lowercase=True, prompts={"q": "On: "}, default_prompt_name="q", include_prompt=False
    ),
    "dense": Pooling(
        dense=(DenseLayer(np.eye(15, 4, dtype=np.float32), np.ones(4, np.float32), "tanh"),),
        normalize=True,
    ),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_embed_signature_makes_the_vectors_of_embed(name, tmp_path):
    checkpoint = tiny_checkpoint(num_layers=1).replace(pooling=POOLINGS[name])
    model = SavedModel().write(checkpoint, tmp_path / "model")
    wanted = checkpoint.embed(TEXTS)
    assert signature_table(model.path)["embed"] == (
        {"text": ("string", [None])},
        {"sentence_embedding": ("float32", [None, wanted.shape[1]])},
    )
    embed = tf.saved_model.load(str(model.path)).signatures["embed"]
    vectors = embed(text=tf.constant(TEXTS))["sentence_embedding"].numpy()
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)
    cosines = np.sum(vectors * wanted, axis=1)
    cosines /= np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted, axis=1)
    assert cosines.min() >= 0.9999


def test_embed_signature_cuts_where_the_export_does(tmp_path):
    checkpoint = tiny_checkpoint(num_layers=1).replace(pooling=Pooling(max_seq_length=12))
    model = SavedModel(max_length=7).write(checkpoint, tmp_path / "short")
    embed = tf.saved_model.load(str(model.path)).signatures["embed"]
    vectors = embed(text=tf.constant(TEXTS))["sentence_embedding"]
    np.testing.assert_allclose(vectors, checkpoint.embed(TEXTS, max_length=7), atol=1e-5)


def test_embed_signature_of_a_model_without_tokenizer_takes_ids(tmp_path):
    bare = tiny_checkpoint(vocab_size=11, num_layers=1).replace(pooling=Pooling())
    model = SavedModel().write(bare, tmp_path / "bare")
    table = signature_table(model.path)
    assert table["embed"][0] == table["serve_ids"][0]
    batch = random_batch(bare.config)
    outputs = tf.saved_model.load(str(model.path)).signatures["embed"](
        **{name: tf.constant(value) for name, value in batch.items()}
    )
    wanted = Pooling()(bare.encoder(batch)["sequence_output"], batch["padding_mask"])
    np.testing.assert_allclose(outputs["sentence_embedding"], wanted, atol=1e-5)


def test_no_python_in_the_graph(model):
    proto = saved_model_pb2.SavedModel.FromString(
        (Path(model.path) / "saved_model.pb").read_bytes()
    )
    graph = proto.meta_graphs[0].graph_def
    operations = {node.op for node in graph.node}
    operations |= {node.op for function in graph.library.function for node in function.node_def}
    assert "FastWordpieceTokenizeWithOffsets" in operations
    assert not {name for name in operations if "PyFunc" in name}


def test_saved_model_cli_shows_the_signatures(model, capsys):
    saved_model_cli._show_inputs_outputs(str(model.path), "serve", "serving_default")
    shown = capsys.readouterr().out
    assert "inputs['text']" in shown
    assert "outputs['sequence_output']" in shown


def test_sequences_beyond_the_positions_are_refused_with_both_lengths(model):
    ids = {
        name: tf.ones([1, 24], tf.int32) for name in ("token_ids", "segment_ids", "padding_mask")
    }
    serve = tf.saved_model.load(str(model.path)).signatures["serve_ids"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="longer than 23 tokens"):
        serve(**ids)


@pytest.mark.parametrize("signature", ["serve_ids", "masked_lm"])
@pytest.mark.parametrize(
    ("name", "wrong"), [("token_ids", -1), ("token_ids", 10**6), ("segment_ids", 2)]
)
def test_ids_that_the_model_lacks_are_refused(model, signature, name, wrong):
    ids = {name: np.ones((1, 3), np.int32) for name in ("token_ids", "segment_ids", "padding_mask")}
    ids[name][0, 2] = wrong
    serve = tf.saved_model.load(str(model.path)).signatures[signature]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name} must be from 0 to"):
        serve(**{name: tf.constant(value) for name, value in ids.items()})


def test_no_texts_give_no_outputs(model):
    serve = tf.saved_model.load(str(model.path)).signatures["serving_default"]
    outputs = serve(text=tf.constant([], tf.string))
    assert outputs["sequence_output"].shape[0] == outputs["pooled_output"].shape[0] == 0


def test_sequences_without_a_token_are_refused(model):
    serve = tf.saved_model.load(str(model.path)).signatures["serve_ids"]
    empty = tf.zeros([2, 0], tf.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="no token"):
        serve(token_ids=empty, segment_ids=empty, padding_mask=empty)


def test_max_length_cuts_texts(tmp_path):
    checkpoint = tiny_checkpoint(num_layers=1)
    model = SavedModel(max_length=7).write(checkpoint, tmp_path / "short")
    serve = tf.saved_model.load(str(model.path)).signatures["serving_default"]
    assert serve(text=tf.constant(["the " * 9]))["token_ids"].shape == (1, 7)


def test_without_pooler_head_and_tokenizer(tmp_path):
    checkpoint = tiny_checkpoint(pooler=False, vocab_size=11, num_layers=1)
    model = SavedModel().write(checkpoint, tmp_path / "bare")
    assert not model.takes_text
    assert "token ids only: the checkpoint has no tokenizer" in model.note
    table = signature_table(model.path)
    assert set(table) == {"serving_default", "serve_ids"}
    assert table["serving_default"] == table["serve_ids"]
    assert set(table["serving_default"][1]) == {"sequence_output"}


def test_one_segment_model_takes_text(tmp_path):
    SavedModel().write(tiny_checkpoint(type_vocab_size=1, num_layers=1), tmp_path / "one")


def test_mixed_precision_checkpoint_is_served_in_float32(tmp_path):
    checkpoint = tiny_checkpoint(num_layers=1).astype("mixed_bfloat16")
    mixed = SavedModel().write(checkpoint, tmp_path / "mixed")
    outputs = signature_table(mixed.path)["serve_ids"][1]
    assert {dtype for dtype, _ in outputs.values()} == {"float32"}
    assert mixed.max_difference < 1e-5


def test_refusals(checkpoint, model, tmp_path):
    with pytest.raises(InputError, match="pass overwrite=True"):
        SavedModel().write(checkpoint, Path(model.path).parent)
    with pytest.raises(InputError, match="from 5 to 23"):
        SavedModel(max_length=24).write(checkpoint, tmp_path / "long")
    with pytest.raises(InputError, match="Expected a Checkpoint"):
        SavedModel().write(checkpoint.encoder, tmp_path / "wrong")
    with pytest.raises(InputError, match="no masked-LM head"):
        masked_lm_function(tiny_checkpoint())
    with pytest.raises(InputError, match="does not say how to pool"):
        pooled_function(tiny_checkpoint())
    assert not list(tmp_path.iterdir())


def test_overwrite_replaces_and_a_failed_export_keeps_the_old_one(tmp_path, monkeypatch):
    directory = tmp_path / "model"
    checkpoint, other = (tiny_checkpoint(seed, num_layers=1) for seed in (0, 1))
    first = SavedModel().write(checkpoint, directory)
    second = SavedModel().write(other, directory, overwrite=True)
    assert second.path == first.path
    monkeypatch.setattr(saved_model, "encoder_function", _drifting)
    with pytest.raises(EtdError, match="differ from the model"):
        SavedModel().write(checkpoint, directory, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    batch = random_batch(other.config)
    outputs = tf.saved_model.load(str(second.path)).signatures["serve_ids"](
        **{name: tf.constant(value) for name, value in batch.items()}
    )
    expected = other.encoder(batch)["sequence_output"]
    assert relative_error(outputs["sequence_output"], expected) < 1e-5


def _drifting(checkpoint):
    """An encoder function that gives other numbers each time Python runs it."""
    calls = []

    def predict(inputs):
        calls.append(1)
        return {"sequence_output": checkpoint.encoder(inputs)["sequence_output"] + len(calls)}

    return predict


def test_variables_of_a_strategy_are_exported(tmp_path):
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        checkpoint = tiny_checkpoint(num_layers=1)
    model = SavedModel().write(checkpoint, tmp_path / "model")
    assert model.max_difference < 1e-5


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
