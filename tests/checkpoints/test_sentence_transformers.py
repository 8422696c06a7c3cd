"""sentence-transformers' directories: read and written in both generations, or refused."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest

from etd_tf.checkpoints import load_checkpoint, save_checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction import initial_student
from etd_tf.modeling.pooling import POOLING_MODES, DenseLayer, Pooling
from tests.helpers import need_quickstart_teacher, tiny_checkpoint

TEXTS = ["the cat sat on the mat", "a", "dogs and cats ran", "", "The cat's mat, 3 dogs! " * 9]
TOLERANCE = 1e-5


def layer(inputs, outputs, activation="linear"):
    generator = np.random.default_rng(inputs)
    kernel = generator.normal(0, 0.3, (inputs, outputs)).astype(np.float32)
    return DenseLayer(kernel, generator.normal(size=outputs).astype(np.float32), activation)


FULL = Pooling(
    ("cls", "mean"),
    dense=(layer(30, 8, "tanh"), layer(8, 6)),
    normalize=True,
    truncate_dim=5,
    max_seq_length=19,
    prompts={"query": "on: ", "document": ""},
    default_prompt_name="query",
    include_prompt=False,
    similarity_fn_name="dot",
)
POOLINGS = {
    **{mode: Pooling((mode,)) for mode in POOLING_MODES},
    "another order": Pooling(("mean", "cls", "max"), normalize=True),
    "dense": Pooling(dense=(layer(15, 7, "gelu"),), normalize=True, max_seq_length=9),
    "full": FULL,
    "full, prompt pooled": dataclasses.replace(FULL, include_prompt=True),
}


def saved(pooling, directory, **options):
    checkpoint = tiny_checkpoint(num_layers=1).replace(pooling=pooling)
    save_checkpoint(checkpoint, directory, **options)
    return checkpoint


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def theirs(directory):
    pytest.importorskip("torch")
    package = pytest.importorskip("sentence_transformers")
    return package.SentenceTransformer(str(directory), device="cpu", local_files_only=True)


@pytest.mark.parametrize(
    ("name", "form"),
    [*((name, "huggingface") for name in POOLINGS), ("full", "keras_hub"), ("full", "google")],
)
def test_every_format_keeps_the_pooling(tmp_path, name, form):
    saved(POOLINGS[name], tmp_path / "model", format=form)
    read = load_checkpoint(tmp_path / "model").pooling
    length = POOLINGS[name].max_seq_length or 23
    assert read == dataclasses.replace(POOLINGS[name], max_seq_length=length)


def test_a_model_without_pooling_stays_one(tmp_path):
    saved(None, tmp_path / "model")
    assert not (tmp_path / "model" / "modules.json").exists()
    assert load_checkpoint(tmp_path / "model").pooling is None


@pytest.mark.parametrize("name", POOLINGS)
def test_sentence_transformers_computes_the_same(tmp_path, name):
    checkpoint = saved(POOLINGS[name], tmp_path / "model")
    model = theirs(tmp_path / "model")
    assert model.max_seq_length == (POOLINGS[name].max_seq_length or 23)
    assert model.similarity_fn_name == (POOLINGS[name].similarity_fn_name or "cosine")
    np.testing.assert_allclose(checkpoint.embed(TEXTS), model.encode(TEXTS), atol=TOLERANCE)
    np.testing.assert_allclose(
        checkpoint.embed(TEXTS, normalize=True, prompt="the dog: "),
        model.encode(TEXTS, normalize_embeddings=True, prompt="the dog: "),
        atol=TOLERANCE,
    )
    # What they write in their own words is read back.
    model.save(str(tmp_path / "theirs"))
    again = load_checkpoint(tmp_path / "theirs")
    assert again.max_seq_length == model.max_seq_length
    np.testing.assert_allclose(again.embed(TEXTS), model.encode(TEXTS), atol=TOLERANCE)


def test_text_embeddings_inference_finds_what_it_demands(tmp_path):
    """Their parser needs these keys and types, and knows modules by these names alone."""
    saved(FULL, tmp_path / "model")
    pooling = json.loads((tmp_path / "model" / "1_Pooling" / "config.json").read_text())
    for key in ("cls_token", "mean_tokens", "lasttoken"):
        assert isinstance(pooling[f"pooling_mode_{key}"], bool)
    length = json.loads((tmp_path / "model" / "sentence_bert_config.json").read_text())
    assert length["max_seq_length"] == 19
    modules = json.loads((tmp_path / "model" / "modules.json").read_text())
    assert [(module["path"], module["type"].rpartition(".")[2]) for module in modules] == [
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
        ("2_Dense", "Dense"),
        ("3_Dense", "Dense"),
        ("4_Normalize", "Normalize"),
    ]
    assert all(m["type"].startswith("sentence_transformers.models.") for m in modules)
    for folder, activation in (("2_Dense", "Tanh"), ("3_Dense", "Identity")):
        dense = json.loads((tmp_path / "model" / folder / "config.json").read_text())
        assert dense["activation_function"] in (
            f"torch.nn.modules.activation.{activation}",
            f"torch.nn.modules.linear.{activation}",
        )
        assert {"in_features", "out_features", "bias"} <= set(dense)
        assert (tmp_path / "model" / folder / "model.safetensors").is_file()
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["model_type"] == "bert"
    assert {
        "architectures",
        "attention_probs_dropout_prob",
        "hidden_act",
        "hidden_dropout_prob",
        "hidden_size",
        "initializer_range",
        "intermediate_size",
        "layer_norm_eps",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "pad_token_id",
        "type_vocab_size",
        "vocab_size",
    } <= set(config)
    settings = json.loads((tmp_path / "model" / "config_sentence_transformers.json").read_text())
    assert settings["prompts"] == {"query": "on: ", "document": ""}
    assert (tmp_path / "model" / "tokenizer.json").is_file()


def test_keys_of_version_3_alone_say_the_same(tmp_path):
    """Directories of that time have neither `pooling_mode` nor `similarity_fn_name`."""
    saved(FULL, tmp_path / "model")
    path = tmp_path / "model" / "1_Pooling" / "config.json"
    assert "pooling_mode" not in json.loads(path.read_text())
    path = tmp_path / "model" / "config_sentence_transformers.json"
    values = json.loads(path.read_text())
    del values["similarity_fn_name"], values["model_type"], values["truncate_dim"]
    path.write_text(json.dumps(values | {"__version__": {"sentence_transformers": "3.0.1"}}))
    read = load_checkpoint(tmp_path / "model").pooling
    assert read == dataclasses.replace(FULL, similarity_fn_name=None, truncate_dim=None)


def test_a_student_keeps_what_fits_it(tmp_path, caplog):
    teacher = tiny_checkpoint().replace(pooling=FULL)
    same = initial_student(teacher, teacher.config.replace(num_layers=1), seed=0)
    assert same.pooling == FULL
    narrow = initial_student(
        teacher, teacher.config.replace(hidden_size=12, num_heads=2, num_layers=1), seed=0
    )
    assert narrow.pooling == dataclasses.replace(FULL, dense=())
    assert "takes 30 dims, the student has 24" in caplog.text
    save_checkpoint(narrow, tmp_path / "student")
    vectors = theirs(tmp_path / "student").encode(TEXTS)
    np.testing.assert_allclose(narrow.embed(TEXTS), vectors, atol=TOLERANCE)


def test_dense_weights_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    saved(FULL, tmp_path / "model")
    folder = tmp_path / "model" / "2_Dense"
    kernel, bias = (torch.from_numpy(x.copy()) for x in (FULL.dense[0].kernel, FULL.dense[0].bias))
    torch.save({"linear.weight": kernel.T, "linear.bias": bias}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert load_checkpoint(tmp_path / "model").pooling == FULL


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "'median'. is not supported"),
        ("2_Dense/config.json", {"activation_function": "my.Act"}, "'my.Act' is not .*Tanh"),
        ("2_Dense/config.json", {"use_residual": True}, "use_residual is set"),
        ("2_Dense/config.json", {"module_input_name": "x"}, "module_input_name is set"),
        ("sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_length is -1, expected a"),
        ("config_sentence_transformers.json", {"prompts": ["a"]}, "prompts is no object"),
        ("config_sentence_transformers.json", {"default_prompt_name": "a"}, "'a' is not among"),
    ],
)  # fmt: skip
def test_what_we_cannot_compute_is_refused(tmp_path, file, changes, message):
    saved(FULL, tmp_path / "model")
    rewrite(tmp_path / "model" / file, **changes)
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "model")


def modules(*kinds):
    return [
        {"idx": i, "path": f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (modules("Transformer", "Pooling", "LSTM"), r"models.LSTM is not supported. Supported are"),
        ([{"type": "mine.Pooling"}], "mine.Pooling is not supported.*without modules.json"),
        (modules("Transformer", "Normalize", "Pooling"), "the modules Transformer, Normalize"),
        (modules("Transformer", "Pooling", "Pooling"), "Transformer, Pooling, Pooling"),
        (modules("Transformer", "Dense"), "Dense follows Transformer, expected Pooling"),
        (modules("Pooling"), "has the modules Pooling"),
        ([], "modules of nothing"),
        ([{"path": "../x", "type": "sentence_transformers.models.Pooling"}], "outside its own"),
        (["a"], "is malformed"),
        ({}, "holds a JSON dict, expected an array"),
    ],
)
def test_modules_that_are_not_understood_are_refused(tmp_path, lines, message):
    saved(None, tmp_path / "model")
    (tmp_path / "model" / "modules.json").write_text(json.dumps(lines))
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "model")


def test_a_layer_of_another_width_is_refused(tmp_path):
    saved(FULL, tmp_path / "model")
    saved(POOLINGS["dense"], tmp_path / "other")
    shutil.copytree(
        tmp_path / "other" / "2_Dense", tmp_path / "model" / "2_Dense", dirs_exist_ok=True
    )
    shutil.copytree(
        tmp_path / "other" / "2_Dense", tmp_path / "model" / "3_Dense", dirs_exist_ok=True
    )
    with pytest.raises(InputError, match="makes 7 dims, but the next one takes 15"):
        load_checkpoint(tmp_path / "model")
    with pytest.raises(InputError, match="takes 30 dims, the pooled states have 15"):
        tiny_checkpoint().replace(pooling=dataclasses.replace(FULL, modes=("mean",)))


def test_quickstart_teacher():
    teacher = load_checkpoint(need_quickstart_teacher())
    assert teacher.pooling == Pooling(normalize=True, max_seq_length=256)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
