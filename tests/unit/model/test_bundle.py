import dataclasses
import hashlib
import json
import pickle

import pytest

from fsf_core import storage
from fsf_core.errors import BundleError, OutputError, StorageError
from fsf_core.model.bundle import Bundle, Origin, Output, Signature, canonical_json
from fsf_core.model.bundle_files import load_bundle, move_bundle, read_model, read_parity, save_bundle
from fsf_core.model.preprocess import PROFILES

ORIGIN = Origin(
    network="tests.support.tiny_net:build",
    network_options={"pyramid": "multiscale"},
    weights_sha256="ab" * 32,
    exporter="torchscript",
    opset=17,
    ir_version=8,
    tools={"torch": "2.13.0"},
    request={"weights": "ab" * 32, "classes": ["background", "wunde"]},
)
PARTS = {
    "classes": ("background", "wünde"),
    "palette": ((0, 0, 0), (128, 0, 0)),
    "profile": PROFILES["fastsegformer-train"],
    "signature": Signature(
        input_name="input",
        input_shape=(None, 3, 224, 224),
        output_name="output",
        output_shape=(None, 2, 224, 224),
    ),
    "origin": ORIGIN,
    "models": {"plain": b"a model", "fused": b"a fused model"},
    "parity": '{"passed": true}',
}


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "bundles" / "one")


@pytest.fixture
def saved(folder) -> Bundle:
    return save_bundle(folder, **PARTS)


def rewrite(folder, change):
    """Change bundle.json and its own digest."""
    path = storage.local_path(folder) / "bundle.json"
    content = json.loads(path.read_bytes())
    change(content)
    del content["document_sha256"]
    content["document_sha256"] = hashlib.sha256(canonical_json(content)).hexdigest()
    path.write_text(json.dumps(content))


def test_a_loaded_bundle_equals_the_saved_one(saved, folder):
    loaded = load_bundle(folder)
    assert loaded == saved
    assert loaded.sha256 == saved.sha256
    assert loaded.created_at == saved.created_at
    assert (loaded.classes, loaded.num_classes) == (("background", "wünde"), 2)
    assert loaded.profile == PROFILES["fastsegformer-train"]
    assert loaded.origin == ORIGIN
    assert read_model(loaded) == b"a model"
    assert read_model(loaded, "fused") == b"a fused model"
    assert read_parity(loaded) == {"passed": True}
    assert {path.name for path in storage.local_path(folder).iterdir()} == {
        "bundle.json",
        "model.onnx",
        "model.fused.onnx",
        "parity.json",
    }


def test_a_bundle_survives_pickle(saved):
    assert pickle.loads(pickle.dumps(saved)) == saved  # noqa: S301 - pickled here


def test_the_identity_depends_on_what_determines_the_result_and_nothing_else(saved, tmp_path):
    again = save_bundle(
        str(tmp_path / "again"),
        **PARTS | {"parity": "{}", "origin": dataclasses.replace(ORIGIN, tools={"torch": "2.14.0"})},
    )
    assert again.sha256 == saved.sha256
    changes = {
        "classes": ("background", "other"),
        "palette": ((0, 0, 0), (128, 0, 1)),
        "profile": PROFILES["fastsegformer"],
        "signature": dataclasses.replace(PARTS["signature"], output_shape=(None, 2, 112, 112)),
        "models": {"plain": b"another model", "fused": b"a fused model"},
    }
    others = {save_bundle(str(tmp_path / name), **PARTS | {name: value}).sha256 for name, value in changes.items()}
    assert len(others | {saved.sha256}) == len(changes) + 1


@pytest.mark.parametrize("name", ["model.onnx", "model.fused.onnx", "parity.json"])
@pytest.mark.usefixtures("saved")
def test_a_file_with_one_changed_byte_is_rejected(folder, name):
    path = storage.local_path(folder) / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} was altered.*export the bundle again"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx", "model.fused.onnx", "parity.json"])
@pytest.mark.usefixtures("saved")
def test_a_missing_file_is_rejected(folder, name):
    (storage.local_path(folder) / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} does not exist"):
        load_bundle(folder)


@pytest.mark.usefixtures("saved")
def test_a_model_altered_after_loading_is_rejected_when_it_is_read(folder):
    loaded = load_bundle(folder)
    (storage.local_path(folder) / "model.onnx").write_bytes(b"A model")
    with pytest.raises(BundleError, match=r"model\.onnx was altered"):
        read_model(loaded)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["classes"].reverse(),
        lambda content: content["profile"].update(scale=1.0),
        lambda content: content["origin"].update(opset=18),
        lambda content: content.update(created_at="2020-01-01"),
    ],
)
@pytest.mark.usefixtures("saved")
def test_an_altered_bundle_json_is_rejected(folder, change):
    path = storage.local_path(folder) / "bundle.json"
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"bundle\.json was altered"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "name", ["../model.onnx", "/etc/passwd", "a/b.onnx", "..", ".hidden", "C:model", "a\\b", "bundle.json", ""]
)
@pytest.mark.usefixtures("saved")
def test_a_file_name_that_leads_out_of_the_bundle_is_rejected(folder, name):
    rewrite(folder, lambda content: content["variants"]["plain"].update(name=name))
    with pytest.raises(BundleError, match="expected a plain name"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(format_version=3), "format version 3, this version of fsf reads 1 and 2"),
        (lambda content: content.update(format_version=2), "format version 2 is not that of its input"),
        (lambda content: content["signature"].update(input_shape=[None, 3, None, None]), "do not fit the prep"),
        (lambda content: content.pop("classes"), "malformed"),
        (lambda content: content.update(surprise=1), "malformed"),
        (lambda content: content["profile"].update(scale=0), "malformed"),
        (lambda content: content["profile"].update(surprise=0), "malformed"),
        (lambda content: content["palette"].pop(), "malformed"),
        (lambda content: content["variants"].pop("plain"), "malformed"),
        (lambda content: content.update(classes=["background", "other"]), "names the identity"),
    ],
)
@pytest.mark.usefixtures("saved")
def test_an_invalid_bundle_json_is_rejected(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"[]", b"{}", b"null", b'{"format_version": 1}', b"[" * 100000, b'{"a": NaN}']
)
@pytest.mark.usefixtures("saved")
def test_a_file_that_is_not_a_bundle_json_is_rejected(folder, data):
    (storage.local_path(folder) / "bundle.json").write_bytes(data)
    with pytest.raises(BundleError):
        load_bundle(folder)


