"""A network is built by name or import path; its weights fit key for key, or the message says what fits."""

import io
import sys

import pytest
import torch

from fsf_core.errors import CheckpointError, ConfigError, InterruptedRunError
from fsf_core.export.build import load_network
from tests.support import recipe


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the goldens were computed; on a busy machine threads that wait for each other cost ten times as much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def state():
    """The weights of a small network of the family, by the recipe."""
    return recipe_state(load_network("fastsegformer-e", num_classes=4))


def recipe_state(network):
    shapes = [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]
    return {name: torch.from_numpy(array) for name, array in recipe.state("e", shapes).items()}


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def assert_same(found, wanted):
    assert list(found) == list(wanted)
    for key, tensor in wanted.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=0)


THEIR_NETWORKS = """
import torch
from fsf_core.errors import InterruptedRunError
def make(num_classes): return torch.nn.Conv2d(3, num_classes, 1).half().train()
def make_any(**options): return torch.nn.Conv2d(3, options["num_classes"], 1)
def make_fixed(): return torch.nn.Conv2d(3, 2, 1)
def make_nothing(): return 42
def needs_more(num_classes, depth): return torch.nn.Conv2d(3, depth, 1)
def needs_two(backbone, /, *, width): return torch.nn.Conv2d(3, width, 1)
def given(num_classes, /): return torch.nn.Conv2d(3, num_classes, 1)
def parallel(num_classes): return torch.nn.DataParallel(make(num_classes))
def interrupted(): raise InterruptedRunError(15)
def leaves(): raise SystemExit("usage: train.py")
def complains(): raise ValueError("\\x1b[31mno weights\\nin the cache\\x1b[0m")
READY = torch.nn.Conv2d(3, 2, 1)
NOT_CALLABLE = 3
"""


@pytest.fixture
def their_module(tmp_path, monkeypatch):
    (tmp_path / "their_networks.py").write_text(THEIR_NETWORKS)
    (tmp_path / "broken_networks.py").write_text("import a_package_that_nobody_has")
    (tmp_path / "leaving_networks.py").write_text("import argparse; argparse.ArgumentParser().parse_args(['x'])")
    monkeypatch.syspath_prepend(tmp_path)
    yield "their_networks"
    sys.modules.pop("their_networks", None)


# --- building


def test_without_a_checkpoint_the_network_is_the_same_every_time():
    first = load_network("fastsegformer-e", num_classes=4)
    torch.manual_seed(123)
    assert_same(load_network("fastsegformer-e", num_classes=4).state_dict(), first.state_dict())


def test_building_does_not_disturb_the_callers_random_numbers():
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    load_network("fastsegformer-e", num_classes=4)
    assert torch.equal(torch.rand(3), wanted)


def test_the_network_comes_in_eval_mode_as_float32_on_the_cpu(their_module):
    for name in ("fastsegformer-e", f"{their_module}:make"):
        network = load_network(name, num_classes=4)
        assert not any(module.training for module in network.modules())
        assert {(p.dtype, p.device.type) for p in network.parameters()} == {(torch.float32, "cpu")}


def test_a_misspelt_network_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"'fastsegfromer-p', did you mean fastsegformer-p\?.*package.module:"):
        load_network("fastsegfromer-p", num_classes=4)


def test_a_misspelt_pyramid_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean pooling"):
        load_network("fastsegformer-p", num_classes=4, options={"pyramid": "poling"})


def test_no_classes_are_refused():
    with pytest.raises(ConfigError, match="num_classes is 0; expected at least 1"):
        load_network("fastsegformer-p", num_classes=0)


@pytest.mark.parametrize(("name", "num_classes"), [("make", 5), ("make_any", 6), ("make_fixed", 2), ("parallel", 3)])
def test_an_import_path_gets_num_classes_where_its_signature_takes_it(their_module, name, num_classes):
    assert load_network(f"{their_module}:{name}", num_classes=num_classes).out_channels == num_classes


def test_an_import_path_gets_its_options_as_keywords(their_module):
    assert load_network(f"{their_module}:needs_more", num_classes=4, options={"depth": 2}).out_channels == 2
    with pytest.raises(ConfigError, match=r"has no option 'dept', did you mean depth\?, expected one of depth"):
        load_network(f"{their_module}:needs_more", num_classes=4, options={"dept": 2})
    with pytest.raises(ConfigError, match="has no option 'num_classes'"):
        load_network(f"{their_module}:make_any", num_classes=4, options={"num_classes": 3})


def test_a_network_that_is_built_already_is_an_import_path_too(their_module):
    assert load_network(f"{their_module}:READY", num_classes=2).out_channels == 2


def test_a_class_is_an_import_path_too():
    assert isinstance(load_network("torch.nn:ReLU", num_classes=4), torch.nn.ReLU)


