"""Seconds of videos are the sums of their frames, in whatever parts the frames are."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from fsf_core import runs
from fsf_core.runs import video_stats
from tests.support import ledger, rendered_runs
from tests.support.clips import clip


@pytest.fixture
def home(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(clip(frames=60, width_px=96, height_px=64, container="mpegts"))
    return rendered_runs.finished(tmp_path / "run", source)


def published(home):
    attempt = runs.begin_change(home, ledger.HeldLease())
    derived = video_stats.write_video_stats(attempt.staging, runs.load_ledger(home))
    ledger.publish(attempt, {"items": {"total": 1}}, derived=derived)
    return derived


def test_each_second_has_the_class_ratios_of_its_frames(home, monkeypatch):
    monkeypatch.setattr(video_stats, "PARTS_AT_ONCE", 2)
    (file,) = published(home)
    query = f"""
        select m.item_id, floor(m.pts_s)::bigint as second, s.class_id, s.class_name, count(*) as frames,
               sum(s.pixels) / sum(m.height_px * m.width_px) as ratio
        from '{home}/masks/*.parquet' m join '{home}/class_stats/*.parquet' s using (item_id, frame_index)
        group by all order by all
    """
    found = duckdb.sql(f"select * from '{home}/video_stats/*.parquet'").fetchall()

    expected = duckdb.sql(query).fetchall()
    assert [row[:5] for row in found] == [row[:5] for row in expected]
    assert [row[5] for row in found] == pytest.approx([row[5] for row in expected])
    assert file.facts["rows"] == len(found)
    assert sum(row[4] for row in found if row[2] == 0) == 60


def test_the_table_is_listed_verified_and_rewritten(home):
    published(home)
    assert video_stats.verify(home) == []
    assert video_stats.manifest_entries(home)[0]["path"] == "video_stats/all.parquet"
    path = Path(home) / "video_stats" / "all.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    assert [line.split(":")[0] for line in video_stats.verify(home)] == ["torn"]
    path.unlink()
    assert [line.split(":")[0] for line in video_stats.verify(home)] == ["missing"]
    published(home)

    assert video_stats.verify(home) == []


def test_a_run_of_images_has_no_such_table(tmp_path):
    home = str(tmp_path / "run")
    images = [ledger.image(f"image {number}") for number in range(3)]
    tables = ledger.tables_of(images)
    untimed = pa.nulls(len(images), pa.float64())
    tables["masks"] = tables["masks"].set_column(tables["masks"].column_names.index("pts_s"), "pts_s", untimed)
    with ledger.claim_run(home, fingerprint={}, details={}) as attempt:
        runs.commit(attempt.staging, tables, ledger.rows_of(images))
    stale = tmp_path / "run" / "video_stats" / "all.parquet"
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier attempt")
    ledger.publish(home, {"items": {"total": 3}}, derived=[])
    assert not stale.exists()
    assert video_stats.verify(home) == []
    stale.write_bytes(b"of nobody")
    assert [line.split(":")[0] for line in video_stats.verify(home)] == ["orphan"]

    assert published(home) == []
    assert video_stats.verify(home) == []
    assert not stale.exists()


def test_an_earlier_table_is_replaced_only_when_the_run_is_published(home):
    """A job that dies in between must not leave a table that the run does not have."""
    published(home)
    before = ledger.snapshot(home)
    attempt = runs.begin_change(home, ledger.HeldLease())
    (file,) = video_stats.write_video_stats(attempt.staging, runs.load_ledger(home))

    assert file.staged == ".attempt-0003/video_stats/all.parquet"
    assert {path: data for path, data in ledger.snapshot(home).items() if not path.startswith(".")} == before
