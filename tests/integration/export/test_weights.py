"""The weights of a network are found wherever they are in a checkpoint; several sets are asked about, never guessed.

Every kind is what a trainer writes: the file holds what it holds, and the reference is torch's own load_state_dict.
"""

import collections
import copy
import io
import re

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from fsf_core.errors import CheckpointError
from fsf_core.export.build import build_network
from fsf_core.export.weights import WeightOptions

TINY = "tests.integration.export.test_weights:Tiny"


class Tiny(nn.Module):
    """Parameters, buffers, a batch norm with its counter, and depth."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.block = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


class Plain(nn.Module):
    """Parameters alone."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)


class Wrapped(nn.Module):
    """A wrapper with constants of its own, as messages ask for."""

    def __init__(self):
        super().__init__()
        self.net = Tiny()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]))


class WrappedTwice(nn.Module):
    """A wrapper in a wrapper."""

    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleList([Tiny()])


class Normalised(WrappedTwice):
    """The same with a batch norm without parameters, whose statistics training made."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)


class Parallel(nn.Module):
    """A network that keeps a wrapper of torch inside."""

    def __init__(self):
        super().__init__()
        self.net = nn.DataParallel(Tiny())


class Tied(nn.Module):
    """One parameter by two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.second = nn.Conv2d(3, 3, 1)
        self.second.weight = self.first.weight


class Frozen(nn.Module):
    """A batch norm without a counter, as torchvision's FrozenBatchNorm2d."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(4))


class Stateful(nn.Module):
    """A module with extra state."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.scale = {}

    def get_extra_state(self):
        return self.scale

    def set_extra_state(self, state):
        self.scale = state


