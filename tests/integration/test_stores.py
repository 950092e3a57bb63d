"""The whole job in buckets of real servers: with checked credentials, injected faults and leases."""

import contextlib
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from deltalake import DeltaTable
from rasterio.io import MemoryFile

from fsf_core import runs, storage
from fsf_core.cli.app import main
from fsf_core.errors import FetchError, OutputError, StorageError
from fsf_core.manifest import Selection, open_manifest
from fsf_core.media import images, rasters
from fsf_core.model.bundle import Bundle
from fsf_core.publish import delta, frames
from fsf_core.runs import lease
from fsf_core.storage.filesystems import filesystem_of
from tests.support import assets, clips, fault_injection, labelled, ledger, picture_runs, processes, stores

IMAGES = 24


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    with stores.seaweed(tmp_path_factory.mktemp("seaweed")) as store:
        yield store


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], None]]:
    """Return a function that connects this process to a store until the test ends."""

    def connect_to(environment: dict[str, str]) -> None:
        for name in stores.ADMIN:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        _clear_filesystems()

    yield connect_to
    _clear_filesystems()


def _clear_filesystems() -> None:
    """Clear the filesystems that fsspec keeps, and the credentials in them."""
    for name in ("s3", "gs", "az"):
        fsspec.get_filesystem_class(name).clear_instance_cache()


