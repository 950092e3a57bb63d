"""Options from flags, the environment and YAML; a name that no option has is the first thing that is reported."""

import pytest

from fsf_core.cli import app, export, score

JOB = ["--manifest", "photos", "--out", "runs/today"]
NETWORK = ["--net", "fastsegformer-p", "--checkpoint", "c.pth", "--classes", "a,b", "--out", "o"]


@pytest.fixture
def received(monkeypatch):
    """The configs that reach the jobs, which are not run."""
    configs = []
    for command in (score, export):
        monkeypatch.setattr(command, "run", lambda config: configs.append(config) or 0)
    return configs


@pytest.fixture
def yaml_file(tmp_path):
    def write(text):
        (tmp_path / "job.yaml").write_text(text)
        return str(tmp_path / "job.yaml")

    return write


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["score", "--bundel", "b", "--manifest", "m"], "unknown option --bundel, did you mean --bundle?"),
        (["score", "--bundel=b", *JOB], "unknown option --bundel, did you mean --bundle?"),
        (["score", "--bundle", "b", "--manfest", "m"], "unknown option --manfest, did you mean --manifest?"),
        (["score", "--bundle", "b", "--max_faild_share", "1"], "--max_faild_share, did you mean --max-failed-share?"),
        (["score", "-x", *JOB], "unknown option -x. See fsf score --help"),
        (["export", "--ot", "b"], "unknown option --ot, did you mean --out?"),
        (["bench", "--bundel", "b"], "unknown option --bundel, did you mean --bundle?"),
        (["inspect", "--pgn", "x.png"], "unknown option --pgn, did you mean --png?"),
        (["render", "--stile", "mask"], "unknown option --stile, did you mean --style?"),
        (["verify", "--manifest", "m"], "unknown option --manifest. See fsf verify --help"),
        (["demo", "--steps", "3"], "unknown option --steps. See fsf demo --help"),
    ],
)
def test_an_unknown_option_is_reported_before_anything_else_with_its_nearest_neighbour(words, message, capsys):
    assert app.main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--limit", "3"], ["--limit=3"], ["--sample-seed", "-3"], ["--no-legend"], ["--max_pixels", "9"]]
)
def test_known_options_in_every_spelling_reach_the_job(words, received):
    assert app.main(["score", *JOB, "--bundle", "b", *words]) == 0
    assert len(received) == 1


def test_an_unknown_key_of_the_yaml_file_is_reported_with_its_nearest_neighbour(yaml_file, capsys):
    assert app.main(["score", "--config", yaml_file("bundel: b\nmanifest: m\n")]) == 2
    message = capsys.readouterr().err
    assert "unknown option bundel in " in message
    assert "job.yaml, did you mean bundle?" in message


def test_an_unknown_variable_of_the_command_is_reported_with_its_nearest_neighbour(monkeypatch, capsys):
    monkeypatch.setenv("FSF_SCORE_BUNDEL", "b")
    assert app.main(["score", *JOB]) == 2
    assert (
        "unknown variable FSF_SCORE_BUNDEL in the environment, did you mean FSF_SCORE_BUNDLE?"
        in capsys.readouterr().err
    )


def test_negated_flags_are_no_variables_and_no_keys(monkeypatch, yaml_file, capsys):
    """cyclopts read FSF_SCORE_NO_OVERLAYS=1 and `no_overlays: true` as --overlays."""
    assert app.main(["score", *JOB, "--bundle", "b", "--config", yaml_file("no_overlays: true")]) == 2
    assert "did you mean overlays?" in capsys.readouterr().err
    monkeypatch.setenv("FSF_SCORE_NO_OVERLAYS", "1")
    assert app.main(["score", *JOB, "--bundle", "b"]) == 2
    assert "did you mean FSF_SCORE_OVERLAYS?" in capsys.readouterr().err


def test_variables_of_other_commands_and_programs_are_left_alone(monkeypatch, received):
    monkeypatch.setenv("FSF_EXPORT_NOTHING", "b")
    monkeypatch.setenv("FSF_PHOTOS", "b")
    assert app.main(["score", *JOB, "--bundle", "b"]) == 0
    assert received[0].bundle == "b"


@pytest.mark.parametrize("spelling", ["mask-size", "mask_size"])
def test_yaml_may_follow_config_or_an_equals_sign_and_keys_have_dashes_or_underscores(spelling, yaml_file, received):
    file = yaml_file(f"bundle: b\nmanifest: m\nout: o\n{spelling}: model\n")
    for words in (["score", "--config", file], ["score", f"--config={file}"], ["--config", file, "score"]):
        assert app.main(words) == 0
    assert {config.mask_size for config in received} == {"model"}


def test_flags_win_over_the_environment_and_the_environment_over_yaml(yaml_file, received, monkeypatch):
    monkeypatch.setenv("FSF_SCORE_OUT", "environment")
    monkeypatch.setenv("FSF_SCORE_LIMIT", "7")
    file = yaml_file("bundle: b\nmanifest: yaml\nout: yaml\nlimit: 5\n")
    assert app.main(["score", "--config", file, "--limit", "9"]) == 0
    assert (received[0].manifest, received[0].out, received[0].limit) == ("yaml", "environment", 9)


