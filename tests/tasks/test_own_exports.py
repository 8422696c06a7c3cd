"""Models of users' own tasks in other programs: stock pipelines, and SavedModels of texts."""

import json
import sys

import numpy as np
import pytest

from etd_tf.tasks import TASKS, OwnFiles
from tests.helpers import tiny_checkpoint

LENGTH = 20
ROWS = {
    "classify": [{"text": f"the cat {n}", "label": "yes" if n % 2 else "no"} for n in range(4)],
    "pairs": [{"text": "a", "text_pair": f"dog {n}", "label": f"c{n}"} for n in range(3)],
    "regress": [{"text": "the cat", "text_pair": f"mat {n}", "label": n} for n in range(3)],
    "tag": [{"tokens": ["the", "cat"], "tags": ["O", "B-PET"]}],
}
OPTIONS = {"regress": {"pair_column": "text_pair"}}
TEXTS = [("the cat sat", "a dog"), ("on the mat", "the dog ran on")]


def test_every_own_task_is_tried():
    assert set(ROWS) == {name for name, one in TASKS.items() if isinstance(one, OwnFiles)}


@pytest.fixture(params=ROWS)
def made(request, tmp_path):
    """A task's experiment and a random model, saved in `tmp_path/m`."""
    path = tmp_path / "rows"
    path.write_text("\n".join(map(json.dumps, ROWS[request.param])))
    files = {"train": str(path), "dev": str(path), "max_length": LENGTH}
    task = TASKS[request.param].configured(files | OPTIONS.get(request.param, {}))
    checkpoint = tiny_checkpoint(num_layers=1)
    experiment = task.experiment(checkpoint)
    model = experiment.make_model(checkpoint)
    generator = np.random.default_rng(0)
    weights = {n: generator.normal(0, 0.4, v.shape) for n, v in model.get_parameters().items()}
    model.set_parameters({n: v.astype("f4") for n, v in weights.items()})
    experiment.save_model(model, tmp_path / "m")
    return experiment, model


def logits_of(experiment, model, texts):
    """The model's logits of one or two texts, without padding."""
    encoding = experiment._checkpoint.tokenizer.backend.encode(*texts)
    inputs = {"token_ids": [encoding.ids], "segment_ids": [encoding.type_ids]}
    return np.asarray(model({name: np.asarray(v) for name, v in inputs.items()})["logits"])[0]


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_stock_pipelines_run_them(made, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    experiment, model = made
    kind = "token" if experiment.name == "tag" else "text"
    run = transformers.pipeline(f"{kind}-classification", str(tmp_path / "m"))
    for both in TEXTS:
        texts = both[: len(experiment.text_names)]
        logits = logits_of(experiment, model, texts)
        if kind == "token":
            found = run(texts[0], ignore_labels=[])
            chances = softmax(logits)[1:-1]  # without the two special tokens
            names = [experiment.label_names[best] for best in chances.argmax(1)]
            assert [one["entity"] for one in found] == names
            assert [one["score"] for one in found] == pytest.approx(chances.max(1), abs=2e-5)
            continue
        given = dict(zip(("text", "text_pair"), texts, strict=False))
        if not experiment.label_names:
            (found,) = [run(given, function_to_apply="none")]
            found = found[0] if isinstance(found, list) else found
            assert found["score"] == pytest.approx(logits[0], abs=2e-5)
            continue
        found = {one["label"]: one["score"] for one in run(given, top_k=None)}
        expected = dict(zip(experiment.label_names, softmax(logits), strict=True))
        assert found == pytest.approx(expected, abs=2e-5)


def test_saved_models_take_texts_by_their_names(made, tmp_path):
    tf = pytest.importorskip("tensorflow")
    pytest.importorskip("tensorflow_text")
    experiment, model = made
    experiment.export_saved_model(model, tmp_path / "served")
    serve = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    names = {"classify": ["text"], "tag": ["text"]}.get(experiment.name, ["text", "text_pair"])
    assert sorted(serve.structured_input_signature[1]) == names
    texts = TEXTS[0][: len(names)]
    outputs = serve(**{n: tf.constant([text]) for n, text in zip(names, texts, strict=True)})
    expected = logits_of(experiment, model, texts)
    found = outputs["score"] if "score" in outputs else outputs["logits"][0]
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
