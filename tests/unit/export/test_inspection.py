"""What fsf inspect-model finds in a model, and that its document is accepted once it is filled in."""

import json
import re

import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper

from fsf_core.cli.app import main
from fsf_core.config import ExportConfig
from fsf_core.errors import ConfigError
from fsf_core.export.inspection import inspect_model, proposal
from fsf_core.export.interface import profile_of, read_given
from fsf_core.export.model_document import read_document
from tests.support.tiny_net import build
from tests.support.tiny_onnx import tiny_onnx

FILLED = {"resize": "stretch", "size": "224x224", "interpolation": "linear", "channel_order": "rgb", "scale": 255}
FILLED |= {"mean": "[0, 0, 0]", "std": 1}


def filled(document, **values):
    for key, value in {**FILLED, **values}.items():
        document = re.sub(rf"(?m)^  {key}:  #.*", f"  {key}: {value}", document)
    return document


def write(path, model):
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_the_document_of_an_onnx_file_is_accepted_once_it_is_filled_in(tmp_path):
    source = write(tmp_path / "a.onnx", tiny_onnx())
    found = inspect_model(source)
    assert (found.kind, found.facts) == ("onnx", {"opset": 17, "parameters": 644})
    assert found.input == {"dtype": "float32", "layout": "NCHW", "size": (224, 224)}
    assert found.missing == ["classes", "resize", "interpolation", "channel_order", "scale", "mean", "std"]
    document = tmp_path / "model.yaml"
    document.write_text(proposal(found, str(document)))
    given = {"model": source, "model_config": str(document), "classes": ("a", "b", "c", "d"), "out": "bundle"}
    with pytest.raises(ConfigError, match=r"resize of input in .* is None, expected one of stretch"):
        read_given(ExportConfig(**given))
    document.write_text(filled(document.read_text()))
    config = ExportConfig(**given)
    assert profile_of(config, read_given(config)).describe() == "224x224 pixels, stretched by linear, RGB, levels / 255"


def test_every_choice_in_the_document_is_one_that_its_key_takes(tmp_path):
    lines = proposal(inspect_model(write(tmp_path / "a.onnx", tiny_onnx())), "").splitlines()
    for key, choices in re.findall(r"(?m)^  (\w+):  # (.*)", "\n".join(lines)):
        for choice in re.findall(r"\[[^]]*\]|[^, ]+", choices):
            (tmp_path / "one.yaml").write_text(f"input: {{{key}: {choice}}}")
            if choice != "…":
                read_given(ExportConfig(onnx="a.onnx", model_config=str(tmp_path / "one.yaml"), out="bundle"))


def test_names_in_the_metadata_several_outputs_and_free_sizes_are_listed(tmp_path):
    model = tiny_onnx()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"
    model.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, None))
    helper.set_model_props(model, {"names": json.dumps({0: "background", 1: "road", 2: "car", 3: "sky"})})
    found = inspect_model(write(tmp_path / "a.onnx", model))
    assert found.classes == ("background", "road", "car", "sky")
    assert found.tensors["inputs"] == [{"name": "images:0", "type": "float32", "shape": (None, 3, None, 224)}]
    assert found.missing[:2] == ["name of the output (seg/scores, c)", "size"]
    document = yaml.safe_load(proposal(found, ""))
    assert document["output"] == {"name": None}


def test_an_input_that_is_no_picture_is_a_note_and_no_failure(tmp_path):
    model = tiny_onnx()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    found = inspect_model(write(tmp_path / "a.onnx", model))
    assert "expected one of float32, float16, float64, uint8" in found.notes[0]


def test_a_checkpoint_lists_its_sets_of_weights(tmp_path):
    torch.save({"model": build().state_dict(), "ema": build().state_dict()}, tmp_path / "a.pth")
    found = inspect_model(str(tmp_path / "a.pth"))
    assert found.kind == "checkpoint"
    assert [*found.facts["sets"]] == ["model", "ema"]
    assert "name one with --weights-key" in " ".join(found.notes)
    assert proposal(found, "") == ""


def test_the_command_prints_for_people_and_programs_and_writes_the_document_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "a.onnx", tiny_onnx())
    assert main(["inspect-model", source, "--yaml", "model.yaml"]) == 0
    out = capsys.readouterr().out
    assert "missing: classes, resize" in out
    assert json.loads(out.splitlines()[-1])["missing"][0] == "classes"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "model.yaml"]
    assert read_document("model.yaml")["input"]["size"] == "224x224"
    assert main(["inspect-model", "gone.onnx"]) == 2
