"""Which runs may go: rules over dates and states."""

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsf_core.errors import ConfigError
from fsf_core.nights.retention import Retention, Uses, parse_keep, reasons_to_keep, reuses, used_bundles
from fsf_core.nights.series import Night
from fsf_core.nights.states import NightState

NOW = dt.datetime(2026, 11, 27, 14, 30, tzinfo=dt.UTC)


def state(age_d, state="finished", *, pinned=False, started_d=None, reuses=(), bundle="s3://models/b"):
    """Return the state of the night some days ago."""
    moment = dt.datetime(2026, 11, 27) - dt.timedelta(days=age_d)  # noqa: DTZ001 - folders have no zone
    started = (NOW - dt.timedelta(days=age_d if started_d is None else started_d)).isoformat()
    attempt = {"started_at": started, "bundle": bundle}
    attempts = [attempt, *({**attempt, "reuse": {"run": "?", "run_id": other}} for other in reuses)]
    known = {} if state in {"none", "leases"} else {"run_id": f"id-{age_d}", "attempts": attempts}
    path = f"{moment:%Y-%m-%d}"
    night = Night(moment=moment, path=path, uri=f"s3://scores/{path}")
    return NightState(night=night, state=state, known=known, pinned=pinned)


def kept(*states, keep="30d", keep_last=None, named=""):
    """Return the ages, in days, of the runs that stay, with the reasons."""
    rules = Retention(keep=parse_keep(keep), keep_last=keep_last, now=NOW)
    newest_first = sorted(states, key=lambda each: each.night.moment, reverse=True)
    uses = Uses(reused=reuses(states), bundles=used_bundles(states), named=named)
    reasons = reasons_to_keep(newest_first, rules, uses)
    return {(NOW.date() - dt.date.fromisoformat(path)).days: reason for path, reason in reasons.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", dt.timedelta(30)),
        ("12w", dt.timedelta(84)),
        ("48h", dt.timedelta(2)),
        ("0d", dt.timedelta(0)),
    ],
)
def test_an_age_is_a_number_of_hours_days_or_weeks(text, expected):
    assert parse_keep(text) == expected
    assert parse_keep(None) is None


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5d", "30D", "1m", "30 d", "999999d", "\u0663d"])
def test_an_age_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="expected an age such as 30d, 12w or 48h"):
        parse_keep(text)


def test_nights_within_the_limit_stay_and_older_ones_go():
    assert [*kept(*map(state, (0, 1, 29, 30, 31, 400)))] == [0, 1, 29, 30]
    assert [*kept(state(0), state(1), state(2), keep="0d")] == [0]
    assert [*kept(state(0), state(1), state(2), keep="24h")] == [0, 1]


def test_a_future_night_stays():
    assert [*kept(state(-3, "unfinished"), state(0), keep="0d")] == [-3, 0]


def test_the_newest_finished_run_stays_whatever_its_age():
    found = kept(state(300, "unfinished"), state(400), state(500))
    assert found == {400: "it is the newest finished run"}


def test_the_newest_n_finished_runs_stay():
    states = [state(1, "unfinished"), state(2), state(3, "unfinished"), state(4), state(5), state(6)]
    assert [*kept(*states, keep=None, keep_last=3)] == [1, 2, 3, 4, 5]
    assert [*kept(*states, keep="1d", keep_last=2)] == [1, 2, 4]


def test_pinned_named_reused_and_unreadable_runs_stay():
    found = kept(
        state(0), state(40, pinned=True), state(41), state(42), state(43, "unreadable"),
        state(44, "unfinished", pinned=True), state(2, "unfinished", reuses=["id-42"]), named=state(41).night.path,
    )  # fmt: skip
    assert found == {
        0: "it is the newest finished run",
        2: "it is younger than the limit",
        40: "it is pinned",
        41: "the pointer names it",
        42: "2026-11-25 has not finished and needs it",
        43: "its run.json cannot be read",
        44: "it is pinned",
    }


def test_a_run_that_a_finished_one_has_reused_may_go():
    assert [*kept(state(0, reuses=["id-40"]), state(40))] == [0]


def test_an_unfinished_run_goes_once_its_date_and_its_last_start_are_old():
    found = kept(state(0), state(40, "unfinished"), state(41, "unfinished", started_d=2))
    assert found[41] == "it has not finished, and was started within the limit"
    assert 40 not in found


def test_a_run_whose_bundle_others_were_scored_with_stays():
    inside = state(60).night.uri + "/bundle"
    assert 60 in kept(state(0, bundle=inside), state(60, bundle=inside))
    assert kept(state(0, bundle=inside), state(60))[60] == "2026-11-27 was scored with its bundle"
    assert 60 not in kept(state(0), state(60, bundle=inside))
    assert 61 not in kept(state(0, bundle=inside), state(61)), "another run"


def test_folders_that_are_no_runs_and_runs_that_are_being_removed_are_not_kept_as_runs():
    assert [*kept(state(0), state(50, "none"), state(51, "leases"), state(1, "removing"))] == [0]


STATES = st.lists(
    st.tuples(
        st.integers(0, 80), st.sampled_from(["finished", "unfinished", "removing", "unreadable", "none"]),
        st.booleans(), st.integers(0, 80), st.lists(st.integers(0, 80).map("id-{}".format), max_size=2),
    ),
    unique_by=lambda each: each[0],
)  # fmt: skip


@settings(deadline=None)
@given(drawn=STATES, keep_d=st.one_of(st.none(), st.integers(0, 60)), keep_last=st.one_of(st.none(), st.integers(1, 5)))
def test_no_run_that_must_stay_ever_goes(drawn, keep_d, keep_last):
    states = [
        state(age, kind, pinned=pinned, started_d=min(started, age), reuses=reused)
        for age, kind, pinned, started, reused in drawn
    ]
    found = kept(*states, keep=None if keep_d is None else f"{keep_d}d", keep_last=keep_last)
    finished = sorted(age for age, kind, *_ in drawn if kind == "finished")
    wanted = {run for _, kind, _, _, reused in drawn if kind == "unfinished" for run in reused}
    for age, kind, pinned, started, _ in drawn:
        if kind in {"none", "removing"}:
            assert age not in found
        elif kind == "unreadable" or pinned or age in finished[: keep_last or 1] or f"id-{age}" in wanted:
            assert age in found
        elif keep_d is None:
            assert (age in found) == (kind == "unfinished")
        else:
            young = age <= keep_d or (kind == "unfinished" and min(started, age) <= keep_d)
            assert (age in found) == young


def test_a_run_that_an_unfinished_one_is_compared_with_stays():
    attempts = [{"started_at": NOW.isoformat(), "against": {"given": "x", "run": "?", "run_id": "id-50"}}]
    comparing = state(0, "unfinished")
    comparing.known["attempts"] += attempts

    assert "needs it" in kept(comparing, state(1), state(50))[50]
    assert 50 not in kept(state(0), state(1), state(50))
