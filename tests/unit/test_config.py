"""Every option of a job exists once, as flag, YAML key and environment variable, and is checked before the job runs."""

import ast
import json
import math
import re
from pathlib import Path

import pytest
from cyclopts import App
from cyclopts.config import Env, Yaml

from fsf_core import config as configs
from fsf_core.config import ExportConfig, InspectConfig, ScoreConfig
from fsf_core.errors import ConfigError
from fsf_core.media.video import EVERY_FRAME, Sampling
from fsf_core.options import SCHEMES

JOB = {"manifest": "photos", "out": "runs/today"}
GIVEN = ["--manifest", "photos", "--out", "runs/today", "--bundle", "bundles/oranges"]
COUNTS = ["batch_frames", "threads", "segment_frames", "part_units", "max_bytes", "max_pixels", "early_items"]
AMOUNTS = [*COUNTS, "max_frames", "item_seconds", "item_memory_mb"]
SHARES = ["max_failed_share", "early_failed_share"]


def parsed(words, kind=ScoreConfig, *, sources=()):
    """The config that a command line gives, as the jobs read it."""
    app = App(config=list(sources), result_action="return_value")

    @app.default
    def job(config: kind | None = None):
        return config or kind()

    return app(words, exit_on_error=False, print_error=False)


def refused(**options):
    with pytest.raises(ConfigError) as caught:
        ScoreConfig(**JOB, **options)
    assert re.search(r"expected .+", str(caught.value)), str(caught.value)
    return str(caught.value)


def flag(name):
    return f"--{name.replace('_', '-')}"


def test_every_option_of_every_job_is_explained_in_one_line_of_one_or_two_sentences():
    files = Path(configs.__file__).parent.glob("*.py")
    jobs = [node for file in files for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)]
    assert {job.name for job in jobs} >= {"ModelOptions", "ExportConfig", "ScoreConfig", "InspectConfig"}

    for job in jobs:
        for field, following in zip(job.body, [*job.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                explained = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                assert explained, f"{job.name}.{field.target.id}"
                text = following.value.value
                assert "\n" not in text, f"{job.name}.{field.target.id}: help shows every line apart"
                assert len(re.findall(r"[.] [A-Z]", text)) <= 1, f"{job.name}.{field.target.id}"


def test_required_options_are_enough():
    config = parsed(["--manifest", "photos", "--out", "runs/today", "--bundle", "bundles/oranges"])

    assert config == ScoreConfig(**JOB, bundle="bundles/oranges")
    assert config.schemes == SCHEMES
    assert config.provider == "auto"
    assert config.max_failed_share == 1.0


def test_names_are_separated_by_commas_or_by_repeating_the_flag():
    model = ["--manifest", "m", "--out", "o", "--checkpoint", "c.pth", "--net", "fastsegformer-p"]

    assert parsed([*model, "--classes", "a, b,c"]).classes == ("a", "b", "c")
    assert parsed([*model, "--classes", "a", "--classes", "b,c"]).classes == ("a", "b", "c")
    assert parsed([*model, "--classes", "a", "--classes", "b, c"]).classes == ("a", "b, c")
    assert parsed([*MODEL, "--palette", "ff0000,00ff00"], ExportConfig).palette == ("ff0000", "00ff00")


def test_column_types_are_separated_by_commas_outside_of_brackets():
    words = ["--bundle", "b", "--manifest", "m", "--out", "o"]
    types = ("plot=int64", "price=decimal128(10, 2)", "taken=timestamp[us, tz=UTC]", "day=date32[day]")

    assert parsed([*words, "--column-types", ",".join(types)], ScoreConfig).column_types == types
    repeated = [word for text in types for word in ("--column-types", text)]
    assert parsed([*words, *repeated], ScoreConfig).column_types == types
    assert parsed(words, ScoreConfig).column_types == ()


@pytest.mark.parametrize("names", ["a,,b", "a,", "", " , "])
def test_an_empty_name_is_refused(names):
    """Every class after it would have another id."""
    with pytest.raises(ConfigError, match="empty name") as caught:
        parsed(["--out", "o", "--classes", names], ExportConfig)
    assert "; " in str(caught.value)


def test_flags_win_over_the_environment_and_the_environment_over_yaml(tmp_path, monkeypatch):
    file = tmp_path / "job.yaml"
    file.write_text("manifest: photos\nout: runs/yaml\nbundle: b\nschemes: [s3, file]\nmax_failed_share: 0.1\n")
    monkeypatch.setenv("FSF_OUT", "runs/environment")
    monkeypatch.setenv("FSF_THREADS", "3")
    sources = [Env("FSF_", command=False), Yaml(file)]

    config = parsed(["--max-failed-share", "0.2"], sources=sources)

    assert config == ScoreConfig(
        manifest="photos", out="runs/environment", bundle="b", schemes=("s3", "file"), max_failed_share=0.2, threads=3
    )


MODEL = ["--out", "o", "--net", "fastsegformer-p", "--checkpoint", "c.pth", "--classes", "a,b"]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], {}),
        (["--net-option", "pyramid=pooling", "--net-option", "depth=2"], {"pyramid": "pooling", "depth": "2"}),
        (["--pyramid", "pooling", "--no-cnn-branch"], {"pyramid": "pooling", "cnn_branch": "False"}),
        (["--net-option", "kind=a=b"], {"kind": "a=b"}),
    ],
)
def test_options_of_the_network_come_from_their_flags_and_from_net_option(words, options):
    assert parsed([*MODEL, *words], ExportConfig).net_options() == options


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--net-option", "pooling"], "--net-option has 'pooling', expected key=value"),
        (["--net-option", "=pooling"], "--net-option has 'pooling', expected key=value"),
        (["--net-option", "pyramid="], "--net-option has 'pyramid', expected key=value"),
        (["--net-option", "pyramid=a", "--pyramid", "pooling"], "'pyramid' is given twice"),
        (["--net-option", "depth=1", "--net-option", "depth=2"], "'depth' is given twice"),
    ],
)
def test_an_option_of_the_network_without_one_value_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        parsed([*MODEL, *words], ExportConfig)