def test_an_option_with_the_name_of_a_command_is_read_from_yaml(yaml_file, received):
    """`render: mask` was dropped without a word: cyclopts skips keys that are commands."""
    assert app.main(["score", "--config", yaml_file("bundle: b\nmanifest: m\nout: o\nrender: mask\n")]) == 0
    assert received[0].render == "mask"


@pytest.mark.parametrize(
    "text", ["net_option: {pyramid: pooling, cnn_branch: false}", "net-option: [pyramid=pooling, cnn_branch=false]"]
)
def test_options_of_the_network_are_a_mapping_or_a_list_in_yaml(text, yaml_file, received):
    assert app.main(["export", *NETWORK, "--config", yaml_file(text)]) == 0
    assert received[0].net_options() == {"pyramid": "pooling", "cnn_branch": "false"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config"], "--config names '', expected a YAML file; check the path"),
        (["--config", "gone.yaml"], "--config names 'gone.yaml', expected a YAML file; check the path"),
        (["--config=gone.yaml"], "--config names 'gone.yaml', expected a YAML file; check the path"),
        (["--config", "a", "--config", "b"], "--config is given 2 times, expected one YAML file"),
    ],
)
def test_a_config_that_is_no_file_is_refused(words, message, capsys):
    assert app.main(["score", *JOB, *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "a: [1", ""])
def test_a_config_that_is_no_mapping_is_refused(text, yaml_file, capsys):
    assert app.main(["score", *JOB, "--config", yaml_file(text)]) == 2
    assert "expected a" in capsys.readouterr().err


def test_help_and_version_are_no_unknown_options(capsys):
    for words in (["--help"], ["-h"], ["--version"], ["score", "--help"], ["score", "-h"], ["inspect", "--help"]):
        assert app.main(words) == 0, words
    assert "unknown" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: !!python/tuple [a, b]", "could not determine a constructor for the tag"),
        ("limit: !!python/object/apply:os.system ['x']", "could not determine a constructor"),
        ("? [a]\n: b", "unhashable key"),
        ("limit: 1\n---\nlimit: 2", "single document"),
        ("classes: " + "[" * 3000 + "]" * 3000, "is nested too deeply"),
        ("classes: &a [*a]", "classes in {file} holds a list, expected text, a number"),
        ("classes: [&a [x, x], &b [*a, *a], [*b, *b]]", "classes in {file} holds a list"),
        ("bundle: {a: {b: c}}", "bundle in {file} holds a list"),
        ("classes: !!set {a, b}", "holds a set, expected text"),
        ("bundle: !!binary aGVsbG8=", "bundle in {file} holds a bytes"),
        ('out: "a\\0b"', "out in {file} holds a str"),
        ("limit: " + "9" * 5000, "Exceeds the limit (4300 digits)"),
        ("limit: many", 'unable to convert "many" into int'),
        ("limit: true", "unable to convert"),
        ("out: [a, b]", "unable to convert"),
        ("out: caf\udce9", "can't decode byte 0xe9"),
        ("\udcff\udcfe", "can't decode byte 0xff"),
        ("", "holds a NoneType"),
    ],
)
def test_a_yaml_file_that_holds_something_else_is_refused_in_one_line(text, message, tmp_path, received, capsys):
    file = tmp_path / "job.yaml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    given = "" if text.startswith("out") else "--out=o"
    words = ["score", "--config", str(file), "--manifest", "m", *([given] if given else [])]
    assert app.main(words if text.startswith("bundle") else [*words, "--bundle", "b"]) == 2
    printed = capsys.readouterr().err
    assert message.replace("{file}", str(file)) in printed
    assert len(printed.splitlines()) == 1
    assert received == []


def test_values_that_yaml_reads_as_dates_are_text(yaml_file, received):
    file = yaml_file("out: 2026-11-27\nbundle: b\nmanifest: m\n")
    assert app.main(["score", "--config", file]) == 0
    assert received[0].out == "2026-11-27"


def test_long_values_are_cut_in_messages(received, capsys):
    assert app.main(["score", *JOB, "--bundle", "b", "--limit", "9" * 5000]) == 2
    assert len(capsys.readouterr().err) < 600


def test_a_fraction_where_a_whole_number_is_expected_is_refused_and_not_rounded(
    received, yaml_file, monkeypatch, capsys
):
    words = ["score", "--bundle", "b", *JOB]
    for given in ("4.5", "-0.5", "1.5e0"):
        assert app.main([*words, "--limit", given]) == 2
        assert f"--limit is {given}, expected a whole number" in capsys.readouterr().err
    assert app.main([*words, "--config", yaml_file("limit: 4.5")]) == 2
    assert app.main(["prune", "nights", "--keep-last", "0.5"]) == 2
    with monkeypatch.context() as patch:
        patch.setenv("FSF_SCORE_LIMIT", "4.5")
        assert app.main(words) == 2

    assert app.main([*words, "--limit", "4.0", "--sample", "0.5", "--actors", "2-4"]) == 0
    [config] = received
    assert (config.limit, config.sample, config.actors) == (4, 0.5, "2-4")