def test_a_signal_is_no_error_of_the_network(their_module):
    with pytest.raises(InterruptedRunError):
        load_network(f"{their_module}:interrupted", num_classes=4)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_networks:make", "importing 'no_such_networks' failed.*PYTHONPATH"),
        ("broken_networks:make", "a_package_that_nobody_has"),
        (":make", "package.module:callable"),
        ("their_networks:", "has no ''"),
        ("their_networks:mak", r"has no 'mak', did you mean make\?"),
        ("their_networks:NOT_CALLABLE", "found a int; expected something to call"),
        ("their_networks:make_nothing", "returned a int; expected a torch.nn.Module"),
        ("their_networks:needs_more", "needs depth, which .*; give --net-option depth=VALUE, or name a function"),
        ("their_networks:needs_two", "needs backbone, width, which have no default; expected a value for each; name a"),
        ("their_networks:given", "needs num_classes, which have no default; expected a value for each; name a"),
        ("their_networks:complains", "failed with ValueError: no weights in the cache; "),
        ("their_networks:leaves", "failed with SystemExit: usage: train.py; "),
        ("leaving_networks:make", "importing 'leaving_networks' failed with SystemExit: 2; "),
    ],
)
@pytest.mark.usefixtures("their_module")
def test_an_import_path_that_leads_nowhere_is_reported_at_its_first_wrong_part(path, words):
    with pytest.raises(ConfigError, match=words):
        load_network(path, num_classes=4)


# --- fitting


@pytest.mark.parametrize("form", ["path", "text", "bytes"])
def test_weights_arrive_in_the_network(tmp_path, state, form):
    path = tmp_path / "weights.pth"
    path.write_bytes(saved(state))
    checkpoint = {"path": path, "text": str(path), "bytes": path.read_bytes()}[form]
    assert_same(load_network("fastsegformer-e", num_classes=4, checkpoint=checkpoint).state_dict(), state)


def test_half_precision_weights_arrive_as_float32(state):
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    network = load_network("fastsegformer-e", num_classes=4, checkpoint=saved(halves))
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    torch.testing.assert_close(network.cnn1[0].weight, state["cnn1.0.weight"], rtol=1e-3, atol=1e-4)


def test_weights_of_another_network_are_refused_with_the_network_that_they_fit():
    other = {"num_classes": 7, "options": {"pyramid": "pooling", "cnn_branch": False}}
    data = saved(load_network("fastsegformer-e", **other).state_dict())
    with pytest.raises(CheckpointError) as caught:
        load_network("fastsegformer-p", num_classes=4, checkpoint=data)
    message = str(caught.value)
    assert "the checkpoint does not fit fastsegformer-p with num_classes=4, pyramid=multiscale" in message
    assert "keys 99 missing (cnn1.0.weight, cnn1.1.weight, " in message
    assert "and 89 more)" in message
    assert "582 unexpected (common_backbone.patch_embed.0.weight, " in message
    assert "173 of another shape (common_backbone.network.0.0.layer_scale_2 is [32, 1, 1] for [64], " in message
    assert "it fits fastsegformer-e with num_classes=7, pyramid=pooling, cnn_branch=False: ask for that" in message


def test_another_number_of_classes_is_refused_with_the_right_one(state):
    with pytest.raises(CheckpointError, match=r"cnn_up.1.bias is \[4\] for \[5\].*it fits .* num_classes=4,"):
        load_network("fastsegformer-e", num_classes=5, checkpoint=saved(state))


def test_a_single_missing_key_is_refused(state):
    weights = {key: tensor for key, tensor in state.items() if key != "cnn1.1.running_mean"}
    with pytest.raises(CheckpointError, match=r"1 missing \(cnn1.1.running_mean\); expected the network's 818"):
        load_network("fastsegformer-e", num_classes=4, checkpoint=saved(weights))


def test_weights_of_another_number_of_classes_below_a_prefix_are_refused_with_the_network_that_they_fit(state):
    data = saved({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}})
    with pytest.raises(CheckpointError, match=r"keys under 'state_dict.module' .*it fits fastsegformer-e with num_cl"):
        load_network("fastsegformer-p", num_classes=4, checkpoint=data)


def test_weights_of_no_known_network_are_refused_with_what_to_give():
    with pytest.raises(CheckpointError, match=r"unexpected \(conv.weight, conv.bias\).*give the name, the options"):
        load_network(
            "fastsegformer-e",
            num_classes=4,
            checkpoint=saved({"conv.weight": torch.ones(1), "conv.bias": torch.ones(1)}),
        )


def test_a_checkpoint_fills_an_imported_network_too(their_module):
    weights = {"weight": torch.ones(2, 3, 1, 1), "bias": torch.zeros(2)}
    assert_same(
        load_network(f"{their_module}:make_fixed", num_classes=2, checkpoint=saved(weights)).state_dict(), weights
    )
