"""What `fsf doctor` finds of stores, with real servers: nothing that it writes stays, and no credential is printed."""

from collections.abc import Callable, Iterator

import fsspec
import pytest

from fsf_core import storage
from fsf_core.config import DoctorConfig
from fsf_core.doctor import driver, output
from fsf_core.doctor.checks import Check
from fsf_core.doctor.subject import Subject
from fsf_core.runs import lease
from fsf_core.score.findings import Finding
from tests.support import stores

OUT = "s3://data/runs/night"


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    with stores.seaweed(tmp_path_factory.mktemp("seaweed")) as store:
        yield store


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], None]]:
    """Return a function that connects this process to a store until the test ends."""

    def connect_to(environment: dict[str, str]) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()

    yield connect_to
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def _findings(call: Callable[[Subject], Iterator[Finding]], **options: str) -> dict[str, Finding]:
    subject = Subject(DoctorConfig(**options))
    found = [*Check(name=call.__name__.removeprefix("check_"), call=lambda: call(subject), limit_s=60).findings()]
    return {finding.check: finding for finding in found}


def _left() -> list[str]:
    return [entry.relative for entry in storage.list_files("s3://data", hidden=True)]


def test_a_good_store_is_ok_and_nothing_is_left_in_it(
    seaweed: stores.Store, connect: Callable[[dict[str, str]], None]
) -> None:
    connect(seaweed.environment)

    found = _findings(output.check_out, out=OUT) | _findings(output.check_run, out=OUT)

    assert {name: finding.status for name, finding in found.items()} == {
        "out": "ok", "out conditional write": "ok", "out multipart": "ok", "out clock": "ok", "run": "ok",
    }  # fmt: skip
    assert _left() == []


def test_a_store_that_ignores_conditions_is_reported_with_the_consequence(
    seaweed: stores.Store, connect: Callable[[dict[str, str]], None]
) -> None:
    with stores.without_conditions(seaweed) as store:
        connect(store.environment)

        found = _findings(output.check_out, out=OUT)

        assert found["out"].status == "ok"
        assert found["out conditional write"].status == "warn"
        assert "ignores If-None-Match" in found["out conditional write"].found
        assert "start one job at a time in this folder" in found["out conditional write"].do
        assert _left() == []


@pytest.mark.parametrize("secret", ["wrong-secret-key", "testadminsecret"])
def test_wrong_credentials_fail_and_are_not_printed(
    secret: str, seaweed: stores.Store, connect: Callable[[dict[str, str]], None]
) -> None:
    identity = {"AWS_ACCESS_KEY_ID": "testadmin" if secret.startswith("wrong") else "nobody"}
    connect(seaweed.environment | identity | {"AWS_SECRET_ACCESS_KEY": secret})

    [finding] = _findings(output.check_out, out=OUT).values()

    assert finding.status == "fail"
    assert "pass credentials that the store accepts" in finding.do
    assert secret not in str(finding)


def test_an_identity_that_may_only_read_fails_for_out_and_reads_items(
    seaweed: stores.Store, connect: Callable[[dict[str, str]], None]
) -> None:
    connect(seaweed.environment)
    storage.write_bytes("s3://data/list.csv", b"id,uri\na,s3://data/a.jpg\nb,s3://data/b.jpg\n")
    storage.write_bytes("s3://data/a.jpg", b"bytes")
    try:
        connect(seaweed.environment | stores.READER)
        [written] = _findings(output.check_out, out=OUT).values()
        [read] = _findings(driver.check_items, manifest="s3://data/list.csv").values()
    finally:
        connect(seaweed.environment)
        storage.remove("s3://data/list.csv")
        storage.remove("s3://data/a.jpg")

    assert (written.status, "grant this identity access" in written.do) == ("fail", True)
    assert (read.status, read.found.partition(":")[0]) == ("warn", "1 of the first 2 items can be read")


def test_a_missing_bucket_fails_with_its_name(seaweed: stores.Store, connect: Callable[[dict[str, str]], None]) -> None:
    connect(seaweed.environment)

    [finding] = _findings(output.check_out, out="s3://nowhere/run").values()

    assert finding.status == "fail"
    assert "create the bucket, or correct its name" in finding.do


def test_an_object_that_cannot_be_deleted_is_named(
    seaweed: stores.Store, connect: Callable[[dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that keeps what is deleted is not at hand, so the deletion is refused by this process."""
    connect(seaweed.environment)
    refused: list[str] = []

    def refuse(uri: str) -> None:
        refused.append(uri)
        raise storage_error(uri)

    def storage_error(uri: str) -> Exception:
        from fsf_core.errors import StorageError

        return StorageError(f"{uri} cannot be deleted: AccessDenied; grant this identity access")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "remove", refuse)
        [finding] = _findings(output.check_out, out=OUT).values()
    for uri in refused:
        storage.remove(uri)

    assert finding.status == "fail"
    assert f"{refused[0]} is left there, delete it" in str(finding)


def test_a_run_in_use_is_refused_and_one_whose_job_died_is_reported(
    seaweed: stores.Store, connect: Callable[[dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(seaweed.environment)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.5)
    with lease.lease(OUT):
        before = _left()
        [used] = _findings(output.check_run, out=OUT).values()
        assert _left() == before
    assert used.status == "fail"
    assert "is in use by process " in used.found

    [free] = _findings(output.check_run, out=OUT).values()
    assert (free.status, free.found) == ("ok", f"{OUT} holds no run yet")

    # A job of another machine that was killed.
    holder = lease._payload("token").replace(b'"boot": "', b'"boot": "another ')
    storage.write_bytes(f"{OUT}/.lease-99", holder)
    dead = [*output.check_run(Subject(DoctorConfig(out=OUT)))]
    for name in _left():
        storage.remove(f"s3://data/{name}")

    assert [finding.status for finding in dead] == ["warn", "ok"]
    assert "whose heartbeat has stopped" in dead[0].found


def test_without_out_nothing_is_written(seaweed: stores.Store, connect: Callable[[dict[str, str]], None]) -> None:
    from fsf_core.doctor.examine import _driver_checks

    connect(seaweed.environment)

    checks = [*_driver_checks(Subject(DoctorConfig(manifest="s3://data/gone.csv")))]
    found = [finding for check in checks for finding in check.findings()]

    assert [finding.status for finding in found] == ["ok", "fail", "warn"]
    assert _left() == []
