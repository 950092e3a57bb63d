"""What the summary says of the tables of a run, and how people read it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from fsf_core import runs
from fsf_core.cli.score_table import table
from fsf_core.errors import ResumableError
from fsf_core.keys import item_keys
from fsf_core.manifest import LeftOut
from fsf_core.score import summary as summaries
from tests.support.ledger import CLASSES, begin, broken, commit, image, publish, video

FINGERPRINT = {"classes": [*CLASSES], "palette": [[0, 0, 0], [128, 0, 0]]}
OMISSION = LeftOut(reason="not_media", count=2, first=("notes.txt",))


def counted(attempt, *names, tables=("masks",)):
    manifest = SimpleNamespace(items=len(names), left_out=2, omissions=(OMISSION,))
    ledger = runs.load_ledger(attempt.uri)
    return summaries.count(ledger, manifest, [item_keys(names)], CLASSES, tables)


@pytest.fixture
def scored(tmp_path):
    attempt = begin(str(tmp_path / "run"), fingerprint=FINGERPRINT)
    optional = [replace(unit, optional=True) for unit in (image("a"), *video("clip", 2, 3))]
    commit(attempt, *optional)
    commit(attempt, image("z bad", failed=True), image("bad", failed=True), broken(video("half", 2, 2)[1], frames=1))
    commit(attempt, video("half", 2, 2)[0])
    return attempt


def test_counts_and_failures_by_reason_have_an_example(scored):
    found = counted(scored, "a", "clip", "z bad", "bad", "half", tables=("masks", "regions"))

    assert found["items"] == {"total": 5, "scored": 2, "failed": 3, "not_in_manifest": 0}
    assert found["frames"] == 1 + 5 + 1 + 2
    assert found["failures"] == {"DecodeError": 3}
    [reason] = found["failure_reasons"]
    assert reason == {"stage": "decode", "error_type": "DecodeError", "units": 3, "example_item_id": "bad"}
    assert found["failures"] == dict(runs.failure_kinds(runs.load_ledger(scored.uri)))
    assert sum(each["ratio"] for each in found["classes"]) == pytest.approx(1)


def test_regions_are_counted_by_class_where_the_run_has_the_table(scored):
    names = ("a", "clip", "z bad", "bad", "half")
    regions = counted(scored, *names, tables=("masks", "regions"))["regions"]
    rows = runs.read_ledger(runs.load_ledger(scored.uri)).regions()

    assert rows.num_rows == regions["count"] == 6
    background, peel = regions["classes"]
    assert (background["count"], background["largest_px"]) == (None, None)
    assert peel["pixels"] == sum(rows.column("pixels").to_pylist())
    assert peel["largest_px"] == max(rows.column("pixels").to_pylist())
    assert counted(scored, *names)["regions"] is None


def test_a_run_without_any_region_has_zeros(tmp_path):
    attempt = begin(str(tmp_path / "run"), fingerprint=FINGERPRINT)
    commit(attempt, image("a"))

    regions = counted(attempt, "a", tables=("regions",))["regions"]
    assert regions["count"] == 0
    assert regions["classes"][1] == {"id": 1, "name": CLASSES[1], "count": 0, "pixels": 0, "largest_px": 0}


def test_an_item_without_a_result_keeps_the_run_from_being_published(scored):
    with pytest.raises(ResumableError, match="1 of 6 items have neither a result nor a failure"):
        counted(scored, "a", "clip", "z bad", "bad", "half", "new")


def test_a_reader_of_a_ledger_reads_it_and_nothing_newer(scored):
    ledger = runs.load_ledger(scored.uri)
    run = runs.read_ledger(ledger)
    commit(scored, image("later"))

    assert set(run.masks(columns=["item_id"]).column("item_id").to_pylist()) == {"a", "clip", "half"}
    assert sum(batch.num_rows for batch in run.iter_batches("masks", columns=["item_id"])) == 9
    assert not run.finished


def test_the_summary_of_an_earlier_publication_is_found(scored):
    assert summaries.earlier_summary(scored.uri) == {}
    publish(scored.uri, {"items": {}, "frames": 9, "work": {"starts": 1}})

    assert summaries.earlier_summary(scored.uri)["work"] == {"starts": 1}


def test_people_read_a_line_for_each_subject(scored):
    names = ("a", "clip", "z bad", "bad", "half")
    described = {"items": 2, "mean": 0.41838, "min": 0, "p05": 0, "p50": 0, "p95": 0, "max": 1}
    entries = {
        "figures": {"confidence": described, "uncertain_share": None, "brightness": {**described, "mean": 100.9}},
        "metrics": {
            "items": 12,
            "miou": 0.85,
            "accuracy": None,
            "classes": [
                {"name": "background", "iou": 0.99},
                {"name": "peel\x1b", "iou": 0.71},
                {"name": "c", "iou": None},
            ],
            "intervals": {"miou": {"low": 0.8, "high": 0.9}},
        },
        "drift": {
            "against": "runs/reference",
            "verdict": "data",
            "alarms": [{"name": "peel", "statistic": "psi", "value": 0.34, "limit": 0.12}],
        },
        "work": {
            "frames_per_s": 51.24,
            "job_frames_per_s": 40.0,
            "bare_session_share": 0.934,
            "cpu_seconds": 12.5,
            "gpu_seconds": 0.0,
            "bytes_read": 2_500_000,
            "bytes_written": 100_000,
            "stages": [{"stage": "decode", "cpu_seconds": 4.0}, {"stage": "infer", "cpu_seconds": 0.0}],
            "cost": {"per_million_frames": 6803.5},
        },
        "gates": [{"option": None, "passed": True}, {"option": "--fail-if", "passed": False}],
    }
    lines = table(counted(scored, *names, tables=("regions",)) | entries).splitlines()[-11:]

    assert lines == [
        "2 of 5 items scored, 9 frames, 3 failed (3 DecodeError), 2 files left out",
        f"left out: {OMISSION}",
        "failed in decode: 3 DecodeError, such as bad",
        "means over items: confidence 0.418, brightness 101",
        "6 regions: 6 peel",
        "labels of 12 items: mIoU 0.8500 (0.8000 to 0.9000), accuracy null",
        r"IoU, lowest first: 0.7100 peel\u001b, 0.9900 background",
        "against runs/reference: data, 1 alarm: psi of peel is 0.3400, limit 0.1200",
        "51.24 frames/s of scoring, 40 of the job; the model computes 93.4% of the actors' time",
        "CPU 12.5 s (decode 4); read 2.5 MB, wrote 0.1 MB; a million frames cost 6,804",
        "gates: 0 of 1 passed",
    ]


def test_people_read_only_what_there_is(scored):
    names = ("a", "clip", "z bad", "bad", "half")
    nothing = {
        "figures": {"confidence": None},
        "metrics": None,
        "drift": None,
        "work": None,
        "gates": [{"option": None, "passed": True}],
    }
    lines = table(counted(scored, *names) | nothing).splitlines()

    assert lines[-1] == "failed in decode: 3 DecodeError, such as bad"


def test_too_few_items_are_not_called_the_same(scored):
    """A run without a scored item was "same, 0 alarms"."""
    drift = {
        "against": "runs/reference",
        "verdict": "same",
        "alarms": [],
        "classes": [],
        "inputs": [],
        "confidence": [],
    }
    nothing = {"figures": {}, "metrics": None, "work": None, "gates": []}

    unjudged, judged = (
        table(counted(scored, "a") | nothing | {"drift": drift | {"inputs": [{"limits": limits}]}}).splitlines()[-1]
        for limits in ({"psi": None}, {"psi": 0.2})
    )

    assert unjudged.startswith("against runs/reference: drift was not judged, because one of the runs has fewer than ")
    assert judged == "against runs/reference: same, 0 alarms"
