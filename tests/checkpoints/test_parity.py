"""Our numbers against PyTorch's, on text, in float32, with padding.

Compared are real tokens only. The states of padding positions are outputs that nothing
reads, and for the quickstart's teacher they are ill-conditioned: PyTorch in float32 differs
there by 1e-4 from PyTorch in float64, but by 4e-6 on real tokens.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.checkpoints.loading import load_checkpoint, save_checkpoint
from etd_tf.modeling.config import BertConfig
from etd_tf.storage.sources import resolve_source
from etd_tf.tokenization.tokenizer import Tokenizer
from tests.helpers import (
    need_quickstart_teacher,
    random_batch,
    random_parameters,
    shared_data,
    tiny_checkpoint,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 2e-5
NUM_SENTENCES = 32
MAX_LENGTH = 128


def sentences() -> list[str]:
    """Wikipedia paragraphs where there are any, else Python's reference text."""
    folder = shared_data()
    if folder is not None:
        text = (folder / "corpus" / "enwiki-valid.txt").read_text(encoding="utf-8")
    else:
        from pydoc_data import topics

        text = "\n".join(topics.topics.values())
    lines = [line.strip() for line in text.split("\n") if len(line.strip()) > 50]
    return lines[:NUM_SENTENCES]


def text_batch(tokenizer: Tokenizer, max_length: int) -> dict[str, np.ndarray]:
    """Sentences with [CLS] and [SEP], padded to the longest; the second half has segment 1."""
    encoded = [
        [tokenizer.cls_id, *ids[: max_length - 2], tokenizer.sep_id]
        for ids in tokenizer.encode_batch(sentences())
    ]
    length = max(map(len, encoded))
    assert len(encoded) == NUM_SENTENCES
    assert min(map(len, encoded)) < length, "some rows must have padding"
    rows = [ids + [tokenizer.pad_id] * (length - len(ids)) for ids in encoded]
    mask = [[1] * len(ids) + [0] * (length - len(ids)) for ids in encoded]
    token_ids, padding_mask = np.array(rows, np.int32), np.array(mask, np.int32)
    segment_ids = (np.arange(length) >= padding_mask.sum(1, keepdims=True) // 2) * padding_mask
    return {
        "token_ids": token_ids,
        "segment_ids": segment_ids.astype(np.int32),
        "padding_mask": padding_mask,
    }


def run_torch(model: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs a Transformers model and returns NumPy outputs, logits included where it has them."""
    inputs = {
        "input_ids": torch.tensor(batch["token_ids"]).long(),
        "attention_mask": torch.tensor(batch["padding_mask"]).long(),
        "output_hidden_states": True,
    }
    if model.config.model_type != "distilbert":
        inputs["token_type_ids"] = torch.tensor(batch["segment_ids"]).long()
    with torch.no_grad():
        outputs = model.eval()(**inputs)
    found = {"sequence_output": outputs.hidden_states[-1]}
    if outputs.get("pooler_output") is not None:
        found["pooled_output"] = outputs.pooler_output
    if "logits" in outputs:
        found["logits"] = outputs.logits
    return {name: value.numpy() for name, value in found.items()}


def run_ours(checkpoint: Checkpoint, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    outputs = dict(checkpoint.encoder(batch))
    if checkpoint.mlm_head is not None:
        outputs["logits"] = checkpoint.mlm_head(
            outputs["sequence_output"], checkpoint.encoder.embeddings.token
        )
    return {name: np.asarray(value) for name, value in outputs.items()}


def assert_parity(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], mask: np.ndarray
) -> None:
    """Every output that PyTorch has agrees on every real token."""
    for name, expected in theirs.items():
        assert ours[name].dtype == np.float32
        counted = mask.astype(bool) if expected.ndim == 3 else slice(None)
        gap = float(np.abs(ours[name][counted] - expected[counted]).max())
        assert gap <= TOLERANCE, f"{name}: largest difference {gap:.2g}"
        assert np.abs(expected[counted]).max() > 0.05, f"{name} is too small to show a difference"


@pytest.fixture(scope="module")
def teacher() -> Checkpoint:
    return load_checkpoint(need_quickstart_teacher())


def test_real_teacher(teacher: Checkpoint) -> None:
    assert teacher.tokenizer is not None
    batch = text_batch(teacher.tokenizer, MAX_LENGTH)
    model = transformers.BertModel.from_pretrained(str(resolve_source(need_quickstart_teacher())))
    assert_parity(run_ours(teacher, batch), run_torch(model, batch), batch["padding_mask"])
    short = text_batch(teacher.tokenizer, 32)
    exact = run_torch(model.double(), short)
    assert exact["sequence_output"].dtype == np.float64
    assert_parity(run_ours(teacher, short), exact, short["padding_mask"])


def test_real_teacher_tokenizes_like_transformers(teacher: Checkpoint) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(
        str(resolve_source(need_quickstart_teacher()))
    )
    texts = [*sentences(), "Naïve café, 中文!\u00a0x", "[MASK] it", ""]
    assert teacher.tokenizer is not None
    expected = theirs(texts, add_special_tokens=False)["input_ids"]
    assert teacher.tokenizer.encode_batch(texts) == expected


def odd_student(tokenizer: Tokenizer, *, mlm_head: bool) -> Checkpoint:
    """A student as slicing leaves it: odd sizes, 3 layers of 5 heads with 7 channels."""
    config = BertConfig(
        tokenizer.vocab_size,
        num_layers=3,
        hidden_size=35,
        num_heads=5,
        intermediate_size=101,
        max_positions=MAX_LENGTH,
    )
    parameters = random_parameters(config, seed=3, mlm_head=mlm_head)
    return Checkpoint(config, parameters, tokenizer=tokenizer)


@pytest.mark.parametrize("mlm_head", [False, True])
def test_exported_student(teacher: Checkpoint, mlm_head: bool, tmp_path: Path) -> None:
    assert teacher.tokenizer is not None
    student = odd_student(teacher.tokenizer, mlm_head=mlm_head)
    save_checkpoint(student, tmp_path / "out")
    batch = text_batch(teacher.tokenizer, 24)
    kinds = ["BertModel"] + ["BertForMaskedLM"] * mlm_head
    for kind in kinds:
        model, report = getattr(transformers, kind).from_pretrained(
            str(tmp_path / "out"), output_loading_info=True
        )
        assert not report["missing_keys"]
        assert not report["mismatched_keys"]
        theirs = run_torch(model, batch)
        assert ("logits" if kind == "BertForMaskedLM" else "pooled_output") in theirs
        assert_parity(run_ours(student, batch), theirs, batch["padding_mask"])


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
def test_activations_and_epsilon(hidden_act: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(mlm_head=True, hidden_act=hidden_act, layer_norm_epsilon=1e-3)
    save_checkpoint(checkpoint, tmp_path / "out")
    model = transformers.AutoModelForMaskedLM.from_pretrained(str(tmp_path / "out"))
    batch = random_batch(checkpoint.config)
    assert_parity(run_ours(checkpoint, batch), run_torch(model, batch), batch["padding_mask"])


def test_auto_classes_take_an_export(teacher: Checkpoint, tmp_path: Path) -> None:
    assert teacher.tokenizer is not None
    vocabulary_only = Tokenizer({"vocab.txt": teacher.tokenizer.files["vocab.txt"]})
    for number, tokenizer in enumerate((teacher.tokenizer, vocabulary_only)):
        folder = tmp_path / str(number)
        save_checkpoint(odd_student(tokenizer, mlm_head=False), folder)
        assert type(transformers.AutoModel.from_pretrained(str(folder))).__name__ == "BertModel"
        theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
        assert theirs.mask_token_id == tokenizer.mask_id
        expected = theirs(sentences(), add_special_tokens=False)["input_ids"]
        assert tokenizer.encode_batch(sentences()) == expected


def test_auto_tokenizer_respects_case(tmp_path: Path) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Cat", "cat", "É", "E"]
    tokenizer = Tokenizer({"vocab.txt": "\n".join(pieces).encode()})
    save_checkpoint(odd_student(tokenizer, mlm_head=False), tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    assert theirs("Cat cat É", add_special_tokens=False)["input_ids"] == [5, 6, 7]
    assert tokenizer.encode_batch(["Cat cat É"]) == [[5, 6, 7]]


FOREIGN = {
    "roberta": ("RobertaConfig", "RobertaModel", "RobertaForMaskedLM"),
    "xlm-roberta": ("XLMRobertaConfig", "XLMRobertaModel", "XLMRobertaForMaskedLM"),
    "camembert": ("CamembertConfig", "CamembertModel", "CamembertForMaskedLM"),
    "distilbert": ("DistilBertConfig", "DistilBertModel", "DistilBertForMaskedLM"),
    "bert": ("BertConfig", "BertModel", "BertForPreTraining"),
}


def foreign_model(model_type: str, *, with_head: bool) -> Any:
    """A random model of Transformers with biases and LayerNorms that are not trivial."""
    config_class, plain, head = FOREIGN[model_type]
    sizes: dict[str, Any] = {"vocab_size": 61, "max_position_embeddings": 20}
    if model_type == "distilbert":
        sizes |= {"dim": 15, "n_layers": 2, "n_heads": 3, "hidden_dim": 22}
    else:
        sizes |= {
            "hidden_size": 15,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 22,
            "type_vocab_size": 2 if model_type == "bert" else 1,
            "layer_norm_eps": 1e-5,
        }
    config = getattr(transformers, config_class)(**sizes)
    torch.manual_seed(0)
    model = getattr(transformers, head if with_head else plain)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("with_head", [False, True])
@pytest.mark.parametrize("model_type", FOREIGN)
def test_foreign_families_as_teachers(model_type: str, with_head: bool, tmp_path: Path) -> None:
    model = foreign_model(model_type, with_head=with_head)
    model.save_pretrained(str(tmp_path / "theirs"))
    loaded = load_checkpoint(tmp_path / "theirs")
    assert (loaded.mlm_head is not None) == with_head
    batch = random_batch(loaded.config, length=11, batch_size=5)
    theirs = run_torch(model, batch)
    if model_type == "bert" and with_head:
        theirs["logits"] = prediction_logits(model, batch)
    assert_parity(run_ours(loaded, batch), theirs, batch["padding_mask"])

    save_checkpoint(loaded, tmp_path / "ours")
    kind = "BertForMaskedLM" if with_head else "BertModel"
    exported = getattr(transformers, kind).from_pretrained(str(tmp_path / "ours"))
    ours, theirs = run_ours(loaded, batch), run_torch(exported, batch)
    shared = {name: value for name, value in theirs.items() if name in ours}
    assert set(shared) >= {"sequence_output"} | ({"logits"} if with_head else set())
    assert_parity(ours, shared, batch["padding_mask"])


def prediction_logits(model: Any, batch: dict[str, np.ndarray]) -> np.ndarray:
    """Masked-LM logits of a BertForPreTraining, whose output names them differently."""
    with torch.no_grad():
        outputs = model(
            input_ids=torch.tensor(batch["token_ids"]).long(),
            attention_mask=torch.tensor(batch["padding_mask"]).long(),
            token_type_ids=torch.tensor(batch["segment_ids"]).long(),
        )
    return np.asarray(outputs.prediction_logits)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_teacher(dtype: str, tmp_path: Path) -> None:
    model = foreign_model("bert", with_head=False).to(getattr(torch, dtype))
    model.save_pretrained(str(tmp_path / "theirs"))
    loaded = load_checkpoint(tmp_path / "theirs")
    batch = random_batch(loaded.config)
    assert_parity(run_ours(loaded, batch), run_torch(model.float(), batch), batch["padding_mask"])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
