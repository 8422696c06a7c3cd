"""Readers of models: checkpoints of all formats, their configurations and tokenizers."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from etd_tf.checkpoints.checkpoint import Checkpoint, TaskHead
from etd_tf.checkpoints.loading import load_checkpoint, save_checkpoint
from etd_tf.checkpoints.safetensors_file import SafetensorsFile
from etd_tf.checkpoints.torch_file import TorchFile
from etd_tf.tokenization.tokenizer import Tokenizer
from tests.checkpoints.fixtures import (
    tf2_bert_variables,
    torch_bert_state,
    write_config,
    write_tf_checkpoint,
)
from tests.fuzz.harness import Target
from tests.fuzz.mutation import (
    Mutator,
    damage,
    damage_json,
    damage_lines,
    damage_safetensors,
    damage_tf_index,
    damage_zip,
    make_zip,
    mixed,
)
from tests.helpers import random_parameters, tiny_config, tiny_tokenizer

_CONFIG = tiny_config(num_layers=1)


def read_model(folder: Path) -> None:
    """Reads a checkpoint up to the point where a model would be built from it."""
    checkpoint = load_checkpoint(folder)
    if checkpoint.tokenizer is not None:
        use_tokenizer(checkpoint.tokenizer)


def use_tokenizer(tokenizer: Tokenizer) -> None:
    """What every user of a tokenizer does."""
    tokenizer.encode_batch(["The cat sat, on 2 mats.", "", "é\u4e2d [MASK] \ud7ff"])
    tokenizer.fingerprint()
    _ = tokenizer.wordpieces


def _save(folder: Path, format: str, *, mlm_head: bool = False) -> None:
    parameters = random_parameters(_CONFIG, mlm_head=mlm_head)
    checkpoint = Checkpoint(_CONFIG, parameters, tokenizer=tiny_tokenizer())
    save_checkpoint(checkpoint, folder, format=format, overwrite=True)


def _huggingface(folder: Path) -> None:
    _save(folder, "huggingface", mlm_head=True)


def _safetensors(folder: Path) -> Mapping[str, Mutator]:
    _huggingface(folder)
    return {"model.safetensors": damage_safetensors}


def _finetuned(folder: Path) -> Mapping[str, Mutator]:
    hidden = _CONFIG.hidden_size
    head = TaskHead("classifier", np.ones((hidden, 3), np.float32), np.ones(3, np.float32))
    checkpoint = Checkpoint(_CONFIG, random_parameters(_CONFIG), task_head=head)
    save_checkpoint(checkpoint, folder, overwrite=True)
    return {"config.json": damage_json, "model.safetensors": damage_safetensors}


def _header(values: object, length: int | None = None, data: bytes = bytes(8)) -> tuple[str, bytes]:
    text = json.dumps(values).encode()
    size = len(text) if length is None else length
    return "model.safetensors", size.to_bytes(8, "little") + text + data


def _safetensors_extremes() -> list[tuple[str, bytes]]:
    def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    terabyte = 10**12
    return [
        _header({"a": entry("F32", [2], 0, 8)}, terabyte),  # a header of 1 TB
        _header({"a": entry("F32", [terabyte // 4], 0, terabyte)}),
        _header({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 0, 8)}),  # overlapping
        _header({"a": entry("F32", [2], -8, 0)}),
        _header({"a": entry("F32", [2**62, 4], 0, 0)}),  # a product that overflows 64 bits
        _header({"a": entry("F4", [2], 0, 8)}),
        _header({"a": entry("F32", [0] * 60, 0, 0)}),
        ("model.safetensors", (10_000_000).to_bytes(8, "little") + b"[" * 10_000_000),
    ]


def _read_safetensors(folder: Path) -> None:
    for value in SafetensorsFile(folder / "model.safetensors").values():
        value.sum()
    read_model(folder)


def _shards(folder: Path) -> Mapping[str, Mutator]:
    _huggingface(folder)
    whole = folder / "model.safetensors"
    names = list(SafetensorsFile(whole))
    whole.rename(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return {"model.safetensors.index.json": damage_json}


def _shard_extremes() -> list[tuple[str, bytes]]:
    names = (
        "../model-00001-of-00001.safetensors",
        "/dev/zero",
        ".safetensors",
        "a/../b.safetensors",
    )
    return [
        ("model.safetensors.index.json", json.dumps({"weight_map": {"x": name}}).encode())
        for name in names
    ]


def _config(folder: Path) -> Mapping[str, Mutator]:
    _huggingface(folder)
    return {"config.json": damage_json}


def _families(folder: Path, model_type: str = "roberta") -> Mapping[str, Mutator]:
    _huggingface(folder)
    write_config(folder, _CONFIG, model_type=model_type, pad_token_id=1)
    return {"config.json": damage_json}


def _read_refused(folder: Path) -> None:
    """A directory whose weights do not fit: the configuration is all that is read."""
    from etd_tf.checkpoints.families import find_family, read_config
    from etd_tf.storage.json_files import read_json_object

    values = read_json_object(folder / "config.json")
    read_config(values, find_family(values, "config.json"))


def _google(folder: Path) -> Mapping[str, Mutator]:
    _save(folder, "google")
    return {"bert_config.json": damage_json, "etd_tf/config.json": damage_json}


def _tf1(folder: Path) -> Mapping[str, Mutator]:
    _google(folder)
    data = next(folder.glob("bert_model.ckpt.data-*")).name
    return {"bert_model.ckpt.index": damage_tf_index, data: damage}


def _tf2(folder: Path) -> Mapping[str, Mutator]:
    _tf1(folder)
    for old in folder.glob("bert_model.ckpt*"):
        old.unlink()
    variables = tf2_bert_variables(
        random_parameters(_CONFIG, mlm_head=True), _CONFIG, generation="v2"
    )
    write_tf_checkpoint(folder / "bert_model.ckpt", variables)
    data = next(folder.glob("bert_model.ckpt.data-*")).name
    return {"bert_model.ckpt.index": damage_tf_index, data: damage}


def _keras_hub(folder: Path) -> Mapping[str, Mutator]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _save(folder, "keras_hub")
    return {
        "config.json": damage_json,
        "tokenizer.json": damage_json,
        "etd_tf/config.json": damage_json,
        "model.weights.h5": damage,
        "assets/tokenizer/vocabulary.txt": damage_lines,
    }


def _torch(folder: Path) -> Mapping[str, Mutator]:
    import torch

    _huggingface(folder)
    (folder / "model.safetensors").unlink()
    state = torch_bert_state(random_parameters(_CONFIG))
    tensors = {name: torch.from_numpy(value.copy()) for name, value in state.items()}
    tensors["half"] = torch.ones(3).half()
    tensors["brain"] = torch.ones(2, 3).bfloat16().T
    torch.save(tensors, folder / "pytorch_model.bin")
    return {"pytorch_model.bin": damage_zip}


class _Runs:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, ("unpickled",)


def torch_archive(program: bytes) -> bytes:
    """A PyTorch archive with any pickle."""
    return make_zip([("m/data.pkl", program), ("m/data/0", bytes(64)), ("m/version", b"3\n")])


def _torch_extremes() -> list[tuple[str, bytes]]:
    deep = b"\x80\x02)" + b"\x85" * 200_000  # a tuple in a tuple in a tuple ...
    programs = [
        pickle.dumps(_Runs(), 2),
        pickle.dumps({"a": _Runs()}, 4),
        b"\x80\x02}" + deep[2:] + b"K\x01s.",  # as a key
        deep + b")R.",  # as a callable
        deep + b"0" + b"\x80\x02}.",
        b"\x80\x02(X\x07\x00\x00\x00storage"
        + deep[2:]
        + b"X\x01\x00\x00\x000X\x01\x00\x00\x00cK\x01tQ.",
        b"\x80\x02}(" + b"]q\x00" + b"(h\x00h\x00e" * 50_000 + b"K\x01u.",
        b"\x80\x04" + deep[2:] + deep[2:] + b"\x93.",  # as names of a global
        b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b".",
        b"\x80\x02\x8b\xff\xff\xff\x7f" + bytes(100) + b".",  # a number of 2 GB
        b"\x80\x02X\xff\xff\xff\xffabc.",  # a text of 4 GB
    ]
    extremes = [("pytorch_model.bin", torch_archive(program)) for program in programs]
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}.")
        archive.writestr("m/data/0", bytes(150 << 20))
    return [*extremes, ("pytorch_model.bin", bomb.getvalue())]


def _read_torch(folder: Path) -> None:
    for value in TorchFile(folder / "pytorch_model.bin").values():
        value.sum()
    read_model(folder)
    if Path("unpickled").exists():
        os.rmdir("unpickled")
        raise RuntimeError("a pickle was run")


def _h5(folder: Path) -> Mapping[str, Mutator]:
    _huggingface(folder)
    (folder / "model.safetensors").unlink()
    with h5py.File(folder / "tf_model.h5", "w") as file:
        for name, value in torch_bert_state(random_parameters(_CONFIG), prefix="bert.").items():
            body, _, leaf = name.replace("encoder.layer.", "encoder.layer_@_").rpartition(".")
            kernel = leaf == "weight" and value.ndim == 2 and "embeddings" not in body
            path = f"bert/tf_bert_model/{body.replace('.', '/')}".replace("@", ".")
            file[f"{path}/{'kernel' if kernel else leaf}:0"] = value.T if kernel else value
    return {"tf_model.h5": damage}


def _h5_extremes() -> list[tuple[str, bytes]]:
    contents = []
    for kind in range(5):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            group = file.create_group("a/b")
            if kind == 0:  # 800 MB of zeros in a file of some kilobytes
                group.create_dataset(
                    "c:0", (100_000, 1000), "f8", chunks=(1000, 1000), compression=9
                )
            elif kind == 1:
                group.create_dataset("c:0", data=np.array([b"x"], h5py.string_dtype()))
            elif kind == 2:
                group["c:0"] = h5py.ExternalLink("../tf_model.h5", "/bert")
            elif kind == 3:
                group["loop"] = group
                group["c:0"] = h5py.SoftLink("/a/b")
            else:
                group.create_dataset("c:0", (100,), "f4", external=[("/etc/passwd", 0, 400)])
        contents.append(("tf_model.h5", buffer.getvalue()))
    return contents


def _vocabulary(folder: Path) -> Mapping[str, Mutator]:
    tokenizer = tiny_tokenizer()
    tokenizer.save(folder)
    roles = {"unk_token": "[UNK]", "pad_token": {"content": "[PAD]", "lstrip": False}}
    (folder / "special_tokens_map.json").write_text(json.dumps(roles))
    added = {"[E1]": tokenizer.vocab_size, "[E2]": tokenizer.vocab_size + 1}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    return {
        "vocab.txt": mixed(damage_lines, damage, share=0.8),
        "tokenizer_config.json": damage_json,
        "special_tokens_map.json": damage_json,
        "added_tokens.json": damage_json,
    }


def _vocabulary_with_decoder(folder: Path) -> Mapping[str, Mutator]:
    """Added tokens as newer versions of Transformers keep them."""
    mutators = _vocabulary(folder)
    tokenizer = tiny_tokenizer()
    token = {"content": "[E1]", "special": True, "lstrip": False, "normalized": False}
    settings = {**tokenizer.settings, "added_tokens_decoder": {str(tokenizer.vocab_size): token}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return mutators


def _tokenizer_json(folder: Path) -> Mapping[str, Mutator]:
    tokenizer = tiny_tokenizer()
    (folder / "tokenizer.json").write_text(tokenizer.backend.to_str())
    (folder / "tokenizer_config.json").write_bytes(tokenizer.files["tokenizer_config.json"])
    return {"tokenizer.json": damage_json, "tokenizer_config.json": damage_json}


def _tokenizer_extremes() -> list[tuple[str, bytes]]:
    empty = json.loads(tiny_tokenizer().backend.to_str())
    empty["model"]["vocab"], empty["added_tokens"] = {}, []
    far = json.loads(tiny_tokenizer().backend.to_str())
    far["model"]["vocab"]["zzz"] = 2**32 - 1
    return [("tokenizer.json", json.dumps(values).encode()) for values in (empty, far)]


def _merges(folder: Path) -> Mapping[str, Mutator]:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdest", "Ġ", "at", "Ġc"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\na t\nĠ c\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": False}))
    return {
        "vocab.json": damage_json,
        "merges.txt": damage_lines,
        "tokenizer_config.json": damage_json,
    }


def _read_tokenizer(folder: Path) -> None:
    use_tokenizer(Tokenizer.from_directory(folder))


TARGETS = (
    Target("safetensors", _safetensors, _read_safetensors, _safetensors_extremes, weight=2),
    Target("fine-tuned model", _finetuned, read_model, weight=0.5),
    Target("sharded index", _shards, read_model, _shard_extremes),
    Target("config.json (Hugging Face)", _config, read_model),
    Target("config.json (other families)", _families, _read_refused),
    Target("bert_config.json (Google)", _google, read_model, weight=0.5),
    Target("TF1 checkpoint", _tf1, read_model),
    Target("TF2 checkpoint", _tf2, read_model),
    Target("KerasHub preset", _keras_hub, read_model, weight=0.04),
    Target("pytorch_model.bin", _torch, _read_torch, _torch_extremes),
    Target("tf_model.h5", _h5, read_model, _h5_extremes),
    Target("vocab.txt", _vocabulary, _read_tokenizer, weight=0.5),
    Target("vocab.txt, added tokens", _vocabulary_with_decoder, _read_tokenizer, weight=0.5),
    Target("tokenizer.json", _tokenizer_json, _read_tokenizer, _tokenizer_extremes),
    Target("vocab.json, merges.txt", _merges, _read_tokenizer),
)