@pytest.fixture(scope="module")
def home(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a bundle, images, a broken one, a video, labels, and a manifest of them and of a missing image."""
    folder = tmp_path_factory.mktemp("home")
    for entry in storage.list_files(tiny_bundle.uri):
        storage.write_bytes(str(folder / "bundle" / entry.relative), storage.read_bytes(entry.uri))
    media = folder / "media"
    media.mkdir()
    for number in range(IMAGES):
        (media / f"{number:03d}.jpg").write_bytes(assets.opencv(clips.picture(number), ".jpg"))
    (media / "broken.jpg").write_bytes(b"not an image")
    (media / "clip.mp4").write_bytes(clips.clip(frames=20))
    names = [*sorted(path.name for path in media.iterdir()), "missing.jpg"]
    labels = folder / "labels"
    (labels / "clip").mkdir(parents=True)
    for name in ("000", "001", *(f"clip/frame_{frame:04d}" for frame in range(0, 20, 3))):
        (labels / f"{name}.png").write_bytes(labelled.encode(labelled.label(64, 96)))
    found = {"000.jpg": "labels/000.png", "001.jpg": "labels/001.png", "clip.mp4": "labels/clip"}
    rows = "".join(f"{name.partition('.')[0]},media/{name},{len(name)},{found.get(name, '')}\n" for name in names)
    (folder / "manifest.csv").write_text("id,uri,length,label_uri\n" + rows)
    return folder


def _upload(home: Path, to: str) -> None:
    for entry in storage.list_files(str(home)):
        storage.write_bytes(storage.join(to, entry.relative), storage.read_bytes(entry.uri))


def _options(home: str, out: str, *more: str) -> tuple[str, ...]:
    bundle, manifest = storage.join(home, "bundle"), storage.join(home, "manifest.csv")
    return (
        "score", "--bundle", bundle, "--manifest", manifest, "--out", out, "--provider", "cpu", "--segment-frames", "8",
        *more,
    )  # fmt: skip


def _score(home: str, out: str, *more: str, **environment: str) -> None:
    """Run a job in a process of its own, whose workers inherit its environment."""
    code, output = processes.fsf(*_options(home, out, *more), **environment)
    assert code == 0, output


def _tables(out: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows, without the columns that differ between runs and between stores."""
    masks = ledger.sorted_rows(out, "masks", but=("run_id", "uri", "item_sha256", "item_version"))
    failed = {(row["item_id"], row["error_type"]) for row in runs.read_table(out, "failures").to_pylist()}
    confusion = ledger.sorted_rows(out, "confusion")
    assert {row["item_id"] for row in confusion} == {"000", "001", "clip"}
    stats = ledger.sorted_rows(out, "class_stats")
    return {"masks": masks, "class_stats": stats, "confusion": confusion, "failed": sorted(failed)}


@pytest.fixture(scope="module")
def on_disk(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    out = str(tmp_path_factory.mktemp("runs") / "disk")
    _score(str(home), out)
    return _tables(out)


# --- the whole job in a bucket ---


@pytest.mark.parametrize("kind", ["s3", "gs", "az"])
def test_a_job_in_a_bucket_gives_the_same_tables_as_on_disk(kind, home, on_disk, connect, request, tmp_path):
    with _store(kind, request, tmp_path) as store:
        connect(store.environment)
        _upload(home, storage.join(store.bucket, "home"))
        out = storage.join(store.bucket, "runs", "tonight")

        _score(storage.join(store.bucket, "home"), out, **store.environment)

        assert runs.read_document(out, "summary.json")["items"] == {
            "total": IMAGES + 3,
            "scored": IMAGES + 1,
            "failed": 2,
            "not_in_manifest": 0,
        }
        assert _tables(out) == on_disk
        _require_versions(out)
        assert runs.verify(out) == []
        assert main(["inspect", out, "000"]) == 0
        assert storage.list_names(out, ".lease") == [".lease-1"]
        assert json.loads(storage.read_bytes(storage.join(out, ".lease-1")))["released"]
        _require_keys_as_they_are(store, kind)


def _require_versions(out: str) -> None:
    """Check that every image has the version that the store states of it when it is opened by itself."""
    masks = runs.read_table(out, "masks", columns=["uri", "item_version", "pts_s"]).to_pylist()
    images = [row for row in masks if row["pts_s"] is None]
    assert len(images) == IMAGES
    for row in images:
        with storage.open_binary(row["uri"]) as file:
            assert row["item_version"] == storage.etag_or_mtime(file)


ODD_KEYS = {
    "odd/a+b.jpg", "odd/zoë 1.jpg", "odd/100%25.jpg", "odd/x#1.jpg", "odd/q?1.jpg", "odd/s=1&t=2.jpg", "odd/:c.jpg",
    "odd/folder.jpg/inner.jpg",
}  # fmt: skip
EMPTY_NAMES = {"odd//double.jpg", "odd/sub//inner.jpg"}
"""SeaweedFS keeps objects as files, and has no empty names."""


def _require_keys_as_they_are(store: stores.Store, kind: str) -> None:
    """Check that listings and globs have the keys that were written, and no markers of folders."""
    keys = ODD_KEYS if kind == "s3" else ODD_KEYS | EMPTY_NAMES
    for key in keys:
        filesystem_of(store.bucket).pipe_file(f"{store.bucket}/{key}", key.encode())
    for marker in ("odd/folder.jpg/", "odd/hadoop_$folder$"):
        filesystem_of(store.bucket).pipe_file(f"{store.bucket}/{marker}", b"")
    for found in (
        {entry.uri for entry in storage.list_files(f"{store.bucket}/odd")},
        {*storage.glob(f"{store.bucket}/odd/**/*.jpg")},
    ):
        assert found == {f"{store.bucket}/{key}" for key in keys}
    assert all(storage.read_bytes(f"{store.bucket}/{key}") == key.encode() for key in keys)


def _store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if kind == "s3":
        return contextlib.nullcontext(request.getfixturevalue("seaweed"))
    return stores.fake_gcs() if kind == "gs" else stores.azurite(tmp_path)


# --- errors ---


@pytest.mark.parametrize(
    ("environment", "out", "hint"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "s3://data/refused", "AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "s3://data/refused", "AWS_ACCESS_KEY_ID"),
        ({}, "s3://nothere/refused", "create the bucket"),
        (stores.READER, "s3://data/refused", "grant this identity access"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://data/refused", "AWS_ENDPOINT_URL"),
    ],
    ids=["wrong secret", "unknown key", "missing bucket", "read only", "no server"],
)
def test_a_store_that_refuses_ends_the_job_in_seconds_with_a_hint(
    environment, out, hint, seaweed, home, connect, capsys
):
    connect(seaweed.environment | environment)
    begun = time.monotonic()

    code = main(["score", "--bundle", f"{home}/bundle", "--manifest", f"{home}/manifest.csv", "--out", out])

    output = capsys.readouterr().err
    assert code == 2
    assert hint in output
    assert "testadminsecret" not in output
    assert time.monotonic() - begun < 30


def test_media_in_a_missing_bucket_end_the_job_before_it_starts(seaweed, home, connect, tmp_path, capsys):
    connect(seaweed.environment)
    (tmp_path / "list.csv").write_text("uri\ns3://nothere/a.jpg\n")

    code = main(
        ["score", "--bundle", f"{home}/bundle", "--manifest", f"{tmp_path}/list.csv", "--out", f"{tmp_path}/run"]
    )

    assert code == 2
    assert "s3://nothere/a.jpg cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# --- faults ---


def test_a_store_that_fails_every_tenth_request_loses_no_item(seaweed, home, on_disk, connect):
    with fault_injection.in_front_of(seaweed.port) as proxy:
        quick = '{"config_kwargs": {"read_timeout": 2}}'
        connect(seaweed.environment | {"AWS_ENDPOINT_URL": proxy.url})
        _upload(home, "s3://data/faulty")
        proxy.share, proxy.stall_s = 0.1, 5.0
        environment = seaweed.environment | {"AWS_ENDPOINT_URL": proxy.url, "FSSPEC_S3": quick}
        _score("s3://data/faulty", "s3://data/faulty/run", **environment)
        proxy.share = 0.0

        assert _tables("s3://data/faulty/run") == on_disk
        assert set(fault_injection.FAULTS) <= set(proxy.counts)


def test_the_error_of_a_store_that_throttles_names_the_throttling(seaweed, connect, monkeypatch):
    monkeypatch.setattr("fsf_core.storage.retry.RETRY_TIMEOUT_S", 2.0)
    with fault_injection.in_front_of(seaweed.port) as proxy:
        connect(seaweed.environment | {"AWS_ENDPOINT_URL": proxy.url})
        proxy.slow_down_always = True

        with pytest.raises(FetchError, match=r"asked to slow down \d+ times in .*; send fewer requests at once"):
            storage.read_bytes("s3://data/a.jpg")
        with pytest.raises(StorageError, match=r"asked to slow down"):
            storage.write_bytes("s3://data/a.jpg", b"")


def test_many_small_files_are_fetched_concurrently(seaweed, connect):
    connect(seaweed.environment)
    uris = [f"s3://data/many/{number}" for number in range(24)]
    for uri in uris:
        storage.write_bytes(uri, uri.encode())
    with fault_injection.in_front_of(seaweed.port) as proxy:
        connect(seaweed.environment | {"AWS_ENDPOINT_URL": proxy.url})
        proxy.delay_s = 0.2

        found = []
        for opening in storage.open_prefetched(uris, storage.Access(schemes=("s3",))):
            with opening() as file:
                found.append(file.read().decode())

        assert found == uris
        assert 8 <= proxy.max_in_flight <= 16
        assert proxy.counts["passed"] == 24


def test_a_run_asks_for_every_receipt_once_and_moves_every_file_by_one_copy(seaweed, connect):
    """Committed by one job, published by the next, then verified; deletions go a thousand at once."""
    names, asked = [f"{number}.jpg" for number in range(12)], Counter[str]()

    def note(method: str, path: str) -> None:
        kind = "table" if path.partition("?")[0].endswith(".parquet") else "receipt" if ".arrow" in path else "other"
        asked[f"{method} {kind}"] += 1

    with fault_injection.in_front_of(seaweed.port) as proxy:
        connect(seaweed.environment | {"AWS_ENDPOINT_URL": proxy.url})
        run = "s3://data/counted/run"
        with ledger.claim_run(run, fingerprint={}, details={}) as attempt:
            proxy.watch = note
            for name in names:
                ledger.commit(attempt, ledger.image(name))
            committed, asked = asked, Counter()
            proxy.watch = None
        with ledger.claim_run(run, fingerprint={}, details={}) as attempt:
            proxy.watch = note
            runs.find_completed(runs.load_ledger(run))
            ledger.publish(attempt, {"items": {"total": 12, "scored": 12, "failed": 0, "not_in_manifest": 0}})
            published, asked = asked, Counter()
        assert runs.verify(run) == []

    assert committed == {"GET receipt": 12, "PUT table": 24, "PUT receipt": 12}
    assert {kind: count for kind, count in published.items() if "other" not in kind} == {
        "GET receipt": 12, "COPY table": 24, "COPY receipt": 12,
    }  # fmt: skip
    assert published["DELETE other"] == 0
    assert (asked["GET receipt"], asked["GET table"], asked["HEAD table"]) == (12, 24, 0)


def test_a_condition_reads_only_the_row_groups_of_a_table_that_may_match(seaweed, connect):
    connect(seaweed.environment)
    names = [f"{secrets.token_hex(48)}-{number}" for number in range(240_000)]
    table = pa.table({"uri": names, "day": [number // 30_000 for number in range(240_000)]})
    buffer = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, buffer, row_group_size=30_000)
    data = buffer.getvalue().to_pybytes()
    storage.write_bytes("s3://data/table/split=a/part.parquet", data)
    with fault_injection.in_front_of(seaweed.port) as proxy:
        connect(seaweed.environment | {"AWS_ENDPOINT_URL": proxy.url})

        manifest = open_manifest("s3://data/table", Selection(where="day == 7"))

        assert manifest.items == 30_000
        assert len(data) > 20 << 20
        assert proxy.passed_bytes < len(data) // 2


def test_the_end_of_a_large_file_is_read_without_the_rest(seaweed, connect):
    connect(seaweed.environment)
    storage.write_bytes("s3://data/long", bytes(32 << 20))
    with fault_injection.in_front_of(seaweed.port) as proxy:
        connect(seaweed.environment | {"AWS_ENDPOINT_URL": proxy.url})

        with storage.open_binary("s3://data/long") as file:
            file.seek(-1000, os.SEEK_END)
            assert len(file.read(1000)) == 1000
            file.seek(100)
            assert len(file.read(10)) == 10

        assert proxy.passed_bytes < 8 << 20


@pytest.mark.parametrize("kind", ["GTiff", "COG"])
def test_a_large_tiff_is_read_by_ranges_and_no_range_twice(kind, seaweed, connect):
    noise = np.random.default_rng(2).integers(0, 256, (3, 4096, 4096), np.uint8)
    with MemoryFile() as memory:
        with memory.open(driver=kind, height=4096, width=4096, count=3, dtype="uint8", tiled=True) as file:
            file.write(noise)
        data = bytes(memory.getbuffer())
    connect(seaweed.environment)
    storage.write_bytes("s3://data/large.tif", data)
    with fault_injection.in_front_of(seaweed.port) as proxy:
        connect(seaweed.environment | {"AWS_ENDPOINT_URL": proxy.url})

        with storage.open_binary("s3://data/large.tif") as file:
            raster = rasters.open_raster(file, honour_exif=True, limits=images.ImageLimits())
            first = raster.read(0, 0, 300, 4096)
            assert proxy.passed_bytes < len(data) // 3
            rows = [raster.read(top, 0, min(300, 4096 - top), 4096) for top in range(300, 4096, 300)]

        assert np.array_equal(np.concatenate([first, *rows])[..., ::-1], np.moveaxis(noise, 0, -1))
        assert proxy.passed_bytes < 1.4 * len(data)


def test_a_file_that_is_replaced_while_it_is_open_has_another_version_now(seaweed, connect):
    connect(seaweed.environment)
    uri = "s3://data/replaced.tif"
    storage.write_bytes(uri, bytes(100))
    for opened in (uri, storage.byte_range(uri, 10, 20)):
        with storage.open_binary(opened) as file:
            before = storage.etag_or_mtime(file)
            assert storage.version_now(file) == before is not None
            storage.write_bytes(uri, storage.read_bytes(uri)[1:])
            assert storage.etag_or_mtime(file) == before != storage.version_now(file)
            storage.remove(uri)
            with pytest.raises(FetchError, match=r"replaced\.tif"):
                storage.version_now(file)
        storage.write_bytes(uri, bytes(100))


# --- one job at a time ---


def test_a_second_job_in_the_same_folder_of_a_bucket_is_refused(seaweed, connect, monkeypatch):
    connect(seaweed.environment)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.2)
    refused = pytest.raises(OutputError, match=f"in use by process {os.getpid()} on")
    with lease.lease("s3://data/claimed"), refused, lease.lease("s3://data/claimed"):
        pass
    with lease.lease("s3://data/claimed") as held:
        assert held.number == 2
        assert storage.list_names("s3://data/claimed", ".lease") == [".lease-2"]


def test_of_callers_that_create_one_object_at_once_one_succeeds(seaweed, connect):
    connect(seaweed.environment)
    with ThreadPoolExecutor(8) as pool:
        for number in range(2):
            uri = f"s3://data/created/{number}"
            created = list(pool.map(lambda word, uri=uri: storage.create(uri, word), [b"%d" % k for k in range(8)]))
            assert sum(created) == 1
            assert storage.read_bytes(uri) == b"%d" % created.index(True)


HOLDER = """
import signal, sys, time
from fsf_core import storage
from fsf_core.errors import InterruptedRunError
from fsf_core.runs import lease

def interrupt(number, _):
    raise InterruptedRunError(number)

def wait(request=None, **_):
    print(held.number, flush=True)
    sys.stdin.readline()

lease.HEARTBEAT_S, lease.WATCH_S, lease.HOLD_S, lease.LEASE_S = 0.2, 0.1, 1.0, 2.0
does = sys.argv[1]
with lease.lease("s3://data/paused") as held:
    if does == "sends":
        filesystem = storage.filesystems.filesystem_of("s3://data/paused")
        filesystem.s3.meta.events.register("before-sign.s3.DeleteObject", wait)
        storage.remove("s3://data/paused/late")
    wait()
    if does == "writes":
        storage.remove("s3://data/paused/late")
    signal.signal(signal.SIGTERM, interrupt)
    time.sleep(60)
"""


@pytest.mark.parametrize(("does", "ended"), [("writes", False), ("sends", True), ("sleeps", False)])
def test_a_holder_that_was_paused_for_longer_than_its_lease_writes_no_more(does, ended, seaweed, connect, monkeypatch):
    """Paused before a request, while one is prepared, and between two; the successor works or has ended."""
    connect(seaweed.environment)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(lease, "LEASE_S", 2.0)
    command = [sys.executable, "-c", HOLDER, does]
    environment = {**os.environ, **seaweed.environment}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        number = int(holder.stdout.readline())
        holder.send_signal(signal.SIGSTOP)
        holder.stdin.write("go on\n")
        holder.stdin.flush()
        try:
            with lease.lease("s3://data/paused") as held:
                assert held.number == number + 1
                storage.write_bytes("s3://data/paused/late", b"kept")
                if not ended:
                    holder.send_signal(signal.SIGCONT)
                    holder.wait(30)
                    held.confirm()
            holder.send_signal(signal.SIGCONT)
            _, errors = holder.communicate(timeout=30)
        finally:
            holder.kill()
    assert "LeaseLostError: this job could not renew its lease on s3://data/paused for" in errors
    assert f"process {os.getpid()} on" in errors
    assert storage.read_bytes("s3://data/paused/late") == b"kept"
    assert storage.list_names("s3://data/paused", ".lease") == [f".lease-{held.number}"]


def test_the_lease_of_a_job_that_died_on_another_machine_is_taken_over(seaweed, connect, monkeypatch):
    connect(seaweed.environment)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(lease, "LEASE_S", 1.0)
    storage.write_bytes("s3://data/dead/.lease-3", b'{"host": "elsewhere", "pid": 1, "beat": "x"}')

    with lease.lease("s3://data/dead"):
        assert storage.list_names("s3://data/dead", ".lease") == [".lease-4"]


def test_a_killed_job_in_a_bucket_is_resumed_by_the_same_command(seaweed, home, on_disk, connect):
    connect(seaweed.environment)
    _upload(home, "s3://data/killed")
    options = _options("s3://data/killed", "s3://data/killed/run", "--part-units", "4")
    job = processes.Job(*options, **seaweed.environment)
    processes.wait_for(lambda: storage.list_names("s3://data/killed/run/.attempt-0001/receipts", "part-"))
    processes.kill_all(job.kill_group())

    code, output = processes.fsf(*options, **seaweed.environment)

    assert code == 0, output
    assert _tables("s3://data/killed/run") == on_disk
    assert runs.verify("s3://data/killed/run") == []


# --- tables that many runs share ---


def test_a_run_on_disk_is_published_to_delta_tables_in_a_bucket_in_one_commit_each(seaweed, connect, tmp_path):
    connect(seaweed.environment)
    night = str(tmp_path / "night")
    with ledger.claim_run(night, fingerprint={}, details={}):
        ledger.commit(night, ledger.image("a"), ledger.image("b"))
        ledger.publish(night, {"items": {"total": 2}})
    folder = storage.join(seaweed.bucket, "shared")
    first, second = (delta.publish_delta(night, folder) for _ in range(2))

    options = {"allow_http": "true"}
    masks = DeltaTable(storage.join(folder, "masks"), storage_options=options).to_pyarrow_table()
    assert sorted(masks.column("item_id").to_pylist()) == ["a", "b"]
    assert second["masks"] == first["masks"] + 1


@pytest.mark.parametrize("form", ["coco", "hf"])
def test_a_run_in_a_bucket_is_published_to_a_bucket_as_it_is_to_a_disk(
    form, seaweed, connect, tmp_path, monkeypatch, capsys
):
    """With its pictures, and after a publication that broke off halfway."""
    connect(seaweed.environment)
    monkeypatch.setattr(frames, "CHUNK_FRAMES", 2)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 4, (8, 9)).astype(np.uint8) for _ in range(4)]
    items = [picture_runs.image(tmp_path, f"ä/{at}.png", class_map_HW) for at, class_map_HW in enumerate(drawn)]
    items.append(picture_runs.video(tmp_path, "clip", frames=2))
    home = storage.join(seaweed.bucket, form)
    in_store = [replace(item, uri=storage.join(home, "in", item.source.name)) for item in items]
    for item in in_store:
        storage.write_bytes(item.uri, item.source.read_bytes())
    run = picture_runs.finished(storage.join(home, "run"), in_store)
    out, disk = storage.join(home, "out"), str(tmp_path / "disk")
    words = ["--to", form, "--with-images"]
    _break_off(["publish", run, *words, "--out", out], monkeypatch)
    assert "the same command goes on" in capsys.readouterr().err
    assert main(["publish", run, *words, "--out", out]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert main(["publish", run, *words, "--out", disk]) == 0

    assert (document["rows"] + document["skipped"], document["pictures_missing"]) == (6, 0)
    found = {entry.relative: storage.read_bytes(entry.uri) for entry in storage.list_files(out, hidden=True)}
    expected = {entry.relative: storage.read_bytes(entry.uri) for entry in storage.list_files(disk, hidden=True)}
    assert found == expected


def _break_off(words, monkeypatch):
    """Run a command whose store refuses the fourth write of the publication; it ends with 75."""
    write, count = storage.write_bytes, itertools.count()

    def failing(uri, data, **options):
        if "/.lease-" not in uri and next(count) >= 3:
            raise StorageError("the store went away")
        write(uri, data, **options)

    monkeypatch.setattr(storage, "write_bytes", failing)
    assert main(words) == 75
    monkeypatch.setattr(storage, "write_bytes", write)


# --- signed addresses ---


def test_videos_at_signed_addresses_are_rendered_from_the_manifest_that_holds_them(seaweed, home, connect, tmp_path):
    connect(seaweed.environment)
    storage.write_bytes("s3://data/signed/clip.mp4", (home / "media" / "clip.mp4").read_bytes())
    address = fsspec.filesystem("s3").url("data/signed/clip.mp4", expires=3600)
    listed, out = tmp_path / "list.csv", tmp_path / "run"
    listed.write_text(f'id,uri\nclip,"{address}"\n')
    bare = dict.fromkeys(seaweed.environment, "")
    allowed = ("--http-hosts", "127.0.0.1")

    code, output = processes.fsf(
        "score", "--bundle", f"{home}/bundle", "--manifest", str(listed), "--out", str(out), "--provider", "cpu",
        "--render", "blend", *allowed, **bare,
    )  # fmt: skip
    assert code == 0, output
    rendered = next((out / "videos").glob("*.mp4"))
    before = rendered.read_bytes()
    code, refusal = processes.fsf("render", str(out), "--style", "mask", *allowed, **bare)
    assert code == 3
    assert "pass the manifest that has the full URI with --manifest" in refusal
    assert rendered.read_bytes() == before
    code, drawn = processes.fsf("render", str(out), "--style", "mask", "--manifest", str(listed), *allowed, **bare)

    assert code == 0, drawn
    assert rendered.read_bytes() != before
    signature = address.partition("Signature=")[2].partition("&")[0]
    assert len(signature) > 8
    written = [path for path in out.rglob("*") if path.is_file() and signature.encode() in path.read_bytes()]
    assert written == []
    assert signature not in output + refusal + drawn
