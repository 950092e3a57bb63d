"""Weights of a folder of transformers are all read from it, and its network gives what post-processing starts from."""

import json

import numpy as np
import pytest

from fsf_core.errors import CheckpointError, ConfigError
from fsf_core.export.families import transformers as family
from fsf_core.export.families.found import FamilyRequest
from fsf_core.export.families.optional import load

load("transformers", "transformers")

import torch  # noqa: E402 - behind the library, which the line before makes importable
from safetensors.torch import load_file, save_file  # noqa: E402

from tests.support.zoo import transformers as zoo  # noqa: E402

HEAD = "decode_head.classifier"


def read(folder, *classes):
    return family.read(folder, FamilyRequest(source="x", classes=classes))


@pytest.fixture
def segformer(tmp_path):
    zoo.make(zoo.segformer, tmp_path)
    return tmp_path


def change(folder, edit):
    """Rewrite the weights, changed in place."""
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_whole_folder_is_read(segformer):
    found = read(segformer)
    assert found.classes == zoo.NAMES
    assert found.document["output"] == {"kind": "logits", "resized": "logits"}
    assert (found.notes, found.advice, found.exporter) == ((), "", None)


def test_weights_that_are_missing_are_refused_by_name(segformer):
    change(segformer, lambda state: [state.pop(key) for key in list(state) if key.startswith(HEAD)])
    with pytest.raises(CheckpointError, match=rf"lacks {HEAD}.bias, {HEAD}.weight, which would get random values"):
        read(segformer)


def test_weights_of_another_shape_are_refused_by_name(segformer):
    change(segformer, lambda state: state.update({f"{HEAD}.bias": torch.zeros(7)}))
    with pytest.raises(CheckpointError, match=rf"has other shapes of {HEAD}.bias, which would get random"):
        read(segformer)


def test_weights_without_a_place_are_named(segformer):
    change(segformer, lambda state: state.update({"auxiliary.weight": torch.zeros(7)}))
    assert "auxiliary.weight" in read(segformer).notes[0]


def test_half_precision_is_read_as_float32(segformer):
    change(segformer, lambda state: state.update({key: value.half() for key, value in state.items()}))
    config = json.loads((segformer / "config.json").read_text())
    (segformer / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    assert {value.dtype for value in read(segformer).network.state_dict().values() if value.is_floating_point()} == {
        torch.float32
    }


def test_damaged_weights_are_refused(segformer):
    data = (segformer / "model.safetensors").read_bytes()
    (segformer / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=r"cannot be loaded: .*copy it again"):
        read(segformer)


def test_an_architecture_without_segmentation_is_refused(segformer):
    (segformer / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ConfigError, match=r"is of an architecture that transformers .* cannot segment with"):
        read(segformer)


def test_one_class_is_the_logit_of_a_foreground(tmp_path):
    zoo.make(lambda library: zoo.segformer(library, id2label={0: "rot"}, label2id={"rot": 0}), tmp_path)
    found = read(tmp_path)
    assert found.classes == ("rot",)
    assert found.document["output"] == {"kind": "binary_logit", "resized": "logits"}
    assert "logit of a foreground" in found.notes[0]


@pytest.mark.parametrize("name", ["mask2former", "maskformer"])
def test_queries_become_the_class_scores_of_the_processor(name, tmp_path):
    zoo.make(zoo.BUILDERS[name], tmp_path)
    found = read(tmp_path)
    library = load("transformers", "transformers")
    model = library.AutoModelForUniversalSegmentation.from_pretrained(tmp_path).eval()
    processor = library.AutoImageProcessor.from_pretrained(tmp_path)
    # In float64: Mask2Former attends to cells with a probability of 0.5 or more, and where rounding decides that, the
    # scores of float32 move by 1e-3.
    model, network = model.double(), found.network.double()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 4 - 2
    with torch.inference_mode():
        scores = network(images)
        outputs = processor.post_process_semantic_segmentation(model(images), return_segmentation_scores=True)
    assert found.document["output"] == {"kind": "probabilities"}
    assert found.exporter == "torchscript"
    assert 0 <= float(scores.min()) <= float(scores.max()) <= 1
    for score, output in zip(scores, outputs, strict=True):
        largest = max(1.0, float(output.segmentation_scores.max()))
        assert np.abs(score.numpy() * largest - output.segmentation_scores.numpy()).max() <= 2e-6
