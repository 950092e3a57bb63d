"""Which nights the options mean, which run a night reuses, and how a range of nights ends; no job runs."""

import contextlib
import datetime as dt
import logging

import pytest

from fsf_core import runs, storage
from fsf_core.config import ScoreConfig
from fsf_core.errors import (
    BundleError,
    ClusterError,
    ConfigError,
    GateError,
    InterruptedRunError,
    ManifestError,
    OutputError,
    ResumableError,
)
from fsf_core.nights import template
from fsf_core.score import job, nights
from tests.support import ledger

ITEMS = {"total": 2, "scored": 1, "failed": 1, "not_in_manifest": 0}
FACTS = {"bundle_sha256": "ab" * 32, "classes": list(ledger.CLASSES), "manifest": "m"}


@pytest.fixture(autouse=True)
def today(monkeypatch):
    def now_in(zone):
        return dt.datetime(2026, 11, 22, 3, 4, tzinfo=dt.UTC)

    monkeypatch.setattr(template, "now_in", now_in)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    """Let a range that has several nights to score start no Ray."""
    monkeypatch.setattr(nights, "connected_cluster", lambda _: contextlib.nullcontext())


def config(out="/runs/{date}", **options):
    return ScoreConfig(**{"bundle": "bundle", "manifest": "photos", "out": str(out), **options})


def planned(**options):
    return nights.plan_nights(config(**options))


# --- which nights ---


def test_without_a_date_it_is_today():
    (night,) = planned()
    assert (night.out, night.path, night.config.out) == ("/runs/2026-11-22", "2026-11-22", "/runs/2026-11-22")


def test_the_date_is_filled_into_the_list_the_filter_and_the_tables():
    (night,) = planned(
        date="2026-11-20", manifest="s3://data/day={date}/*.{jpg,png}", where="day == '{date:%Y%m%d}' and a == '{b}'",
        delta="s3://tables/{date:%Y}",
    )  # fmt: skip
    found = night.config
    assert found.manifest == "s3://data/day=2026-11-20/*.{jpg,png}"
    assert (found.where, found.delta) == ("day == '20261120' and a == '{b}'", "s3://tables/2026")
    assert found.date is None


def test_without_a_template_for_the_folder_everything_stays_as_it_is_written():
    (night,) = planned(out="/runs/tonight", manifest="odd/{date}.csv", where="id == '{date}'")
    assert (night.series, night.out, night.path) == (None, "/runs/tonight", "")
    assert night.config == config(out="/runs/tonight", manifest="odd/{date}.csv", where="id == '{date}'")


def test_a_range_is_a_night_for_every_folder():
    assert [night.path for night in planned(date="2026-11-19..")] == [f"2026-11-{day}" for day in range(19, 23)]
    months = planned(out="/runs/{date:%Y-%m}", date="2026-09-30..2026-11-02")
    assert [night.path for night in months] == ["2026-09", "2026-10", "2026-11"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "/runs/tonight", "date": "2026-11-20"}, "--date is given and --out is /runs/tonight, expected"),
        ({"out": "/runs/tonight", "reuse": "latest"}, "--reuse latest is given and --out is /runs/tonight"),
        ({"out": "/runs/{date:%d}", "reuse": "latest"}, "--reuse latest needs folders that show their date"),
        ({"out": "s3://scores-{date}/run", "reuse": "latest"}, "--reuse latest needs folders that show their date"),
        ({"out": "/runs/{date:%F-%H}", "date": "2026-11-19..2026-11-20"}, "--out has a time of the day"),
        ({"out": "/runs/{day}/{date}"}, "expected {date} or {date:FORMAT}; correct it"),
        ({"date": "2026-11-23"}, "which is in the future"),
    ],
)
def test_options_that_need_a_template_are_refused_without_a_fitting_one(options, message):
    with pytest.raises(ConfigError) as caught:
        planned(**options)
    assert message in str(caught.value)


# --- which run is reused ---


def run_of(uri, *, facts=FACTS, finished=True, details=None):
    with ledger.claim_run(str(uri), fingerprint=facts, details=details or {}) as attempt:
        ledger.commit(attempt, ledger.image("a"))
        if finished:
            ledger.publish(attempt, {"items": ITEMS, "frames": 1, "out": str(uri)})
    return str(uri)


