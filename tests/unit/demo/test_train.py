"""The training of the demo's model, for a few steps of small drawings; and the weights that it made."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fsf_core.demo import WEIGHTS, model, train
from fsf_core.demo.examples import draw_held_out
from fsf_core.demo.oranges import CLASS_NAMES, draw_orange
from fsf_core.export.build import build_network
from fsf_core.export.nets.fastsegformer import FastSegFormer

FEW_OPTIONS = {"steps": 4, "batch": 2, "examples": 6, "warm_up": 1, "precision": "float32"}
FEW = train.Training(**FEW_OPTIONS)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawings")
    found = [folder / f"{seed}.npy" for seed in range(6)]
    for seed, path in enumerate(found):
        np.save(path, np.dstack(draw_orange(seed, height_px=192, width_px=240)))
    return found


def weights_of(state):
    return {name: tensor.clone() for name, tensor in state.averaged.state_dict().items()}


@pytest.fixture(scope="module")
def straight(paths):
    """Return a training without an interruption: the weights before and after it, and the losses."""
    state = train.State(FEW)
    before = weights_of(state)
    losses = train.train(state, paths)
    return before, weights_of(state), losses


def test_an_interrupted_training_ends_in_the_same_weights(straight, paths, tmp_path):
    _, expected, losses = straight
    first = train.State(FEW)
    begun = train.train(first, paths, until=2, every=2, then=lambda state: state.save(tmp_path / "state.pt"))
    second = train.State.resume(FEW, tmp_path / "state.pt")

    assert second.step == 2
    assert begun + train.train(second, paths) == losses
    assert all(torch.equal(found, expected[name]) for name, found in weights_of(second).items())


def test_a_training_changes_every_weight_that_is_read_and_depends_on_its_seed(straight, paths):
    before, after, losses = straight
    trainable = {name for name, _ in model.build().named_parameters()}
    other = train.train(train.State(train.Training(**{**FEW_OPTIONS, "seed": 1})), paths, until=1)

    unchanged = {name for name in trainable if torch.equal(before[name], after[name])}
    assert unchanged == {f"common_backbone.norm{place}.{part}" for place in (0, 4) for part in ("weight", "bias")}
    assert other[0] != losses[0]


def test_a_state_of_other_options_is_refused(tmp_path):
    train.State(FEW).save(tmp_path / "state.pt")

    with pytest.raises(ValueError, match=r"'steps': 4.*expected.*'steps': 9.*remove it"):
        train.State.resume(train.Training(**{**FEW_OPTIONS, "steps": 9}), tmp_path / "state.pt")


def test_the_loss_falls(paths):
    training = train.Training(**{**FEW_OPTIONS, "steps": 14})
    losses = train.train(train.State(training), paths)

    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


def test_training_leaves_torchs_generator_and_threads_as_they_were(paths):
    torch.manual_seed(123)
    before = torch.random.get_rng_state(), torch.get_num_threads()
    train.train(train.State(FEW), paths, until=1)

    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


def test_the_rate_rises_to_its_peak_and_falls_to_a_hundredth():
    training = train.Training(steps=1000, warm_up=100, peak_rate=1.0)
    rates = [train._rate(training, step) for step in range(1000)]

    assert rates[0] == pytest.approx(0.01)
    assert np.argmax(rates) in (99, 100)
    assert max(rates) == 1.0
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)
    assert np.all(np.diff(rates[100:]) < 0)


def test_the_rate_rises_once_more_at_the_restart():
    training = train.Training(steps=1000, warm_up=200, peak_rate=1.0, restart_at=600, restart_rate=0.5)
    once = train.Training(steps=600, warm_up=200, peak_rate=1.0)
    rates = [train._rate(training, step) for step in range(1000)]

    assert rates[:600] == [train._rate(once, step) for step in range(600)], "the restart changes what follows it alone"
    assert rates[600] == pytest.approx(0.5 / train.RESTART_WARM_UP)
    assert np.argmax(rates[600:]) in (train.RESTART_WARM_UP - 1, train.RESTART_WARM_UP)
    assert max(rates[600:]) == 0.5
    assert rates[-1] == pytest.approx(0.005, abs=1e-3)
    assert np.all(np.diff(rates[700:]) < 0)


def test_classifying_before_enlarging_gives_the_same_logits():
    network = model.build().eval()
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
        train._classify_before_enlarging(network)
        assert torch.allclose(network(images), expected, atol=1e-5)


def test_the_loss_of_a_perfect_output_is_nearly_that_of_its_uncertainty():
    shares = torch.zeros(1, 4, 8, 8)
    shares[:, 1, :4] = 1
    shares[:, 0, 4:] = 1

    assert train._loss(20 * shares, shares).item() < 1e-3
    assert train._loss(20 * shares.flip(1), shares).item() > 1


class ByColour(nn.Module):
    """Scores by the red channel, in which the class is written."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = nn.Parameter(torch.arange(4) * 80 / 255)

    def forward(self, images):
        return -50 * (images[:, :1] - self.wanted[None, :, None, None]).abs()


def test_what_is_measured_is_the_iou_at_the_drawings_own_size():
    label_HW = np.kron(np.array([[0, 1], [2, 3]]), np.ones((150, 200))).astype(np.uint8)
    image_HWC = np.dstack([label_HW * 0, label_HW * 0, label_HW * 80])
    wrong_HWC = image_HWC.copy()
    wrong_HWC[:150, 200:] = 0  # class 1 as background

    perfect, wrong = (train.measure(ByColour(), [(image, label_HW)]) for image in (image_HWC, wrong_HWC))

    assert all(value > 0.97 for value in perfect.values())
    assert wrong["sunburn"] < 0.03
    assert wrong["background"] == pytest.approx(0.5, abs=0.02)
    assert wrong["mean"] == pytest.approx(np.mean([wrong[name] for name in CLASS_NAMES]))


def test_weights_are_saved_in_half_precision_under_the_networks_keys(tmp_path):
    network = model.build()
    train.save(network, tmp_path / "weights.safetensors")
    found = load_file(tmp_path / "weights.safetensors")

    assert found.keys() == network.state_dict().keys()
    assert {tensor.dtype for tensor in found.values()} == {torch.float16, torch.int64}


def test_the_demos_network_is_the_one_that_export_builds_by_name():
    built = build_network("fastsegformer-e", num_classes=4).network

    assert isinstance(built, FastSegFormer)
    assert str(built) == str(model.build().eval())


def test_the_weights_of_the_package_find_the_defects_of_held_out_drawings():
    network = build_network("fastsegformer-e", num_classes=4, checkpoint=WEIGHTS).network
    found = train.measure(network, draw_held_out(12))

    assert found["mean"] > 0.88
    assert min(found.values()) > 0.7
    assert WEIGHTS.stat().st_size < 11_000_000
