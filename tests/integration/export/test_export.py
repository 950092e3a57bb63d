"""The export job with the real exporters: what it leaves, what it refuses, and that it refuses without a trace."""

import copy
import importlib.metadata
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from fsf_core.config import ExportConfig
from fsf_core.errors import BundleError, CheckpointError, ConfigError, OutputError, ParityError, StorageError
from fsf_core.export import from_network, make, parity
from fsf_core.export.convert import to_onnx
from fsf_core.export.graph import model_bytes, opset_of
from fsf_core.export.job import export
from fsf_core.export.rewrite import Rewritten
from fsf_core.export.sample_images import drawn_images
from fsf_core.model.bundle_files import load_bundle, read_model, read_parity
from fsf_core.model.preprocess import PROFILES, fit
from fsf_core.model.session import Session
from tests.support.tiny_net import TinyNet, build
from tests.support.tiny_onnx import tiny_onnx

PARTS = {
    "classes": ("background", "sunburn", "ulcer", "wind_scarring"),
    "palette": ("0000ff", "0100fe", "0200fd", "0300fc"),
    "profile": "fastsegformer",
}
TINY = PARTS | {"net": "tests.support.tiny_net:build", "exporter": "torchscript"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    net = build()
    torch.nn.init.uniform_(net.head.bias, -1, 1)
    torch.save(net.state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, checkpoint):
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    return export(ExportConfig(**TINY, checkpoint=checkpoint, out=str(out)))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_bundle_holds_both_variants_and_the_parity_report(exported):
    assert not exported.reused
    bundle = load_bundle(exported.bundle.uri)
    assert bundle == exported.bundle
    assert bundle.classes == PARTS["classes"]
    assert bundle.palette == ((0, 0, 255), (1, 0, 254), (2, 0, 253), (3, 0, 252))
    assert bundle.profile == PROFILES["fastsegformer"]
    assert (bundle.origin.network, bundle.origin.opset, bundle.origin.exporter) == (TINY["net"], 17, "torchscript")
    assert set(bundle.origin.tools) == {"fsf", "onnx", "onnxruntime", "torch", "onnxscript"}
    report = read_parity(bundle)
    assert report["passed"] is True
    assert {picture["variant"] for picture in report["pictures"]} == {"plain", "fused"}


def test_both_variants_equal_the_network(exported, checkpoint):
    net = build()
    net.load_state_dict(torch.load(checkpoint, weights_only=True))
    frame_HWC = fit(drawn_images()[0].image_HWC, exported.bundle.profile)
    batch_NCHW = np.ascontiguousarray(frame_HWC.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
    with torch.inference_mode():
        expected_NKHW = net.eval()(torch.from_numpy(batch_NCHW)).numpy()
    assert np.abs(Session(read_model(exported.bundle)).run(batch_NCHW) - expected_NKHW).max() < 1e-5
    fused = Session(read_model(exported.bundle, "fused"))
    class_maps_NHW, _ = fused.run_fused(frame_HWC[None], height_px=224, width_px=224)
    assert (class_maps_NHW == expected_NKHW.argmax(axis=1)).mean() > 0.9999


def test_the_same_request_is_not_exported_twice(exported, checkpoint, monkeypatch):
    monkeypatch.setattr(from_network, "to_onnx", None)  # would fail if it were called
    again = export(ExportConfig(**TINY, checkpoint=checkpoint, out=exported.bundle.uri))
    assert again.reused
    assert again.bundle == exported.bundle


def test_the_same_request_elsewhere_gives_the_same_identity(exported, checkpoint, tmp_path):
    again = export(ExportConfig(**TINY, checkpoint=checkpoint, out=str(tmp_path / "again")))
    assert not again.reused
    assert again.bundle.sha256 == exported.bundle.sha256


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"classes": ("a", "b", "c", "d")}, "classes"),
        ({"opset": 18}, "graph"),
        ({"input_name": "images"}, "graph"),
        ({"profile": "fastsegformer-train"}, "profile"),
    ],
)
def test_another_request_is_refused_with_what_differs_and_the_bundle_stays(exported, checkpoint, change, named):
    with pytest.raises(OutputError, match=f"another request, which differs in {named}; choose another --out"):
        export(ExportConfig(**TINY | change, checkpoint=checkpoint, out=exported.bundle.uri))
    assert load_bundle(exported.bundle.uri) == exported.bundle


