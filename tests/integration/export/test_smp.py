"""Folders and checkpoints of segmentation_models.pytorch: what is read, what is asked, what is refused; no download."""

import json
import socket

import pytest
import torch

from fsf_core.config import ExportConfig
from fsf_core.errors import CheckpointError, ConfigError
from fsf_core.export.contents import contents_of
from fsf_core.export.families import smp
from fsf_core.export.families.albumentations import NAME as TRANSFORM
from fsf_core.export.families.found import FamilyRequest
from fsf_core.export.families.named import NamedRequest
from fsf_core.export.families.optional import load
from fsf_core.export.families.smp_encoders import input_of_encoder
from fsf_core.export.job import export
from tests.support.zoo.smp import ENCODER, build, save

HALF = {"channel_order": "rgb", "scale": 255, "mean": [0.5] * 3, "std": [0.5] * 3}
WEIGHTS = {"segmentation_head.0.weight": torch.zeros(4, 8, 3, 3)}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("nothing is downloaded")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unet")
    save(build("Unet", decoder_channels=(32, 16, 16, 8)), folder)
    return folder


@pytest.fixture
def changed(saved, tmp_path):
    """Return a copy of the folder with other settings."""

    def change(**settings):
        for file in saved.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        config = json.loads((saved / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | settings))
        return tmp_path

    return change


def read(folder):
    assert smp.recognises(folder)
    return smp.read(folder, FamilyRequest(source="unet"))


def named(name="Unet", classes=("a", "b", "c", "d"), weights=WEIGHTS, **options):
    options = {"encoder_name": ENCODER, "encoder_depth": 3, "decoder_channels": [16, 8, 8], **options}
    contents = contents_of(weights, "w.pth")
    return smp.named(NamedRequest(name=name, options=options, classes=classes, contents=contents, checkpoint_sha256=""))


# --- what is read


def test_a_folder_is_read_as_the_library_itself_loads_it(saved):
    found = read(saved)
    assert found.document == {"input": HALF, "output": {"kind": "logits", "resized": "logits"}}
    image = torch.rand(1, 3, 64, 48)
    with torch.inference_mode():
        own = load("segmentation_models_pytorch", "smp").from_pretrained(saved, encoder_weights=None).eval()
        assert torch.equal(found.network(image), own(image))


def test_the_normalisation_is_asked_for_where_the_saved_transform_does_what_is_not_repeated(changed):
    folder = changed()
    steps = [{"__class_fullname__": "Normalize", "normalization": "image"}]
    (folder / TRANSFORM).write_text(json.dumps({"transform": {"transforms": steps}}))
    found = read(folder)
    assert found.document["input"] == {"channel_order": "rgb"}
    assert "trained with --scale 255 --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5" in found.advice
    assert "Normalize by image, which is not repeated" in " ".join(found.notes)


def test_weights_of_torch_are_read_where_there_is_no_safetensors(changed):
    folder = changed()
    torch.save(read(folder).network.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    read(folder)


@pytest.mark.parametrize(
    ("activation", "classes", "kind"),
    [
        (None, 1, "binary_logit"),
        ("sigmoid", 1, "binary_probability"),
        ("softmax2d", 4, "probabilities"),
        ("logsoftmax", 4, "logits"),
        ("sigmoid", 4, None),  # several classes may be true of a pixel: asked
        ("tanh", 4, None),
    ],
)
def test_the_activation_tells_what_the_output_is(activation, classes, kind):
    weights = {"segmentation_head.0.weight": torch.zeros(classes, 8, 3, 3)}
    found = named(classes=tuple("abcd"[:classes]), weights=weights, activation=activation)
    assert found.document["output"].get("kind") == kind


def test_every_encoder_of_the_library_has_known_statistics():
    """Its table holds every encoder but timm's; a new one is to be compared before it is named here."""
    encoders = load("segmentation_models_pytorch", "smp").encoders.encoders
    pairs = [(name, weights) for name, entry in encoders.items() for weights in entry["pretrained_settings"]]
    assert [pair for pair in pairs if input_of_encoder(*pair, encoders) is None] == []


def test_a_fixed_size_of_the_encoder_is_the_size():
    embedding = load("timm.layers", "smp").PatchEmbed
    assert smp._fixed_size(torch.nn.Sequential(embedding(32, patch_size=16))) == [32, 32]
    assert smp._fixed_size(torch.nn.Sequential(embedding(32, patch_size=16, strict_img_size=False))) is None


def test_one_channel_takes_the_names_of_background_and_foreground():
    found = named(classes=("background", "crack"), weights={"segmentation_head.0.weight": torch.zeros(1, 8, 3, 3)})
    assert found.network.segmentation_head[0].out_channels == 1
    assert found.document["output"] == {"kind": "binary_logit"}


# --- what is asked


def test_what_the_folder_leaves_open_is_asked_with_what_fits(changed, tmp_path):
    folder = changed(encoder_weights=None)
    with pytest.raises(ConfigError, match=r"preprocessing of .* is not known: missing are") as raised:
        export(ExportConfig(model=str(folder), classes=("a", "b", "c", "d"), out=str(tmp_path / "out")))
    message = str(raised.value)
    assert "began with are not named (encoder_weights)" in message
    assert "the network takes any size: --resize own" in message
    assert not (tmp_path / "out").exists()


def test_multiples_of_the_encoders_stride_are_proposed():
    assert (
        "multiples of 8: --resize own --multiple-of 8 --to-multiple pad pads"
        in named("MAnet", encoder_weights="imagenet").advice
    )


# --- what is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_model_class": "Unet3Plus"}, "names the architecture 'Unet3Plus', .*expected one of .*: Unet, UnetPlusPlus"),
        ({"encoder_name": "resnet19"}, "names the encoder 'resnet19', did you mean resnet1"),
        ({"encoder_name": "tu-hf-hub:timm/resnet18"}, "nothing is downloaded"),
        ({"encoder_name": "tu-resnet_of_nobody"}, "cannot build Unet with .*Unknown model"),
        ({"in_channels": 4}, "takes 4 channels"),
        ({"decoder_channels": [8]}, "cannot build Unet with .*decoder_channels=.8."),
    ],
)
def test_a_folder_that_the_library_cannot_build_is_refused(settings, message, changed):
    with pytest.raises(ConfigError, match=message):
        read(changed(**settings))


def test_weights_of_another_network_are_refused(changed):
    with pytest.raises(CheckpointError, match=r"of another shape \(segmentation_head.0.weight is \[4, 8"):
        read(changed(classes=5))


def test_a_folder_without_weights_is_refused(changed):
    folder = changed()
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no weights, expected model.safetensors or pytorch_model.bin"):
        read(folder)


@pytest.mark.parametrize("config", ['{"model_type": "segformer"}', "[]", "{", '{"_model_class": 3}'])
def test_the_folder_of_another_library_is_none_of_this(config, tmp_path):
    (tmp_path / "config.json").write_text(config)
    assert not smp.recognises(tmp_path)
    assert not smp.recognises(tmp_path / "config.json")
    assert not smp.recognises(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "Unett"}, "--net smp:Unett names the architecture 'Unett', did you mean Unet"),
        ({"encoder_name": "resnet18", "decoder_chanels": [8]}, "has no option 'decoder_chanels'"),
        ({"classes": ("a", "b", "c")}, "the head of the checkpoint has 4 channels, but 3 classes are named"),
        ({"classes": ()}, "holds none, expected one for each of its 4 classes"),
    ],
)
def test_a_name_that_the_library_cannot_build_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        named(**arguments)
