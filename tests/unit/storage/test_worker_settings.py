"""Workers of a joined cluster get the store settings of the driver, and nothing else."""

import os

import pytest
from ray import cloudpickle

from fsf_core.score import cluster


@pytest.fixture
def driver(monkeypatch):
    for name in [*os.environ]:
        if name.startswith(cluster.STORE_VARIABLES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "night")
    monkeypatch.setenv("FSSPEC_S3", '{"anon": true}')
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/of/this/machine")
    monkeypatch.setenv("HOME", "/home/driver")
    return monkeypatch


def test_store_settings_are_passed_on_and_machine_settings_are_not(driver):
    assert cluster._store_settings() == {"AWS_PROFILE": "night", "FSSPEC_S3": '{"anon": true}'}


def test_a_worker_applies_the_settings_before_anything_else(driver):
    sent = cloudpickle.dumps(cluster._store_settings_hook())
    driver.delenv("AWS_PROFILE")

    cloudpickle.loads(sent)()

    assert os.environ["AWS_PROFILE"] == "night"