def reused(folder, night="2026-11-22", reuse="latest", facts=FACTS):
    (job,) = planned(out=f"{folder}/{{date}}", reuse=reuse, date=night)
    found = nights.find_reused(job, facts)
    return found and found.uri


def test_latest_is_the_newest_finished_run_of_the_series_but_this_one(tmp_path):
    assert reused(tmp_path) is None
    for name in ("2026-11-19", "2026-11-18", "2026-11-22", "other"):
        run_of(tmp_path / name)
    run_of(tmp_path / "2026-11-20", finished=False)

    assert reused(tmp_path) == str(tmp_path / "2026-11-19")
    assert reused(tmp_path, night="2026-11-19") == str(tmp_path / "2026-11-22"), "a night that is caught up"
    assert reused(tmp_path, reuse=str(tmp_path / "other")) == str(tmp_path / "other")


def test_a_run_of_another_model_is_passed_over_with_a_note(tmp_path, caplog):
    run_of(tmp_path / "2026-11-18")
    run_of(tmp_path / "2026-11-19", facts=FACTS | {"bundle_sha256": "cd" * 32})
    with caplog.at_level(logging.INFO):
        assert reused(tmp_path, facts=FACTS | {"manifest": "another"}) == str(tmp_path / "2026-11-18")
    assert "2026-11-19 reason='bundle_sha256 differs'" in caplog.text


def test_a_damaged_run_is_passed_over_with_a_warning(tmp_path, caplog):
    run_of(tmp_path / "2026-11-18")
    (tmp_path / run_of(tmp_path / "2026-11-19") / "run.json").write_text("{")

    assert reused(tmp_path) == str(tmp_path / "2026-11-18")
    assert "event=reuse_failed" in caplog.text


def test_only_the_newest_runs_are_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(nights, "MAX_TRIED", 2)
    run_of(tmp_path / "2026-11-17")
    for day in (18, 19):
        run_of(tmp_path / f"2026-11-{day}", facts=FACTS | {"bundle_sha256": "cd" * 32})
    assert reused(tmp_path) is None


def test_a_resumed_night_reuses_the_run_that_it_began_with(tmp_path):
    run_of(tmp_path / "2026-11-17")
    (job,) = planned(out=f"{tmp_path}/{{date}}", reuse="latest", date="2026-11-22")
    record = nights.reuse_record(nights.find_reused(job, FACTS))
    run_of(tmp_path / "2026-11-22", finished=False, details=record)
    run_of(tmp_path / "2026-11-20")

    assert reused(tmp_path) == str(tmp_path / "2026-11-17")
    known = runs.read_document(str(tmp_path / "2026-11-17"), "run.json")
    assert record == {"reuse": {"run": str(tmp_path / "2026-11-17"), "run_id": known["run_id"]}}
    storage.remove_folder(str(tmp_path / "2026-11-17"))
    assert reused(tmp_path) == str(tmp_path / "2026-11-20")


def test_a_run_that_vanished_since_it_was_chosen_is_not_reused(tmp_path, caplog):
    run_of(tmp_path / "2026-11-17")
    (job,) = planned(out=f"{tmp_path}/{{date}}", reuse="latest", date="2026-11-22")
    earlier = nights.find_reused(job, FACTS)
    assert nights.still_reusable(earlier) is earlier
    storage.remove_folder(str(tmp_path / "2026-11-17"))

    assert nights.still_reusable(earlier) is None
    assert "event=reuse_failed" in caplog.text
    assert nights.still_reusable(None) is None
    assert nights.reuse_record(None) == {}


# --- how a range ends ---


class Scoring:
    """Scores nights: makes a run, or raises what a night is to raise."""

    def __init__(self, **errors):
        self.errors = {name.removeprefix("d").replace("_", "-"): error for name, error in errors.items()}
        self.scored = []

    def __call__(self, night):
        error = self.errors.get(night.path[-2:])
        if error:
            raise error
        self.scored.append(night.path[-2:])
        with ledger.claim_run(night.out, fingerprint=FACTS, details={}) as attempt:
            ledger.commit(attempt, ledger.image("a"))
            summary = {"items": ITEMS, "frames": 1, "seconds": 1.5, "out": night.out}
            ledger.publish(attempt, summary)
        return summary


