"""KerasHub presets: what KerasHub makes of ours, what we make of KerasHub's."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import keras_hub
import numpy as np
import pytest
from keras import ops

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.checkpoints.loading import SaveReport, load_checkpoint, save_checkpoint
from etd_tf.errors import InputError
from etd_tf.modeling.pooling import Pooling
from tests.helpers import random_batch, tiny_checkpoint, tiny_config, tiny_tokenizer

SENTENCES = [
    "The cat sat on the mat.",
    "Café, naïve — ÀÉÎ!",
    "dog 中文 (ran) 1999",
    "a\tb c unlikelyword",  # KerasHub splits words at ASCII whitespace only
]


def save(checkpoint: Checkpoint, folder: Path) -> SaveReport:
    return save_checkpoint(checkpoint, folder / "preset", format="keras_hub")


def logits(checkpoint: Checkpoint, batch: dict[str, np.ndarray]) -> np.ndarray:
    outputs = checkpoint.encoder(batch)
    assert checkpoint.mlm_head is not None
    table = checkpoint.encoder.embeddings.token
    return np.asarray(checkpoint.mlm_head(outputs["sequence_output"], table))


def test_keras_hub_computes_the_same(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(hidden_act="gelu_new")
    report = save(checkpoint, tmp_path)
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    batch = random_batch(checkpoint.config)
    ours, theirs = checkpoint.encoder(batch), backbone(batch)
    real = batch["padding_mask"].astype(bool)
    np.testing.assert_allclose(
        np.asarray(ours["sequence_output"])[real],
        np.asarray(theirs["sequence_output"])[real],
        atol=2e-5,
    )
    np.testing.assert_allclose(ours["pooled_output"], theirs["pooled_output"], atol=2e-5)
    assert report.max_difference is not None
    assert report.max_difference < 2e-5
    assert report.notes == ()


def test_masked_lm_task_has_our_head(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(hidden_act="gelu_new", mlm_head=True)
    report = save(checkpoint, tmp_path)
    task = keras_hub.models.MaskedLM.from_preset(str(tmp_path / "preset"))
    batch = random_batch(checkpoint.config)
    positions = np.broadcast_to(np.arange(7), batch["token_ids"].shape)
    theirs = np.asarray(task({**batch, "mask_positions": positions}))
    real = batch["padding_mask"].astype(bool)
    gap = np.abs(logits(checkpoint, batch) - theirs)[real].max()
    # KerasHub's head is exact GELU with epsilon 1e-5: close, and never random.
    assert 0 < gap < 0.02
    assert report.max_difference is not None
    assert report.max_difference < 0.02
    ids = task.preprocessor.tokenizer("the cat sat")
    assert ops.convert_to_numpy(ids).tolist() == tiny_tokenizer().encode_batch(["the cat sat"])[0]


def test_exact_gelu_is_reported_and_kept(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(hidden_act="gelu", layer_norm_epsilon=1e-6)
    report = save(checkpoint, tmp_path)
    assert report.max_difference is not None
    assert 1e-5 < report.max_difference < 0.1
    assert any("only tanh GELU" in note for note in report.notes)
    assert any("1e-12 replaces 1e-06" in note for note in report.notes)
    assert load_checkpoint(tmp_path / "preset").config == checkpoint.config


@pytest.mark.parametrize(("pooler", "mlm_head"), [(True, True), (False, False)])
def test_round_trip_is_bit_identical(pooler: bool, mlm_head: bool, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(pooler=pooler, mlm_head=mlm_head, type_vocab_size=1)
    save(checkpoint, tmp_path)
    loaded = load_checkpoint(tmp_path / "preset")
    assert loaded.config == checkpoint.config
    assert loaded.fingerprint() == checkpoint.fingerprint()
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.fingerprint() == tiny_tokenizer().fingerprint()


def test_without_pooler_the_stand_in_is_not_random(tmp_path: Path) -> None:
    report = save(tiny_checkpoint(pooler=False), tmp_path)
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    np.testing.assert_array_equal(backbone.pooled_dense.kernel, np.eye(15))
    assert any("always has a pooler" in note for note in report.notes)


@pytest.mark.parametrize("with_head", [True, False])
def test_reads_a_preset_written_by_keras_hub(with_head: bool, tmp_path: Path) -> None:
    config = tiny_config(hidden_act="gelu_new")
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=config.vocab_size,
        num_layers=3,
        num_heads=3,
        hidden_dim=15,
        intermediate_dim=22,
        max_sequence_length=23,
    )
    saved: Any = backbone
    if with_head:
        saved = keras_hub.models.BertMaskedLM(backbone, preprocessor=None)
    saved.save_to_preset(str(tmp_path))
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.config == config
    assert checkpoint.tokenizer is None
    assert (checkpoint.mlm_head is not None) == with_head
    batch = random_batch(config)
    ours, theirs = checkpoint.encoder(batch), backbone(batch)
    for name in ("sequence_output", "pooled_output"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=2e-5)
    if with_head:
        kernel = saved.masked_lm_head.weights[2]
        np.testing.assert_array_equal(checkpoint.parameters()["mlm.dense.kernel"], kernel)


@pytest.mark.parametrize("lowercase", [True, False])
def test_tokenizers_agree(lowercase: bool, tmp_path: Path) -> None:
    from etd_tf.tokenization.tokenizer import Tokenizer

    pieces = [*(tiny_tokenizer().wordpieces or []), "é", "##é", "中", "—"]
    ours = Tokenizer.from_wordpieces(pieces, lowercase=lowercase)
    config = tiny_config(vocab_size=len(pieces))
    base = tiny_checkpoint(vocab_size=len(pieces))
    checkpoint = Checkpoint(config, base.parameters(), tokenizer=ours)
    save(checkpoint, tmp_path)
    theirs = keras_hub.models.BertTokenizer.from_preset(str(tmp_path / "preset"))
    expected = ours.encode_batch(SENTENCES)
    for sentence, ids in zip(SENTENCES, expected, strict=True):
        assert ops.convert_to_numpy(theirs(sentence)).tolist() == ids, sentence
    back = load_checkpoint(tmp_path / "preset").tokenizer
    assert back is not None
    assert back.encode_batch(SENTENCES) == expected


def test_pieces_may_hold_line_separators(tmp_path: Path) -> None:
    from etd_tf.tokenization.tokenizer import Tokenizer

    pieces = [*(tiny_tokenizer().wordpieces or []), "\u2028", "\u0085", "last"]
    ours = Tokenizer.from_wordpieces(pieces)
    base = tiny_checkpoint(vocab_size=len(pieces))
    config = tiny_config(vocab_size=len(pieces))
    save(Checkpoint(config, base.parameters(), tokenizer=ours), tmp_path)
    back = load_checkpoint(tmp_path / "preset").tokenizer
    assert back is not None
    assert back.wordpieces == pieces


def test_sharded_weights(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    save(checkpoint, tmp_path)
    folder = tmp_path / "preset"
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    (folder / "model.weights.h5").unlink()
    backbone.save_to_preset(str(folder), max_shard_size=1e-5)
    assert (folder / "model.weights.json").is_file()
    assert load_checkpoint(folder).fingerprint() == checkpoint.fingerprint()
    index = json.loads((folder / "model.weights.json").read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], "../model_00000.weights.h5")
    (folder / "model.weights.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(folder)


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_text_embedder_keeps_its_pooling(tmp_path: Path, mode: str, normalize: bool) -> None:
    checkpoint = tiny_checkpoint(num_layers=1, hidden_act="gelu_new", layer_norm_epsilon=1e-12)
    save(checkpoint, tmp_path)
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    embedder = keras_hub.models.BertTextEmbedder(
        backbone, preprocessor=None, pooling_mode=mode, normalize=normalize
    )
    embedder.save_to_preset(str(tmp_path / "embedder"))
    read = load_checkpoint(tmp_path / "embedder")
    assert read.pooling == Pooling((mode,), normalize=normalize)
    batch = random_batch(read.config)
    states = read.encoder(batch)["sequence_output"]
    ours = read.pooling(states, batch["padding_mask"])
    np.testing.assert_allclose(ours, embedder(batch), atol=2e-5)


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_sentence_encoder_becomes_a_text_embedder(
    tmp_path: Path, mode: str, normalize: bool
) -> None:
    pooling = Pooling((mode,), normalize=normalize, max_seq_length=12)
    checkpoint = tiny_checkpoint(
        num_layers=1, hidden_act="gelu_new", layer_norm_epsilon=1e-12
    ).replace(pooling=pooling)
    report = save(checkpoint, tmp_path)
    assert report.notes == ("KerasHub's TextEmbedder makes the vectors.",)
    embedder = keras_hub.models.TextEmbedder.from_preset(str(tmp_path / "preset"))
    texts = [*SENTENCES, "the " * 30]
    vectors = embedder.encode_text(texts)
    np.testing.assert_allclose(vectors, checkpoint.embed(texts), atol=2e-5)
    shutil.rmtree(tmp_path / "preset" / "etd_tf")  # what theirs says alone
    assert load_checkpoint(tmp_path / "preset").pooling == pooling


@pytest.mark.parametrize(
    "changes",
    [
        {"modes": ("mean", "cls")},
        {"modes": ("weightedmean",)},
        {"truncate_dim": 4},
    ],
)
def test_other_poolings_stay_in_our_folder(tmp_path: Path, changes: dict[str, Any]) -> None:
    pooling = Pooling(**changes, max_seq_length=9)
    report = save(tiny_checkpoint(num_layers=1).replace(pooling=pooling), tmp_path)
    assert "no place for the pooling" in " ".join(report.notes)
    assert load_checkpoint(tmp_path / "preset").pooling == pooling
    assert not (tmp_path / "preset" / "task.json").exists()


def test_prompts_of_a_text_embedder_are_told(tmp_path: Path) -> None:
    pooling = Pooling(prompts={"query": "on: "}, max_seq_length=9)
    report = save(tiny_checkpoint(num_layers=1).replace(pooling=pooling), tmp_path)
    assert "no place for prompts" in " ".join(report.notes)
    assert load_checkpoint(tmp_path / "preset").pooling == pooling


def test_a_huge_claim_takes_no_memory(tmp_path: Path) -> None:
    save(tiny_checkpoint(), tmp_path)
    path = tmp_path / "preset" / "config.json"
    values = json.loads(path.read_text())
    values["config"]["vocabulary_size"] = 10**13
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="the weights files have"):
        load_checkpoint(tmp_path / "preset")


def test_other_models_are_refused(tmp_path: Path) -> None:
    values = {"registered_name": "keras_hub>GPT2Backbone", "config": {}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="only KerasHub model supported is BertBackbone"):
        load_checkpoint(tmp_path)


def test_malformed_presets(tmp_path: Path) -> None:
    save(tiny_checkpoint(), tmp_path)
    folder = tmp_path / "preset"
    weights = folder / "model.weights.h5"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="may be truncated"):
        load_checkpoint(folder)
    weights.unlink()
    with pytest.raises(InputError, match=r"Expected model\.weights\.h5"):
        load_checkpoint(folder)
    values = json.loads((folder / "config.json").read_text())
    del values["config"]["hidden_dim"]
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="lacks hidden_dim"):
        load_checkpoint(folder)


def test_weights_that_do_not_belong_to_the_config(tmp_path: Path) -> None:
    save(tiny_checkpoint(), tmp_path)
    path = tmp_path / "preset" / "config.json"
    values = json.loads(path.read_text())
    values["config"]["intermediate_dim"] = 23
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="not belong to config"):
        load_checkpoint(tmp_path / "preset")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