def test_other_weights_are_another_request(exported):
    with pytest.raises(OutputError, match="differs in weights"):
        export(ExportConfig(**TINY, out=exported.bundle.uri))


def test_an_altered_bundle_is_not_reused(checkpoint, tmp_path):
    out = tmp_path / "copy"
    export(ExportConfig(**TINY, checkpoint=checkpoint, out=str(out)))
    with (out / "model.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(BundleError, match=r"model\.onnx was altered.*remove the folder"):
        export(ExportConfig(**TINY, checkpoint=checkpoint, out=str(out)))


def test_a_folder_with_other_files_is_refused_before_anything_is_exported(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setattr(from_network, "to_onnx", None)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"already holds thesis\.txt"):
        export(ExportConfig(**TINY, checkpoint=checkpoint, out=str(tmp_path)))
    assert files(tmp_path) == ["thesis.txt"]


def forget_the_batch_statistics(net):
    net.stem[1].running_var *= 1.01


def shift_one_weight(net):
    with torch.no_grad():
        net.body[0].weight[3, 2, 1, 1] += 0.05


def use_the_epsilon_of_another_framework(net):
    net.body[1].eps = 1e-3


@pytest.mark.parametrize(
    "damage", [forget_the_batch_statistics, shift_one_weight, use_the_epsilon_of_another_framework]
)
def test_a_damaged_graph_is_refused_and_leaves_no_bundle(tmp_path, monkeypatch, damage):
    def damaging(module, *args, **options):
        other = build()
        other.load_state_dict(module.state_dict())
        damage(other)
        return to_onnx(other, *args, **options)

    monkeypatch.setattr(from_network, "to_onnx", damaging)
    with pytest.raises(ParityError, match="does not equal the original") as caught:
        export(ExportConfig(**TINY, out=str(tmp_path / "bundle")))
    assert caught.value.report.images
    assert files(tmp_path) == []


def parity_of(folder):
    return json.loads((folder / "parity.json").read_text())


def test_the_report_tells_which_rules_rewrote_the_graph_that_it_is_about(exported, checkpoint):
    plain = onnx.load(Path(exported.bundle.uri) / "model.onnx")
    written = from_network.to_onnx(build(), PROFILES["fastsegformer"], opset=17, exporter="torchscript")
    assert parity_of(Path(exported.bundle.uri))["rewrites"] == {"resize_by_scales": 1}
    assert len(plain.graph.node) < len(written.graph.node)


def scale_weights(model):
    head = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [4, 16, 1, 1])
    head.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(head) * 1.1, head.name))


def name_unknown_operator(model):
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(scale_weights, "does not equal the original"), (name_unknown_operator, "cannot load the model")],
)
def test_a_rewritten_graph_that_differs_or_cannot_be_loaded_is_left_out_and_the_report_tells_why(
    tmp_path, monkeypatch, caplog, damage, reason
):
    def damaging(model):
        damaged = copy.deepcopy(model)
        damage(damaged)
        return Rewritten(model=damaged, rules={"a_rule": 1})

    monkeypatch.setattr(make, "rewrite", damaging)
    bundle = export(ExportConfig(**TINY, out=str(tmp_path / "bundle"))).bundle
    written = from_network.to_onnx(build(), PROFILES["fastsegformer"], opset=17, exporter="torchscript")
    report = parity_of(tmp_path / "bundle")
    assert read_model(bundle) == model_bytes(written)
    assert "rewrites" not in report
    assert reason in report["rewrites_refused"]
    assert "event=graph_not_rewritten" in caplog.text


def test_a_refused_export_leaves_an_empty_folder_empty(tmp_path, monkeypatch):
    def opposite(module, *args, **options):
        with torch.no_grad():
            model = to_onnx(build(), *args, **options)
        module.head.weight.data.neg_()
        return model

    monkeypatch.setattr(from_network, "to_onnx", opposite)
    with pytest.raises(ParityError):
        export(ExportConfig(**TINY, out=str(tmp_path)))
    assert files(tmp_path) == []


def test_a_bundle_holds_the_requested_precisions_each_with_its_own_parity(tmp_path, checkpoint):
    done = export(
        ExportConfig(**TINY, checkpoint=checkpoint, precisions=("fp16", "int8"), out=str(tmp_path / "bundle"))
    )
    bundle = load_bundle(done.bundle.uri)
    forms = {"fp16-plain", "fp16-fused", "int8-plain", "int8-fused"}
    assert set(bundle.variants) == {"plain", "fused"} | forms
    proofs = {proof["variant"]: proof for proof in read_parity(bundle)["precisions"]}
    assert set(proofs) == forms
    assert all(proof["mean_iou"] >= proof["limits"]["min_mean_iou"] for proof in proofs.values())