def test_a_config_cannot_be_changed_afterwards():
    with pytest.raises(AttributeError):
        ScoreConfig(**JOB, bundle="b").out = "elsewhere"


def test_the_model_is_given_once():
    assert "neither --bundle nor --checkpoint" in refused()
    assert "both --bundle and --checkpoint" in refused(bundle="b", checkpoint="c", net="n", classes=("a",))
    assert "found --net and --classes beside --bundle" in refused(bundle="b", net="n", classes=("a",))
    assert "found network options beside --bundle" in refused(bundle="b", pyramid="pooling")
    assert "found --profile beside --bundle" in refused(bundle="b", profile="fastsegformer")
    assert "found --channel-order and --mean beside --bundle" in refused(bundle="b", mean=(0.5,), channel_order="bgr")


def test_one_class_name_is_enough_for_a_model_that_may_have_one_channel():
    assert ExportConfig(onnx="m.onnx", classes=("foreground",), out="b").classes == ("foreground",)
    with pytest.raises(ConfigError, match="expected at least two names"):
        ExportConfig(net="fastsegformer-p", checkpoint="c", classes=("foreground",), out="b")


@pytest.mark.parametrize("given", [{}, {"net": "n"}, {"classes": ("a",)}])
def test_a_checkpoint_needs_its_net_and_its_classes(given):
    assert "--checkpoint without --net or --classes" in refused(checkpoint="c", **given)


@pytest.mark.parametrize("given", [{"net": "n"}, {"classes": ("a",)}])
def test_a_bundle_knows_its_net_and_its_classes(given):
    assert "leave them out" in refused(bundle="b", **given)


@pytest.mark.parametrize("name", AMOUNTS)
@pytest.mark.parametrize("value", [0, -1])
def test_amounts_below_one_are_refused_by_the_name_of_their_flag(name, value):
    assert f"{flag(name)} is {value}, expected at least 1" in refused(bundle="b", **{name: value})


@pytest.mark.parametrize("name", ["threads", "limit", "compact_mb", "item_seconds", "max_bytes"])
def test_numbers_that_no_library_takes_are_refused(name):
    assert f"{flag(name)} is 1e+30, expected at most" in refused(bundle="b", **{name: 10**30})
    assert f"{flag(name)} is inf, expected at most" in refused(bundle="b", **{name: math.inf})


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], None), (["--actors", "8"], (8, 8)), (["--actors", "4-32"], (4, 32)), (["--actors", "3-3"], (3, 3))],
)
def test_actors_are_a_number_or_a_range(words, expected):
    assert configs.parse_actors(parsed([*GIVEN, *words]).actors) == expected
    assert configs.parse_actors(7) == (7, 7), "as Python passes it"


@pytest.mark.parametrize(
    "value", ["", "x", "4-", "-4", "4-32-64", "2.5", "4 - 32", "1e3", "0", "0-4", "8-4", 0, -1, 2.5]
)
def test_other_numbers_of_actors_are_refused(value):
    assert f"--actors is {value!r}, expected " in refused(bundle="b", actors=value)


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_a_time_to_wait_is_a_number_of_seconds(value):
    assert "--wait-s is " in refused(bundle="b", wait_s=value)
    assert ScoreConfig(**JOB, bundle="b", wait_s=0.0).wait_s == 0.0


@pytest.mark.parametrize("name", AMOUNTS)
def test_amounts_of_one_are_accepted(name):
    assert getattr(ScoreConfig(**JOB, bundle="b", **{name: 1}), name) == 1