class Renaming(nn.Module):
    """A network that loads its own older checkpoints by a hook."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.register_load_state_dict_pre_hook(self._rename)

    @staticmethod
    def _rename(_module, state, prefix, *_):
        for name in ("weight", "bias"):
            if f"{prefix}old.{name}" in state:
                state[f"{prefix}conv.{name}"] = state.pop(f"{prefix}old.{name}")


class Lenient(Plain):
    """A network that drops what has another shape, as segmentation_models.pytorch does without strictness."""

    def load_state_dict(self, state_dict, **options):
        own = self.state_dict()
        for key in [key for key in state_dict if key in own and own[key].shape != state_dict[key].shape]:
            del state_dict[key]
        return super().load_state_dict(state_dict, **options)


def named(kind):
    return (
        f"{__name__}:{kind.__name__}" if __name__.startswith("tests.") else f"{TINY.rpartition(':')[0]}:{kind.__name__}"
    )


def trained(seed=1, kind=Tiny):
    """Return a network whose numbers are not the initial ones."""
    torch.manual_seed(seed)
    net = kind()
    with torch.no_grad():
        for value in [*net.parameters(), *net.buffers()]:
            if value.is_floating_point():
                value.uniform_(0.1, 1)
    return net.eval()


def weights(seed=1, kind=Tiny):
    return {key: copy.copy(value) for key, value in trained(seed, kind).state_dict().items()}


def prefixed(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def load(value, kind=Tiny, **options):
    """Return the network with the weights of a checkpoint, and the note about them."""
    data = value
    if not isinstance(value, bytes):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        data = buffer.getvalue()
    return build_network(named(kind), num_classes=2, checkpoint=data, weights=WeightOptions(**options), source="w.pth")


def assert_loaded(built, state, inner=""):
    own = built.network.state_dict()
    for key, tensor in state.items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(own[f"{inner}{key}"], tensor, rtol=0, atol=0)


def refusal(value, kind=Tiny, **options):
    with pytest.raises(CheckpointError) as caught:
        load(value, kind, **options)
    return str(caught.value)


# --- where the weights are


def test_exactly_the_networks_keys_need_no_word():
    built = load(weights())
    assert_loaded(built, weights())
    assert built.note == ""


@pytest.mark.parametrize(
    "prefix",
    [
        "model.",
        "net.",
        "module.",
        "_orig_mod.",
        "student.",
        "backbone.",
        "module._orig_mod.",
        "_orig_mod.module.model.",
    ],
)
@pytest.mark.parametrize("entry", ["", "state_dict", "model"])
def test_what_precedes_every_key_is_taken_off_and_named(prefix, entry):
    state = prefixed(prefix, weights())
    built = load({entry: state, "epoch": 3} if entry else state)
    assert_loaded(built, weights())
    assert f"'{entry + '.' if entry else ''}{prefix}' removed from its 9 keys" in built.note


@pytest.mark.parametrize(
    "entry", ["model_state", "network_weights", "net", "params", "weights", "student", "model_ema", "generator", "0"]
)
def test_the_weights_are_found_by_what_they_are_and_their_entry_is_named(entry):
    optimizer = torch.optim.Adam(trained().parameters()).state_dict()
    built = load({"epoch": 3, "optimizer": optimizer, entry: weights(), "best": np.float64(0.8)})
    assert_loaded(built, weights())
    assert built.note.startswith(f"weights of w.pth: {entry} was taken")


def test_weights_below_several_mappings_or_in_a_pair_are_found():
    assert_loaded(load({"checkpoint": {"ema": {"decay": 0.9, "updates": 4, "module": weights()}}}), weights())
    assert_loaded(load((weights(), {"lr": 0.1})), weights())


def test_parts_of_a_network_in_mappings_of_their_own_are_put_together():
    state = weights()
    parts = {
        part: {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        for part in ("stem", "block")
    }
    assert_loaded(load(parts), state)


def test_arrays_of_numpy_are_weights_too():
    assert_loaded(load({key: value.numpy() for key, value in weights().items()}), weights())


def test_what_is_beside_a_prefix_is_left_out_and_named():
    lost = {"criterion.pos_weight": torch.ones(4), "mean": torch.zeros(3), "metric.total": torch.zeros(1)}
    built = load({"state_dict": prefixed("model.", weights()) | lost, "epoch": 3})
    assert_loaded(built, weights())
    assert "left out: criterion.*, mean, metric.*" in built.note


@pytest.mark.parametrize("prefix", ["", "model.", "net."])
def test_a_networks_own_checkpoint_is_loaded_into_a_wrapper_around_it(prefix):
    built = load(prefixed(prefix, weights()), Wrapped)
    assert_loaded(built, weights(), "net.")
    assert built.network.mean.tolist() == pytest.approx([0.4, 0.5, 0.6])
    if prefix != "net.":
        assert "loaded into 'net' of the network" in built.note


def test_a_wrapper_in_a_wrapper_is_entered_but_statistics_outside_are_missed():
    assert_loaded(load(weights(), WrappedTwice), weights(), "inner.0.")
    assert "2 missing (norm.running_mean, norm.running_var)" in refusal(weights(), Normalised)


def test_a_wrappers_own_checkpoint_fills_its_constants():
    state = weights(kind=Wrapped)
    assert_loaded(load(state, Wrapped), state)


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_wrapper_around_a_part_of_the_network_is_taken_off_the_middle_of_its_keys(wrapper, prefix):
    state = {key.replace("block.", f"block.{wrapper}."): value for key, value in weights().items()}
    assert_loaded(load({"state_dict": prefixed(prefix, state)}), weights())


def test_a_wrapper_that_the_network_has_itself_stays_in_its_keys():
    state = weights(kind=Parallel)
    assert "net.module.stem.weight" in state
    assert_loaded(load(state, Parallel), state)
    assert_loaded(load(weights(), Parallel), weights(), "net.module.")


# --- several sets of weights

RAW, AVERAGED = weights(1), weights(2)
MODULE = prefixed("module.", AVERAGED)
PARAMETERS = {name: AVERAGED[name] for name, _ in Tiny().named_parameters()}
PAIRS = {
    "model beside model_ema": ({"model": RAW, "model_ema": AVERAGED}, "model", "model_ema"),
    "timm": ({"state_dict": RAW, "state_dict_ema": AVERAGED}, "state_dict", "state_dict_ema"),
    "YOLOX, RT-DETR": (
        {"model": RAW, "ema": {"decay": 0.9, "updates": 3, "module": AVERAGED}},
        "model",
        "ema.module",
    ),
    "parallel": ({"model": RAW, "ema": MODULE | {"n_averaged": torch.tensor(3)}}, "model", "ema.module"),
    "student and teacher": ({"student": RAW, "teacher": AVERAGED}, "student", "teacher"),
    "prefixes in one mapping": (
        {"state_dict": prefixed("model.", RAW) | prefixed("ema.model.", AVERAGED)},
        "state_dict.model",
        "state_dict.ema.model",
    ),
    "a callback of Lightning": (
        {"state_dict": prefixed("model.", RAW), "callbacks": {"EMA": {"ema_state_dict": prefixed("model.", AVERAGED)}}},
        "state_dict.model",
        "callbacks.EMA.ema_state_dict.model",
    ),
    "Lightning's WeightAveraging": (
        {"current_model_state": prefixed("model.", RAW), "state_dict": prefixed("model.", AVERAGED)},
        "current_model_state.model",
        "state_dict.model",
    ),
    "mmengine": (
        {"state_dict": AVERAGED, "ema_state_dict": prefixed("module.", RAW) | {"steps": torch.tensor(4)}},
        "ema_state_dict.module",
        "state_dict",
    ),
    "beside the keys": (RAW | {"ema": AVERAGED}, ".", "ema"),
    "shadow of parameters": ({"model": RAW, "ema": {"shadow": PARAMETERS}}, "model", "ema.shadow"),
    "a list of parameters": (
        {"model": RAW, "ema": {"shadow_params": list(PARAMETERS.values()), "num_updates": 3}},
        "model",
        "ema.shadow_params",
    ),
    "CompVis": (
        prefixed("model.", RAW) | {f"model_ema.{key.replace('.', '')}": value for key, value in PARAMETERS.items()},
        "model",
        "model_ema",
    ),
    "mmcv": (
        RAW | {f"ema_{key.replace('.', '_')}": value for key, value in PARAMETERS.items()},
        ".",
        "ema_",
    ),
}


PARAMETERS_ALONE = ["shadow of parameters", "a list of parameters", "CompVis", "mmcv"]


@pytest.mark.parametrize("form", PAIRS)
def test_several_sets_that_differ_are_a_question_and_each_can_be_chosen(form):
    """Averaged weights are those that were validated; which set is which only the user knows."""
    file, raw, averaged = PAIRS[form]
    message = refusal(file)
    assert f"--weights-key {raw}" in message
    assert f"--weights-key {averaged}" in message
    assert_loaded(load(file, key=raw), RAW)
    assert_loaded(load(file, key=averaged), PARAMETERS if form in PARAMETERS_ALONE else AVERAGED)


@pytest.mark.parametrize("form", PARAMETERS_ALONE)
def test_averaged_parameters_without_buffers_take_those_of_the_other_set(form):
    """Their trainers evaluate so: averaged parameters are copied into the model, whose buffers stay."""
    file, raw, averaged = PAIRS[form]
    built = load(file, key=averaged)
    assert_loaded(built, PARAMETERS | {key: RAW[key] for key in RAW.keys() - PARAMETERS.keys()})
    assert f"it has no buffers, which are those of {raw}" in built.note


@pytest.mark.parametrize(
    ("form", "where"),
    [
        ("mmengine", "state_dict, and the raw ones in ema_state_dict"),
        ("Lightning's WeightAveraging", "state_dict, and the raw ones in current_model_state"),
        ("mmcv", "the plain keys, and the raw ones in ema_"),
    ],
)
def test_trainers_that_exchange_the_sets_when_they_save_are_named(form, where):
    assert f"keeps the averaged weights in {where}" in refusal(PAIRS[form][0])


def test_a_list_of_parameters_of_a_network_without_buffers_is_a_set_too():
    raw, averaged = weights(1, Plain), weights(2, Plain)
    file = {"model": raw, "ema": {"shadow_params": list(averaged.values())}}
    assert "--weights-key ema.shadow_params" in refusal(file, Plain)
    assert_loaded(load(file, Plain, key="ema.shadow_params"), averaged)


def test_equal_sets_are_no_question():
    built = load(
        {"model": RAW, "ema": prefixed("module.", RAW), "optimizer": {"state": {0: {"exp_avg": RAW["stem.weight"]}}}}
    )
    assert_loaded(built, RAW)
    assert "the file also holds ema.module: choose with --weights-key" in built.note


def test_a_set_of_another_shape_is_no_question():
    other = {key: torch.zeros(7, *value.shape[1:]) if value.ndim else value for key, value in RAW.items()}
    assert_loaded(load({"teacher": other, "student": RAW}), RAW)


def test_a_key_that_is_not_there_is_refused_with_those_that_are():
    message = refusal({"model": RAW, "ema": AVERAGED}, key="emma")
    assert "--weights-key is 'emma', did you mean ema?, and w.pth holds no weights of the network under" in message
    assert "expected one of model, ema; correct it" in message


# --- keys that do not matter


def test_counters_of_batch_norms_may_be_missing_or_left_over():
    """torch itself adds a missing one to files of old versions; evaluation reads none."""
    state = {key: value for key, value in weights().items() if "num_batches" not in key}
    assert_loaded(load(state), state)
    frozen = weights(kind=Frozen)
    assert_loaded(load(frozen | {"num_batches_tracked": torch.tensor(3)}, Frozen), frozen)


def test_tied_weights_may_be_written_once():
    net = trained(kind=Tied)
    file = io.BytesIO(safetensors.torch._tobytes if False else b"")
    state = {key: value for key, value in net.state_dict().items() if key != "second.weight"}
    file.write(safetensors.torch.save(state))
    for value in (
        state,
        safetensors.torch.save(state),
        {k: v for k, v in net.state_dict().items() if k != "first.weight"},
    ):
        assert_loaded(load(value, Tied), net.state_dict())


def test_tied_weights_that_the_file_holds_twice_and_differently_are_refused():
    state = weights(kind=Tied)
    state["second.weight"] = state["second.weight"] + 1
    assert "ties together and the file holds with different numbers (second.weight)" in refusal(state, Tied)


def test_plain_values_beside_the_keys_are_left_out_and_named():
    built = load(weights() | {"epoch": 3, "arch": "tiny", "stem._extra_state": None})
    assert_loaded(built, weights())
    assert "left out: epoch, arch, stem.*" in built.note


def test_the_extra_state_of_a_module_is_loaded_where_the_module_has_one():
    state = weights(kind=Stateful) | {"_extra_state": {"factor": 2}}
    built = load(state, Stateful)
    assert built.network.scale == {"factor": 2}
    assert "1 missing (_extra_state)" in refusal({k: v for k, v in state.items() if k != "_extra_state"}, Stateful)


def test_a_network_that_renames_its_older_keys_does_so():
    state = weights(kind=Renaming)
    old = {key.replace("conv", "old"): value for key, value in state.items()}
    assert_loaded(load(old, Renaming), state)


def test_a_network_that_drops_weights_of_another_shape_does_not_keep_its_own():
    state = weights(kind=Lenient)
    message = refusal(state | {"head.weight": torch.ones(3, 4, 1, 1), "head.bias": torch.ones(3)}, Lenient)
    assert "2 of another shape (head.weight is [3, 4, 1, 1] for [2, 4, 1, 1], head.bias is [3] for [2])" in message


def test_a_number_of_one_axis_is_loaded_into_one_of_none_as_torch_does():
    state = weights()
    state["block.0.num_batches_tracked"] = torch.tensor([5])
    assert_loaded(load(state), state)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_an_auxiliary_head_is_refused_with_the_option_that_allows_it(prefix):
    file = {"state_dict": prefixed(prefix, weights() | {"aux.0.weight": torch.ones(1), "aux.0.bias": torch.ones(1)})}
    message = refusal(file)
    assert "2 unexpected (aux.0.weight, aux.0.bias)" in message
    pattern = re.search("--allow-unexpected '(.+)'", message)[1]
    built = load(file, allow_unexpected=(pattern,))
    assert_loaded(built, weights())
    assert "aux.*" in built.note or f"{prefix}*" in built.note


def test_a_missing_part_is_refused_with_the_option_that_keeps_the_networks_own():
    state = {key: value for key, value in weights().items() if not key.startswith("stem.")}
    message = refusal(state)
    assert "2 missing (stem.weight, stem.bias)" in message
    built = load(state, allow_missing=(re.search("--allow-missing '(.+)'", message)[1],))
    assert_loaded(built, state)


def test_weights_of_another_network_are_not_advised_to_be_allowed():
    message = refusal({"a.weight": torch.ones(1), "b.weight": torch.ones(1)})
    assert "unexpected (a.weight, b.weight)" in message
    assert "--allow" not in message


# --- numbers


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(poison):
    state = weights()
    state["stem.bias"][1] = poison
    assert "NaN or infinity in 1 of 9 tensors (stem.bias)" in refusal(state)


def test_weights_that_are_not_finite_in_another_set_are_none_of_the_networks():
    broken = {key: value * float("nan") if value.is_floating_point() else value for key, value in weights().items()}
    assert_loaded(load({"model": broken, "ema": AVERAGED}, key="ema"), AVERAGED)


def test_weights_that_float32_cannot_hold_are_not_finite():
    assert "NaN or infinity" in refusal(weights() | {"stem.bias": torch.tensor([1e300, 0, 0, 0], dtype=torch.float64)})


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(4, dtype=torch.int8), "stem.bias: torch.int8"),
        (torch.zeros(4, dtype=torch.complex64), "stem.bias: torch.complex64"),
        (torch.zeros(4).to_sparse(), "stem.bias: torch.float32 sparse_coo"),
        (lambda: torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8), "stem.bias: torch.qint8 strided"),
        (torch.zeros(4, device="meta"), "stem.bias: no data"),
    ],
)
def test_numbers_that_are_no_plain_weights_are_refused(tensor, words):
    assert words in refusal(weights() | {"stem.bias": tensor() if callable(tensor) else tensor})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_arrive_as_float32(dtype):
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in weights().items()}
    assert_loaded(load(state), {key: value.float() for key, value in state.items() if value.is_floating_point()})


# --- forms of mappings


def test_an_ordered_dict_and_deep_or_endless_mappings_are_walked():
    endless = {"weights": collections.OrderedDict(weights())}
    endless["self"] = endless
    assert_loaded(load(endless), weights())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.ones(3), "holds a Tensor; expected a mapping"),
        ({}, "holds an empty mapping"),
        ({"state_dict": {}}, r"holds no tensors \(state_dict\)"),
        ({"epoch": 3, "lr": 0.1}, r"holds no tensors \(epoch, lr\)"),
        ([1, 2], "holds a list; expected a mapping"),
    ],
)
def test_a_checkpoint_without_tensors_is_refused_by_what_it_holds(value, words):
    assert re.search(words, refusal(value))
