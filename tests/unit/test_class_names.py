"""Class names with commas, wherever they are given: on the command line, in the environment, in files, in a model."""

import json

import pytest
from cyclopts import App

from fsf_core.class_names import names_in_metadata, parse_names
from fsf_core.cli.sources import configure
from fsf_core.config import ExportConfig
from fsf_core.errors import ConfigError

NAMES = ("wall", "chest of drawers, chest", "tree", '15" screen')
QUOTED = 'wall,"chest of drawers, chest",tree,"15"" screen"'


@pytest.mark.parametrize(
    "tokens",
    [
        [QUOTED],
        ['wall, "chest of drawers, chest" ,tree,"15"" screen"'],
        [json.dumps(NAMES)],
        ["wall", '"chest of drawers, chest"', "tree", '"15"" screen"'],
        ['wall,"chest of drawers, chest"', '["tree", "15\\" screen"]'],
    ],
)
def test_a_comma_may_be_part_of_a_name(tokens):
    assert parse_names(tokens) == NAMES


def test_a_comma_before_a_space_is_part_of_a_name_that_is_given_by_itself():
    assert parse_names(["wall", "chest of drawers, chest", "tree,sky"]) == (*NAMES[:3], "sky")


FILES = {
    "names.txt": 'wall\nchest of drawers, chest\ntree\n15" screen\n\n',
    "crlf.txt": '\ufeffwall\r\nchest of drawers, chest\r\ntree\r\n15" screen\r\n',
    "list.json": json.dumps(NAMES),
    "config.json": json.dumps({"id2label": {str(index): name for index, name in reversed([*enumerate(NAMES)])}}),
    "data.yaml": 'path: x\nnames:\n  0: wall\n  1: chest of drawers, chest\n  2: tree\n  3: 15" screen\n',
    "list.yml": "[wall, 'chest of drawers, chest', tree, '15\" screen']",
}


@pytest.mark.parametrize("name", FILES)
def test_names_are_read_from_a_file(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name].encode())
    assert parse_names([f"@{tmp_path / name}"]) == NAMES


def test_a_class_may_be_called_no(tmp_path):
    (tmp_path / "names.yaml").write_text("- yes\n- no\n- null\n- 3\n")
    assert parse_names([f"@{tmp_path / 'names.yaml'}"]) == ("yes", "no", "null", "3")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "a: 1", "holds no class names; expected one per line"),
        ("a.json", "{", "cannot be read"),
        ("a.json", '{"names": {"1": "a", "2": "b"}}', "holds no class names"),
        ("a.txt", "", "holds no class names"),
        ("a.txt", "a\n\nb", "empty name"),
        ("b.txt", None, "cannot be read: .*No such file"),
    ],
)
def test_a_file_without_names_is_refused(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=words):
        parse_names([f"@{tmp_path / name}"])


@pytest.mark.parametrize("token", ['a,"b, c', '["a", "b"', '{"a": 1}, "', "[[1]]"])
def test_a_form_that_is_not_closed_is_refused(token):
    with pytest.raises(ConfigError, match="--classes is "):
        parse_names([token])


@pytest.mark.parametrize(
    "document",
    [
        "classes: [wall, 'chest of drawers, chest', tree, '15\" screen']",
        "classes: {0: wall, 1: 'chest of drawers, chest', 2: tree, 3: '15\" screen'}",
        'classes:\n- wall\n- chest of drawers, chest\n- tree\n- 15" screen',
        f"classes: '{QUOTED}'",
    ],
)
def test_names_are_read_from_yaml_and_from_the_environment(tmp_path, monkeypatch, document):
    (tmp_path / "job.yaml").write_text(f"onnx: m.onnx\nout: o\n{document}\n")
    assert parsed(["export", "--config", str(tmp_path / "job.yaml")]).classes == NAMES
    monkeypatch.setenv("FSF_EXPORT_CLASSES", QUOTED)
    assert parsed(["export", "--onnx", "m.onnx", "--out", "o"]).classes == NAMES


def parsed(words):
    found = []
    app = App(result_action="return_value")

    def run(config: ExportConfig) -> None:
        found.append(config)

    app.command(run, name="export")
    words = configure(app, words)
    app(words, exit_on_error=False, print_error=False)
    return found[0]


@pytest.mark.parametrize(
    "entries",
    [
        {"names": "{0: 'wall', 1: 'chest of drawers, chest', 2: 'tree', 3: '15\" screen'}", "stride": "32"},
        {"names": repr(list(NAMES))},
        {"class_names": json.dumps(NAMES)},
        {"CLASSES": repr(NAMES)},
        {"id2label": json.dumps(dict(enumerate(NAMES)))},
        {"labels": "\n".join(NAMES) + "\n"},
    ],
)
def test_names_are_read_from_the_metadata_of_a_model(entries):
    """Exports of Ultralytics and others carry their names, as Python, JSON or text."""
    assert names_in_metadata({"author": "x", **entries}) == NAMES


@pytest.mark.parametrize("entries", [{}, {"names": ""}, {"names": "{1: 'a'}"}, {"names": "[[1]]"}, {"classes": "{"}])
def test_metadata_without_names_has_none(entries):
    assert names_in_metadata(entries) == ()
