"""What the workers of a joined cluster get from the driver: how stores are reached, and nothing else."""

import os

import pytest

from fsf_core.score import cluster  # before ray

from ray import cloudpickle  # isort: skip


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


def test_settings_of_stores_are_lent_and_those_of_the_machine_are_not(driver):
    assert cluster._lent() == {"AWS_PROFILE": "night", "FSSPEC_S3": '{"anon": true}'}


def test_a_worker_borrows_them_before_anything_else(driver):
    sent = cloudpickle.dumps(cluster._lending())
    driver.delenv("AWS_PROFILE")

    cloudpickle.loads(sent)()

    assert os.environ["AWS_PROFILE"] == "night"
