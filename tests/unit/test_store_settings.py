"""Store settings reach the workers of a joined cluster, and a cluster that a shell submits to."""

import json
import os
import subprocess
import sys

import pytest
from ray import cloudpickle

from fsf_core import store_settings
from fsf_core.errors import StorageError


@pytest.fixture
def shell(monkeypatch):
    for name in [*os.environ]:
        if name.startswith(store_settings.STORE_VARIABLES):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # what the code under test sets ends with the test
    return os.environ


def test_store_settings_are_passed_on_and_machine_settings_are_not(shell):
    shell.update(AWS_PROFILE="night", FSSPEC_S3='{"anon": true}', HOME="/home/driver")
    shell["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "/of/this/machine"

    assert store_settings.driver_settings(shell) == {"AWS_PROFILE": "night", "FSSPEC_S3": '{"anon": true}'}


def test_a_worker_applies_the_settings_before_it_imports_anything():
    """fsspec reads its variables when it is imported."""
    settings = {"AWS_PROFILE": "night", "FSSPEC_S3": '{"anon": true}'}
    code = "import sys; from ray import cloudpickle; sent = sys.stdin.buffer.read(); hook = cloudpickle.loads(sent)\n"
    code += "hook(); import os, json; print(json.dumps([os.environ['AWS_PROFILE'], 'fsf_core' in sys.modules]))"
    sent = cloudpickle.dumps(store_settings._hook(settings, {}))
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True, timeout=60)

    assert json.loads(done.stdout) == ["night", False]


def test_credentials_of_one_store_are_never_mixed(shell):
    """A session token of the pod beside the keys of the shell would be refused by the store."""
    names = ("AWS_SESSION_TOKEN", "AWS_ROLE_ARN", "AWS_REGION", "AZURE_STORAGE_KEY")
    shell.update(dict.fromkeys(names, "of the pod"))
    store_settings.apply_settings({"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}, {})

    assert store_settings.driver_settings(shell) == {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_REGION": "of the pod",
        "AZURE_STORAGE_KEY": "of the pod",
    }


def test_settings_that_are_no_credentials_leave_those_of_the_pod(shell):
    shell.update(dict.fromkeys(["AWS_SESSION_TOKEN"], "of the pod"))
    store_settings.apply_settings({"AWS_ENDPOINT_URL": "http://store"}, {})

    assert store_settings.driver_settings(shell) == {
        "AWS_SESSION_TOKEN": "of the pod",
        "AWS_ENDPOINT_URL": "http://store",
    }


def test_a_file_of_credentials_travels_as_its_content_from_shell_to_driver_to_worker(shell, tmp_path):
    (tmp_path / "key.json").write_text('{"type": "service_account"}')
    shell["GOOGLE_APPLICATION_CREDENTIALS"] = str(tmp_path / "key.json")
    variables, files = store_settings.submitted_settings(shell)
    (tmp_path / "key.json").unlink()
    store_settings.apply_settings(variables, files)
    hook = cloudpickle.dumps(store_settings.settings_hook())
    code = "import os, sys; from ray import cloudpickle; cloudpickle.loads(sys.stdin.buffer.read())()\n"
    code += "path = os.environ['GOOGLE_APPLICATION_CREDENTIALS']; print(path); print(open(path).read())"
    done = subprocess.run([sys.executable, "-c", code], input=hook, capture_output=True, check=True, timeout=60)
    path, content = done.stdout.decode().splitlines()

    assert variables == {}
    assert path.startswith("/proc/")
    assert content == '{"type": "service_account"}'
    assert os.path.realpath(shell["GOOGLE_APPLICATION_CREDENTIALS"]).startswith("/memfd:")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AWS_PROFILE": "night"}, "AWS_PROFILE names a profile of this machine's ~/.aws"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "/gone"}, "names /gone, which cannot be read: No such file"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "external.json"}, "an external account, which refers to this machine"),
        ({"HF_TOKEN_PATH": "/dev/zero"}, "expected a file of at most 1 MiB"),
    ],
)
def test_credentials_that_cannot_travel_are_refused(shell, tmp_path, monkeypatch, variables, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "external.json").write_text('{"type": "external_account"}')

    with pytest.raises(StorageError, match=message):
        store_settings.submitted_settings(shell | variables)


def test_the_identity_of_a_pod_does_not_travel(shell):
    names = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "HF_HOME")
    shell.update(dict.fromkeys(names, "/of/the/pod"), AWS_REGION="here")

    assert store_settings.submitted_settings(shell) == ({"AWS_REGION": "here"}, {})


def test_ray_shows_another_hash_of_the_same_settings_each_time(shell):
    """From an equal hash, a short password could be guessed."""
    shell.update({"AWS_SECRET_ACCESS_KEY": "short"})

    assert cloudpickle.dumps(store_settings.settings_hook()) != cloudpickle.dumps(store_settings.settings_hook())
