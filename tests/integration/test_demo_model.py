"""The demo network: trained for some seconds, exported, and compared with ONNX Runtime."""

import importlib

import cv2
import numpy as np
import onnxruntime
import pytest

from fsf_core.demo.oranges import draw_orange

SMALL = {"height_px": 160, "width_px": 192}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model(torch):
    return importlib.import_module("fsf_core.demo.model")


@pytest.fixture(scope="module")
def trained(torch, model, tmp_path_factory):
    """Return a network after a few seconds of training, and its losses."""
    path = tmp_path_factory.mktemp("trained") / "demo.pth"
    losses = model.train(path, steps=24, crops=8, num_images=12)
    network = model.build()
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval(), losses


def test_the_demo_network_is_small_and_returns_logits_at_input_size(torch, model):
    network = model.build(num_classes=7).eval()
    assert 20_000 < sum(weight.numel() for weight in network.parameters()) < 60_000
    assert network(torch.zeros(2, 3, 224, 224)).shape == (2, 7, 224, 224)


def test_a_short_training_lowers_the_loss(trained):
    _, losses = trained
    assert len(losses) == 24
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_training_is_reproducible_and_does_not_change_torchs_global_state(torch, model, tmp_path):
    torch.manual_seed(123)
    before = torch.random.get_rng_state(), torch.get_num_threads()
    first, second = tmp_path / "a.pth", tmp_path / "b.pth"
    for path in (first, second):
        model.train(path, steps=2, crops=2, num_images=6)
    one, other = torch.load(first, weights_only=True), torch.load(second, weights_only=True)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # raised by torch itself
def test_onnx_runtime_matches_the_demo_network_at_any_batch_size(torch, trained, tmp_path, dynamo):
    network, _ = trained
    path = str(tmp_path / "demo.onnx")
    batch = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamo else {"dynamic_axes": {"images": {0: "n"}}}
    example = (torch.zeros(2, 3, 224, 224),)
    torch.onnx.export(network, example, path, dynamo=dynamo, input_names=["images"], output_names=["logits"], **batch)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        images = [cv2.resize(draw_orange(seed, **SMALL)[0], (224, 224))[..., ::-1] for seed in range(count)]
        batch_NCHW = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255
        with torch.no_grad():
            expected = network(torch.from_numpy(batch_NCHW)).numpy()
        [logits] = session.run(None, {"images": batch_NCHW})
        assert logits.shape == (count, 4, 224, 224)
        assert np.abs(logits - expected).max() < 1e-3