def test_a_time_that_is_no_number_is_refused():
    assert "--item-seconds is nan" in refused(bundle="b", item_seconds=float("nan"))


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), 50])
def test_shares_are_from_0_to_1(name, value):
    assert f"{flag(name)} is {value}, expected 0 to 1" in refused(bundle="b", **{name: value})


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_both_ends_of_a_share_are_allowed(name, value):
    assert getattr(ScoreConfig(**JOB, bundle="b", **{name: value}), name) == value


def test_inspect_needs_no_options():
    assert parsed([], InspectConfig) == InspectConfig()
    assert parsed(["--frame", "7", "--clear-background"], InspectConfig) == InspectConfig(
        frame=7, clear_background=True
    )


@pytest.mark.parametrize(("text", "expected"), [(None, None), ("1/1", (1, 1)), ("2/8", (2, 8))])
def test_a_shard_is_a_number_and_a_count(text, expected):
    assert configs.parse_shard(text) == expected


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "1", "a/b", "-1/2", "1/2/3"])
def test_a_malformed_shard_is_refused(text):
    with pytest.raises(ConfigError, match="expected i/n"):
        configs.parse_shard(text)


def test_options_that_choose_frames_make_a_sampling():
    config = parsed([*GIVEN, "--fps", "2.5", "--start-s", "3", "--end-s", "9"])

    assert config.sampling() == Sampling(fps=2.5, start_s=3, end_s=9)
    assert parsed(GIVEN).sampling() == EVERY_FRAME


@pytest.mark.parametrize(
    "wrong",
    [{"every_nth": 0}, {"fps": 0.0}, {"start_s": 5.0, "end_s": 5.0}, {"every_nth": 2, "keyframes_only": True}],
)
def test_an_invalid_sampling_is_refused_with_its_options(wrong):
    with pytest.raises(ConfigError, match=r"correct one of --every-nth, --fps, --start-s, --end-s, --keyframes-only"):
        ScoreConfig(**JOB, bundle="bundles/oranges", **wrong)


def test_gates_come_from_flags_a_yaml_list_or_one_variable_each_as_it_is(tmp_path, monkeypatch):
    texts = ('iou."wind, scarring" < 0.7', "failed_share > 0.01 and frames > 3")
    (tmp_path / "job.yaml").write_text(f"fail_if: {json.dumps(texts)}\n")
    flags = [word for text in texts for word in ("--fail-if", text)]
    assert parsed([*GIVEN, *flags]).fail_if == texts
    assert parsed(GIVEN, sources=[Yaml(tmp_path / "job.yaml")]).fail_if == texts
    monkeypatch.setenv("FSF_FAIL_IF", texts[1])
    assert parsed(GIVEN, sources=[Env("FSF_", command=False)]).fail_if == texts[1:]
    assert parsed(GIVEN).fail_if == ()


def test_a_gate_with_an_error_is_refused_with_the_options():
    with pytest.raises(ConfigError, match="has '<' at character 7") as caught:
        ScoreConfig(**JOB, bundle="b", fail_if=("frames > 3", "miou < < 3"))
    assert caught.value.__notes__ == ["  miou < < 3\n         ^"]


@pytest.mark.parametrize("price", [-1.0, math.nan, math.inf])
def test_a_price_is_a_number_from_0_on(price):
    assert "--price-hour" in refused(bundle="b", price_hour=price)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"gpus_per_actor": 2.0}, "--gpus-per-actor is 2, expected 0.05 to 1: .* for several cards pass --actors"),
        ({"gpus_per_actor": 0.04}, "--gpus-per-actor is 0.04, expected 0.05 to 1"),
        ({"gpus_per_actor": math.nan}, "--gpus-per-actor is nan, expected 0.05 to 1"),
        ({"precision": "int8", "provider": "cuda"}, "int8 beside --provider cuda, expected --provider cpu.* fp16"),
        ({"gpus_per_actor": 0.5, "provider": "cpu"}, "beside --provider cpu, expected a GPU to share; leave one"),
        ({"engine_cache": "/e"}, "--engine-cache is /e beside --provider auto, expected --provider tensorrt"),
        ({"engine_cache": "s3://b/e", "provider": "tensorrt"}, "s3://b/e, expected a folder on each node; give a path"),
    ],
)
def test_options_of_gpus_are_refused_where_they_mean_nothing(options, found):
    assert re.search(found, refused(bundle="b", **options))
    for kept in ({"gpus_per_actor": 0.5}, {"gpus_per_actor": 1.0, "provider": "cpu"}):
        ScoreConfig(**JOB, bundle="b", **kept)
    ScoreConfig(**JOB, bundle="b", engine_cache="/e", provider="tensorrt", gpus_per_actor=0.05)