def score_range(folder, scoring, **options):
    jobs = planned(out=f"{folder}/{{date}}", **{"date": "2026-11-18..2026-11-20", **options})
    return nights.score_nights(jobs, scoring)["nights"]


def states(entries):
    return [entry["state"] for entry in entries]


@pytest.mark.parametrize("finished", [1, 3])
@pytest.mark.parametrize("gate", ["iou.b < 1", "falied > 3"])
def test_a_mistyped_gate_refuses_all_nights_even_where_some_have_finished(tmp_path, finished, gate):
    """It was judged without a value on the finished ones, and refused each of the others: exit code 3."""
    for day in range(18, 18 + finished):
        run_of(tmp_path / f"2026-11-{day}")
    model = {"bundle": None, "checkpoint": "w.pth", "net": "fastsegformer-p", "classes": ledger.CLASSES}
    range_of_nights = config(f"{tmp_path}/{{date}}", date="2026-11-18..2026-11-20", fail_if=(gate,), **model)
    with pytest.raises(ConfigError, match=r"unknown name (iou\.b|falied)"):
        job.score(range_of_nights)


def test_finished_nights_are_skipped_and_their_gates_judged_again(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run_of(tmp_path / "2026-11-18")
    scoring = Scoring()

    gates = {"max_failed_share": 0.1, "fail_if": ("failed_share > 0.2", "confidence < 0.5", "frames > 1")}
    first = score_range(tmp_path, scoring, **gates)
    again = score_range(tmp_path, Scoring(), **gates)

    assert (states(first), scoring.scored) == (["finished", "scored", "scored"], ["19", "20"])
    assert states(again) == ["finished"] * 3
    assert [entry["gates"] for entry in again] == [entry["gates"] for entry in first]
    assert again[1]["items"]["failed"] == 1
    assert [sentence.partition(":")[0] for sentence in again[1]["gates"][1:]] == [
        "failed_share > 0.2 (failed_share is 0.5)",
        "confidence < 0.5 cannot be judged",
    ]
    assert "event=night_skipped run=" in caplog.text
    assert runs.find_run(f"{tmp_path}/latest") == f"{tmp_path}/2026-11-20"


@pytest.mark.parametrize("error", [ManifestError("no list"), OutputError("another run"), ConfigError("no column")])
def test_a_night_that_is_refused_for_its_list_or_folder_does_not_end_the_range(error, tmp_path):
    entries = score_range(tmp_path, Scoring(d18=error, d19=GateError("nearly all failed")))

    assert states(entries) == ["refused", "stopped", "scored"]
    assert entries[0]["error"] == f"{type(error).__name__}: {error}"
    assert entries[1]["gates"] == ["nearly all failed"]


def test_a_range_of_which_no_night_can_run_is_refused(tmp_path):
    errors = {f"d{day}": ManifestError(f"no list of {day}") for day in (18, 19, 20)}
    with pytest.raises(ManifestError, match="no list of 18"):
        score_range(tmp_path, Scoring(**errors))
    assert not tmp_path.joinpath("latest.json").exists()


def test_what_refuses_every_night_ends_the_range(tmp_path):
    scoring = Scoring(d18=BundleError("no bundle"))
    with pytest.raises(BundleError, match="no bundle"):
        score_range(tmp_path, scoring)
    assert scoring.scored == []
    with pytest.raises(ResumableError, match="no cluster; once that is corrected, the same command goes on"):
        score_range(tmp_path, Scoring(d19=ClusterError("no cluster")))
    with pytest.raises(ClusterError, match="no cluster"):
        score_range(tmp_path, Scoring(d19=ClusterError("no cluster")))


@pytest.mark.parametrize("error", [ResumableError("the store failed"), InterruptedRunError(15), KeyError("a bug")])
def test_what_ends_a_night_in_the_middle_ends_the_range_which_resumes_there(error, tmp_path):
    with pytest.raises(type(error)):
        score_range(tmp_path, Scoring(d19=error))
    scoring = Scoring()
    assert states(score_range(tmp_path, scoring)) == ["finished", "scored", "scored"]


def test_a_range_of_a_series_in_use_is_refused(tmp_path):
    (night,) = planned(out=f"{tmp_path}/{{date}}")
    scoring = Scoring()
    with night.series.locked(), pytest.raises(OutputError, match=r"the series .* is in use by process"):
        score_range(tmp_path, scoring)
    assert scoring.scored == []