def test_a_precision_beyond_its_limits_leaves_no_bundle(tmp_path, checkpoint, monkeypatch):
    strict = parity.PrecisionLimits(min_mean_iou=1.01, min_class_iou=0, max_differing_share=1)
    monkeypatch.setitem(parity.PRECISION_LIMITS, "int8", strict)
    with pytest.raises(ParityError, match=r"int8-plain: the mean IoU.*leave that precision out") as caught:
        export(ExportConfig(**TINY, checkpoint=checkpoint, precisions=("int8",), out=str(tmp_path / "bundle")))
    assert not caught.value.report.passed
    assert files(tmp_path) == []


def test_an_unknown_precision_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="--precisions is int4, expected names out of fp16,int8"):
        ExportConfig(**TINY, precisions=("int4",), out="bundle")


def test_images_of_the_user_are_part_of_the_parity_check(tmp_path, checkpoint):
    (tmp_path / "samples").mkdir()
    cv2.imwrite(str(tmp_path / "samples" / "mine.png"), drawn_images()[3].image_HWC[:200])
    request = ExportConfig(
        **TINY, checkpoint=checkpoint, samples=str(tmp_path / "samples"), out=str(tmp_path / "bundle")
    )
    bundle = export(request).bundle
    mine = [picture for picture in read_parity(bundle)["pictures"] if picture["name"] == "mine.png"]
    assert {(picture["height_px"], picture["width_px"]) for picture in mine if picture["batch"] == 1} == {(200, 251)}
    cv2.imwrite(str(tmp_path / "samples" / "mine.png"), drawn_images()[3].image_HWC[:150])
    with pytest.raises(OutputError, match="differs in samples"):
        export(request)


@pytest.mark.parametrize("opset", [11, 12])
def test_an_onnx_file_of_an_old_opset_is_exported(tmp_path, opset):
    path = tmp_path / "best.onnx"
    path.write_bytes(tiny_onnx(opset=opset, batch=1).SerializeToString())
    bundle = export(ExportConfig(**PARTS, onnx=str(path), out=str(tmp_path / "bundle"))).bundle
    assert (bundle.origin.network, bundle.origin.opset) == ("onnx", opset)
    assert (bundle.signature.input_name, bundle.signature.output_name) == ("images:0", "seg/scores")
    assert set(bundle.variants) == {"plain", "fused"}
    assert export(ExportConfig(**PARTS, onnx=str(path), out=str(tmp_path / "bundle"))).reused


def test_a_file_with_another_number_of_classes_is_refused(tmp_path):
    path = tmp_path / "best.onnx"
    path.write_bytes(tiny_onnx(num_classes=3).SerializeToString())
    with pytest.raises(ConfigError, match=r"3 classes as \[N, K, H, W\], .* but 4 are named"):
        export(ExportConfig(**PARTS, onnx=str(path), out=str(tmp_path / "bundle")))
    assert files(tmp_path) == ["best.onnx"]


def test_a_letterbox_profile_has_only_the_plain_variant(tmp_path):
    bundle = export(ExportConfig(**TINY | {"profile": "fastsegformer-train"}, out=str(tmp_path / "bundle"))).bundle
    assert set(bundle.variants) == {"plain"}
    assert bundle.profile.mode == "letterbox"


def test_the_graph_is_printed_on_request_for_a_new_and_an_existing_bundle(tmp_path):
    shown = []
    for _ in range(2):
        export(ExportConfig(**TINY, out=str(tmp_path / "bundle")), show_graph=shown.append)
    assert "%input[FLOAT, batchx3x224x224]" in shown[0]
    assert shown[0] == shown[1]


