"""Folders of transformers are recognised by their files, before the library is imported."""

import json
from types import SimpleNamespace

import pytest

from fsf_core.errors import CheckpointError, ConfigError
from fsf_core.export.families import transformers
from fsf_core.export.families.transformers.classes import read_classes
from fsf_core.export.families.transformers.folder import require_loadable, task_of

SEGFORMER = {"model_type": "segformer", "architectures": ["SegformerForSemanticSegmentation"]}


def folder(path, config, *files, **json_files):
    (path / "config.json").write_text(json.dumps(config))
    for name in files:
        (path / name).write_bytes(b"")
    for name, content in json_files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def test_a_folder_is_recognised_by_its_model_type(tmp_path):
    assert transformers.recognises(folder(tmp_path, SEGFORMER))
    assert not transformers.recognises(tmp_path / "config.json")
    for other in ({"architecture": "resnet50"}, {"_model_class": "Unet"}, {"model_type": None}, [1], "text"):
        assert not transformers.recognises(folder(tmp_path, other))
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{")
    assert not transformers.recognises(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "architecture", "task"),
    [
        ("segformer", "SegformerForSemanticSegmentation", "semantic"),
        ("segformer", None, "semantic"),
        ("mask2former", "Mask2FormerForUniversalSegmentation", "universal"),
        ("maskformer", "MaskFormerForInstanceSegmentation", "universal"),
        ("oneformer", None, "universal"),
        ("detr", "DetrForSegmentation", "universal"),
    ],
)
def test_the_architecture_shows_what_the_outputs_are(model_type, architecture, task):
    config = {"model_type": model_type, "architectures": [architecture] if architecture else None}
    assert task_of(config, "x") == task


@pytest.mark.parametrize(
    ("architecture", "purpose"),
    [
        ("SegformerForImageClassification", "classifies whole images"),
        ("DetrForObjectDetection", "detects boxes"),
        ("DPTForDepthEstimation", "estimates depth"),
        ("LlamaForCausalLM", "is a language model"),
        ("RfDetrForInstanceSegmentation", "segments instances"),
        ("SegformerModel", "is a backbone"),
        ("SomethingElse", "is for another task"),
    ],
)
def test_models_of_other_tasks_are_refused_by_their_task(architecture, purpose):
    with pytest.raises(ConfigError, match=f"{architecture}, which {purpose}.*SegformerForSemanticSegmentation"):
        task_of({"model_type": "segformer", "architectures": [architecture]}, "x")


@pytest.mark.parametrize(
    ("config", "files", "reason"),
    [
        ({"auto_map": {"AutoModel": "code.Net"}}, {}, "auto_map"),
        ({}, {"preprocessor_config": {"auto_map": {"AutoImageProcessor": "code.Net"}}}, "auto_map"),
        ({}, {"adapter_config": {"peft_type": "LORA"}}, "adapter"),
        ({"quantization_config": {"bits": 4}}, {}, "quantised"),
    ],
)
def test_what_the_library_would_load_in_part_is_refused(tmp_path, config, files, reason):
    path = folder(tmp_path, SEGFORMER | config, "model.safetensors", **files)
    with pytest.raises(ConfigError, match=reason):
        require_loadable(path, SEGFORMER | config, "x")


def test_missing_files_with_weights_are_named(tmp_path):
    path = folder(tmp_path, SEGFORMER)
    with pytest.raises(CheckpointError, match=r"lacks model.safetensors or pytorch_model.bin"):
        require_loadable(path, SEGFORMER, "x")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (path / "model-00001-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"lacks model-00002-of-00002.safetensors;"):
        require_loadable(path, SEGFORMER, "x")
    (path / "model-00002-of-00002.safetensors").write_bytes(b"")
    require_loadable(path, SEGFORMER, "x")


@pytest.mark.parametrize(
    ("labels", "count", "names"),
    [
        ({"1": "road", "0": "wall, brick"}, 2, ("wall, brick", "road")),
        ({"0": "a", "1": "N/A", "2": "N/A"}, 3, ("a", "N/A (1)", "N/A (2)")),
        ({"0": "a", "2": "c"}, 2, ()),
        ({"0": "LABEL_0", "1": "LABEL_1"}, 2, ()),
        ({"0": "a", "1": ""}, 2, ()),
        ({"0": "a"}, 2, ()),
        ({"a": "0"}, 1, ()),
        (None, 2, ()),
    ],
)
def test_names_are_those_of_id2label_in_the_order_of_the_ids(labels, count, names):
    assert read_classes({"id2label": labels}, SimpleNamespace(num_labels=count), given=())[0] == names


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"0": "a", "2": "b", "5": "c"}, "id2label names the ids 0, 2, 5, but the model has 3 classes"),
        ({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, "id2label has 3 classes without names"),
        ({"a": "0"}, "the keys of id2label are no ids"),
        (None, ""),
    ],
)
def test_why_there_are_no_names_is_for_the_question_about_them(labels, reason):
    assert read_classes({"id2label": labels}, SimpleNamespace(num_labels=3), given=()) == ((), (), reason)


def test_notes_name_doubles_and_a_class_that_the_training_ignored():
    config = SimpleNamespace(num_labels=3)
    assert "'b' more than once" in read_classes({"id2label": {"0": "a", "1": "b", "2": "b"}}, config, given=())[1][0]
    assert "ignored class 2" in read_classes({"semantic_loss_ignore_index": 2}, config, given=("a", "b", "c"))[1][0]
    assert read_classes({"semantic_loss_ignore_index": 255}, config, given=("a", "b", "c")) == ((), (), "")
