"""What of a command may be shown, and which of its paths mean anything on a cluster."""

import os
import shutil

import pytest

from fsf_core.cli.app import app
from fsf_core.errors import ConfigError
from fsf_core.submit import command


def test_credentials_are_not_visible_and_do_not_change_the_digest():
    words = ["score", "--manifest", "s3://KEYID:verysecret@data/a.parquet", "--out", "https://h/x?sig=verysecret&a=b"]
    rotated = [word.replace("verysecret", "anothersecret") for word in words]

    assert "secret" not in " ".join(command.visible_words(words))
    assert command.visible_words(["score", "--out", "s3://scores/today"]) == ["score", "--out", "s3://scores/today"]
    assert command.command_digest(words) == command.command_digest(rotated)
    assert command.command_digest(words) != command.command_digest([*words, "--limit", "3"])


@pytest.mark.parametrize("path", ["photos/", "./a.csv", "~/a.csv", "file:a.csv", "runs/{date}"])
@pytest.mark.parametrize("option", ["bundle", "out", "manifest", "model", "run_folder", "reuse"])
def test_a_relative_path_is_refused(option, path):
    with pytest.raises(ConfigError, match="a path of this machine that the cluster does not know"):
        command.shared_paths({option: [path]})


def test_paths_in_stores_and_values_that_are_no_paths_are_left_alone():
    values = {"out": ["s3://scores/{date}"], "manifest": ["gs://a/b"], "reuse": ["latest"], "where": ["a/b == 'c'"]}

    assert command.shared_paths(values) == {}


def test_a_path_that_the_cluster_shares_is_accepted_and_another_one_of_the_same_name_is_not(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
    (tmp_path / "list.csv").write_text("uri\na.jpg\n")
    paths = command.shared_paths(
        {"manifest": [f"{tmp_path}/list.csv"], "bundle": [f"file://{tmp_path}/photos"], "out": [f"{tmp_path}/new"]}
    )
    command.require_shared_paths(paths)

    assert [*paths] == [f"{tmp_path}/list.csv", f"{tmp_path}/photos"], "a folder to be made has nothing to compare"
    (tmp_path / "list.csv").write_text("uri\nb.jpg\n")
    os.utime(tmp_path / "list.csv", ns=(1, 1))
    with pytest.raises(ConfigError, match=r"list.csv on the head of the cluster is another file"):
        command.require_shared_paths(paths)
    shutil.rmtree(tmp_path / "photos")
    (tmp_path / "list.csv").unlink()
    with pytest.raises(ConfigError, match=r"list.csv exists where the command was submitted, but not on the head"):
        command.require_shared_paths(paths)


def test_another_folder_is_noticed_by_its_names(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    paths = command.shared_paths({"manifest": [f"{tmp_path}/photos"]})
    (tmp_path / "photos" / "a.jpg").rename(tmp_path / "photos" / "b.jpg")

    with pytest.raises(ConfigError, match="is another folder"):
        command.require_shared_paths(paths)


def test_small_files_travel_under_a_name_that_keeps_their_suffix(tmp_path):
    (tmp_path / "job.yaml").write_text("limit: 3")
    (tmp_path / "names.json").write_text('["a", "b"]')
    words = ["export", f"--config={tmp_path}/job.yaml", "--classes", f"@{tmp_path}/names.json", "--out", "s3://m/b"]
    values = {"config_file": [f"{tmp_path}/job.yaml"], "classes": [f"@{tmp_path}/names.json"], "out": ["s3://m/b"]}
    renamed, attached = command.attach_files(words, values)

    assert renamed[1:4] == ["--config=attached/0/job.yaml", "--classes", "@attached/1/names.json"]
    assert attached == {"attached/0/job.yaml": b"limit: 3", "attached/1/names.json": b'["a", "b"]'}


def test_a_file_that_is_named_in_a_file_is_refused(tmp_path):
    (tmp_path / "model.yaml").touch()

    with pytest.raises(ConfigError, match=r"--model-config names .* in a file or a variable"):
        command.attach_files(
            (
                "export",
                "--config",
                "job.yaml",
            ),
            {"model_config": [f"{tmp_path}/model.yaml"]},
        )


NO_PATHS = {
    "--actors", "--address", "--allow-missing", "--allow-unexpected", "--attach", "--by", "--column-types", "--crop",
    "--date", "--uncovered",
    "--exclude", "--fail-if", "--fps", "--headers", "--http-hosts", "--image-column", "--image-url", "--input-name",
    "--input-size", "--keep", "--mean", "--net", "--net-option", "--output-name", "--padding", "--palette",
    "--profile", "--python", "--ray-address", "--reason", "--schemes", "--shard", "--std", "--submission-id",
    "--timezone", "--verify", "--weights-key", "--where", "COMMAND", "ITEM",
}  # fmt: skip
"""Options and arguments with a text that is no path, or of a command that is not submitted."""


def test_every_option_that_takes_a_text_is_known_as_a_path_or_as_none():
    """A path that is not known as one would be read on the head of the cluster, where it may be another file."""
    known = {f"--{name.replace('_', '-')}" for name in command.INPUTS | command.OUTPUTS | command.ATTACHED}
    known |= {name.upper() for name in command.INPUTS} | {"RUN-FOLDER"}
    unknown = {
        (name, argument.name)
        for name in app
        if not name.startswith("-")
        for argument in app[name].assemble_argument_collection()
        if argument.show and "str" in str(argument.hint) and "Literal" not in str(argument.hint)
        if argument.name not in known | NO_PATHS
    }

    assert unknown == set()