def test_a_checkpoint_that_is_missing_or_does_not_fit_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.pth does not exist"):
        export(ExportConfig(**TINY, checkpoint=str(tmp_path / "gone.pth"), out=str(tmp_path / "bundle")))
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="missing"):
        export(ExportConfig(**TINY, checkpoint=str(tmp_path / "other.pth"), out=str(tmp_path / "bundle")))
    assert files(tmp_path) == ["other.pth"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no model is named"),
        ({"net": "fastsegformer-p"}, "comes without weights; pass --checkpoint"),
        ({"net": "fastsegformer-p", "checkpoint": "a.pth", "onnx": "b.onnx"}, "pass the file alone"),
        ({"net": "a:b", "profile": "fastsegformr"}, "choose one of fastsegformer, fastsegformer-train"),
        ({"net": "fastsegformer-p", "checkpoint": "a.pth", "classes": ("one",)}, "at least two names"),
        ({"net": "a:b", "classes": ("one", "one")}, "no two equal"),
        ({"net": "a:b", "palette": ("000000",)}, "1 colours for 4 classes"),
    ],
)
def test_an_invalid_request_is_refused_at_once(options, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        export(ExportConfig(**PARTS | options, out=str(tmp_path / "bundle")))


def test_a_missing_exporter_names_the_extra(tmp_path, monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ConfigError, match=r"export needs onnx, .*pip install 'fsf\[export\]'"):
        export(ExportConfig(**TINY, out=str(tmp_path / "bundle")))


def test_dynamo_writes_opset_20_and_the_same_bytes_every_time():
    profile = PROFILES["fastsegformer"]
    first, second = (to_onnx(build(), profile, exporter="dynamo", opset=20) for _ in range(2))
    assert opset_of(first) == 20
    assert model_bytes(first) == model_bytes(second)
    assert b"site-packages" not in model_bytes(first)
    assert b"tiny_net.py" not in model_bytes(first)


def test_an_opset_that_dynamo_would_raise_silently_is_refused(capfd):
    with pytest.raises(ConfigError, match="asked for opset 12, the dynamo exporter wrote 18; pass --opset 18"):
        to_onnx(build(), PROFILES["fastsegformer"], exporter="dynamo", opset=12)
    assert capfd.readouterr() == ("", "")


def test_a_network_is_exported_by_dynamo_from_end_to_end(tmp_path):
    bundle = export(ExportConfig(**PARTS, net="tests.support.tiny_net:build", out=str(tmp_path / "bundle"))).bundle
    assert (bundle.origin.exporter, bundle.origin.opset) == ("dynamo", 20)
    assert read_parity(bundle)["passed"] is True


@pytest.mark.parametrize("place", ["file/bundle", "/proc/nowhere/bundle"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_exported(place, tmp_path, monkeypatch):
    """It was found out after minutes of conversion."""
    monkeypatch.setattr(from_network, "to_onnx", None)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        export(ExportConfig(**TINY, out=str(tmp_path / place)))
    assert files(tmp_path) == ["file"]


class Ids(TinyNet):
    """Argmax inside: the ids of the classes, without an axis of channels."""

    def forward(self, batch_NCHW):
        return super().forward(batch_NCHW).argmax(1)


class Foreground(TinyNet):
    """One channel with a sigmoid inside."""

    def forward(self, batch_NCHW):
        return torch.sigmoid(super().forward(batch_NCHW)[:, :1] - super().forward(batch_NCHW)[:, 1:2])


def build_ids(num_classes):
    return _built(Ids(num_classes))


def build_foreground():
    return _built(Foreground(4))


def _built(net):
    net.load_state_dict(build().state_dict())
    return net


@pytest.mark.parametrize(
    ("net", "classes", "kind"),
    [("build_ids", PARTS["classes"], "class_map"), ("build_foreground", ("rot",), "binary_probability")],
)
def test_a_network_that_ends_behind_its_logits_is_exported_as_what_it_returns(net, classes, kind, tmp_path):
    request = {"net": f"{__name__}:{net}", "classes": classes, "profile": "fastsegformer", "exporter": "torchscript"}
    bundle = export(ExportConfig(**request, out=str(tmp_path / "bundle"))).bundle
    frames_NHWC = np.stack([fit(sample.image_HWC, bundle.profile) for sample in drawn_images()[:6]])
    batch_NCHW = np.ascontiguousarray(frames_NHWC.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
    with torch.inference_mode():
        expected = globals()[net](*([4] if kind == "class_map" else [])).eval()(torch.from_numpy(batch_NCHW)).numpy()
    found = Session(read_model(bundle)).run(batch_NCHW)

    assert bundle.output.kind == kind
    assert bundle.classes == (classes if len(classes) > 1 else ("background", "rot"))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, -1], expected.reshape(found[:, -1].shape), atol=1e-5)
    assert len(np.unique(found)) > 1