def test_an_unknown_variant_raises_an_error_with_the_available_ones(saved):
    with pytest.raises(BundleError, match="has the variants fused, plain, expected 'int8' among them"):
        read_model(saved, "int8")


def test_a_folder_with_files_is_rejected_and_left_unchanged(tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / ".notes").write_text("mine")
    with pytest.raises(OutputError, match=r"already holds \.notes"):
        save_bundle(str(taken), **PARTS)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert (taken / ".notes").read_text() == "mine"


def test_a_bundle_is_saved_to_an_empty_folder_but_not_to_a_file(tmp_path):
    (tmp_path / "empty").mkdir()
    assert load_bundle(save_bundle(str(tmp_path / "empty"), **PARTS).uri)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        save_bundle(str(tmp_path / "file"), **PARTS)


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    whole = storage.write_bytes

    def disk_full_at_parity_json(uri, data, **options):
        if uri.endswith("parity.json"):
            raise StorageError("disk full")
        whole(uri, data, **options)

    monkeypatch.setattr(storage, "write_bytes", disk_full_at_parity_json)
    with pytest.raises(StorageError):
        save_bundle(str(tmp_path / "out"), **PARTS)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_saved_to_an_object_store():
    uri = "memory://store/bundles/one"
    saved = save_bundle(uri, **PARTS)
    assert load_bundle(uri) == saved
    with pytest.raises(OutputError, match="already holds"):
        save_bundle(uri, **PARTS)
    storage.remove_folder("memory://store")


@pytest.mark.parametrize("store", ["memory://store", ""])
def test_a_moved_bundle_is_whole_and_leaves_nothing_behind(store, tmp_path):
    home = store or str(tmp_path)
    saved = save_bundle(f"{home}/.export/bundle", **PARTS)
    moved = move_bundle(saved, f"{home}/bundle")

    assert moved == load_bundle(f"{home}/bundle") == dataclasses.replace(saved, uri=f"{home}/bundle")
    assert [entry.relative for entry in storage.list_files(f"{home}/.export", hidden=True)] == []
    storage.remove_folder(home)


def test_class_names_must_match_the_model_and_be_distinct(folder):
    with pytest.raises(ValueError, match="3 class names for 2 classes"):
        save_bundle(folder, **PARTS | {"classes": ("a", "b", "c")})
    with pytest.raises(ValueError, match="no two equal"):
        save_bundle(folder, **PARTS | {"classes": ("a", "a")})


def test_an_output_that_is_not_logits_is_recorded_and_part_of_the_identity(saved, tmp_path):
    """Bundles of float32 logits hold no word of it, so that those of earlier versions keep their identity."""
    signature = dataclasses.replace(PARTS["signature"], output=Output(kind="probabilities", dtype="float16"))
    other = save_bundle(str(tmp_path / "other"), **PARTS | {"signature": signature})
    document = json.loads((tmp_path / "other" / "bundle.json").read_text())

    assert document["output"] == {"kind": "probabilities", "layout": "NKHW", "dtype": "float16"}
    assert "output" not in json.loads((storage.local_path(saved.uri) / "bundle.json").read_text())
    assert load_bundle(other.uri) == other
    assert load_bundle(saved.uri).output == Output()
    assert other.sha256 != saved.sha256


def test_a_class_map_has_one_channel_for_all_classes(tmp_path):
    shape = (None, 1, 224, 224)
    signature = dataclasses.replace(PARTS["signature"], output_shape=shape, output=Output(kind="class_map"))

    assert save_bundle(str(tmp_path / "map"), **PARTS | {"signature": signature}).num_classes == 2
    with pytest.raises(ValueError, match="2 class names for 1 classes"):
        save_bundle(str(tmp_path / "scores"), **PARTS | {"signature": dataclasses.replace(signature, output=Output())})


def test_an_unknown_kind_of_output_is_refused(saved, folder):
    rewrite(folder, lambda content: content.update(output={"kind": "softmax", "layout": "NKHW", "dtype": "float32"}))
    with pytest.raises(BundleError, match="is malformed: found 'softmax' of an output; expected one of"):
        load_bundle(folder)
