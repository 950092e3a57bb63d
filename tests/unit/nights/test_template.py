"""Templates: what they become on a date, and which date a folder has; and the option --date."""

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsf_core.errors import ConfigError
from fsf_core.nights.template import (
    fill,
    is_range,
    now_in,
    parse_date,
    parse_range,
    parse_template,
    require_known_names,
)

NOW = dt.datetime(2026, 11, 22, 3, 4, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/today", "runs/today"),
        ("s3://b/scores/date={date}", "s3://b/scores/date=2026-11-22"),
        ("s3://b/{date:%Y/%m/%d/%H}/run", "s3://b/2026/11/22/03/run"),
        ("odd{", "odd{"),
        ("day == '{date}' and plot in ('{a}', '{b,c}')", "day == '2026-11-22' and plot in ('{a}', '{b,c}')"),
        ("s3://data/day={date:%Y%m%d}/*.{jpg,png}", "s3://data/day=20261122/*.{jpg,png}"),
        ("{date}..{date:}", "2026-11-22..2026-11-22"),
    ],
)
def test_dates_are_filled_in_and_other_braces_stay(text, expected):
    assert fill(text, NOW) == expected


def test_an_unknown_name_in_the_folder_is_refused():
    with pytest.raises(ConfigError, match=r"\['\{day\}'\], expected \{date\} or"):
        require_known_names("runs/{day}/{date}")
    require_known_names("odd{/{date}/{date:%H}")


@pytest.mark.parametrize(
    ("out", "root", "written", "pointer"),
    [
        ("s3://scores/date={date}", "s3://scores", "date={date}", "latest"),
        ("s3://b/scores/{date:%F}/", "s3://b/scores", "{date}", "latest"),
        ("/runs/orchard-{date}", "/runs", "orchard-{date}", "orchard-latest"),
        ("/runs/{date}-b", "/runs", "{date}-b", "latest-b"),
        ("/{date}", "/", "{date}", "latest"),
        ("gs://b/year={date:%Y}/month={date:%m}/day={date:%d}", "gs://b", None, "latest"),
        ("/r/{date:%Y/%m/%d}/shard-1", "/r", None, "latest-shard-1"),
        ("/r/n{date:%Y}{date:%m}/x", "/r", None, "nlatest-x"),
    ],
)
def test_a_template_is_a_folder_and_a_path_with_the_date(out, root, written, pointer):
    template = parse_template(out)

    assert (template.root, template.pointer) == (root, pointer)
    assert template.written == (written or template.path)
    assert template.readable
    assert template.folder(NOW) == fill(out, NOW).rstrip("/")


@pytest.mark.parametrize("out", ["s3://scores/today", "/runs/{a}", "s3://scores-{date}/run", "s3://{date}"])
def test_what_has_no_date_below_a_fixed_folder_is_no_series(out):
    assert parse_template(out) is None


@pytest.mark.parametrize(
    "form", ["%d", "%H", "%Y/%H", "%Y/%d", "%c", "%-d.%m.%Y", "%Y-%m-%d %I", "fixed", "%s", "%Y%U"]
)
def test_a_template_whose_folders_do_not_show_their_date_is_not_readable(form):
    assert not parse_template(f"/runs/{{date:{form}}}").readable


FORMS = [
    "{date}", "date={date}", "{date:%Y%m%d}", "{date:%Y/%m/%d}", "y={date:%Y}/d={date:%j}/run.x", "{date:%d.%m.%y}",
    "{date:%G-W%V-%u}", "{date:%b %d %Y}", "100%{date}", "a[b]({date})*", "{date:%Y}/{date}", "{date:%F}/{date:%F}",
    "{date:%%%Y%%-%m-%d}", "{date:%B}-{date:%A}-{date:%d}-{date:%Y}",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None)
@given(day=st.dates(dt.date(1990, 1, 1), dt.date(2040, 1, 1)))
def test_the_date_of_a_folder_is_the_one_that_made_it(form, day):
    template = parse_template(f"/runs/{form}")
    moment = dt.datetime.combine(day, dt.time())
    path = template.folder(moment).removeprefix("/runs/")

    assert template.readable
    assert template.moment(path) == moment


@settings(deadline=None)
@given(moment=st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2040, 1, 1)))  # noqa: DTZ001 - folders have no zone
def test_hours_and_minutes_are_read_back(moment):
    template = parse_template("/runs/{date:%Y-%m-%dT%H%M%S}")

    assert template.has_times
    assert template.moment(template.folder(moment).removeprefix("/runs/")) == moment.replace(microsecond=0)


def test_months_and_weeks_have_their_first_day():
    assert parse_template("/r/{date:%Y-%m}").moment("2026-11") == dt.datetime(2026, 11, 1)  # noqa: DTZ001 - as above
    assert parse_template("/r/{date:%G-W%V}").moment("2026-W48") == dt.datetime(2026, 11, 23)  # noqa: DTZ001 - as above


@pytest.mark.parametrize(
    "path",
    [
        "2026-13-01",
        "2026-02-30",
        "2026-11-2",
        "2026-11-020",
        "x2026-11-20",
        "2026-11-20 ",
        "latest",
        ".nights",
        "",
        "\u0662\u0660\u0662\u0666-11-20",
    ],
)
def test_a_folder_that_the_template_does_not_make_has_no_date(path):
    assert parse_template("/r/{date}").moment(path) is None


def test_templates_of_one_folder_have_different_identities():
    outs = ["/r/{date}", "/r/date={date}", "/r/{date:%Y%m%d}", "/r/{date}/a", "/r/{date}-a", "/r/a-{date}"]

    assert len({parse_template(out).identity for out in outs}) == len(outs)
    assert parse_template("/r/{date}/").identity == parse_template("/r/{date:%Y-%m-%d}").identity


# --- --date ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20", "2026-11-20 00:00"),
        ("2026-11-20T05", "2026-11-20 05:00"),
        ("2026-11-20T05:30", "2026-11-20 05:30"),
        ("today", "2026-11-22 03:04"),
        ("yesterday", "2026-11-21 03:04"),
        ("2024-02-29", "2024-02-29 00:00"),
        ("2026-11-22", "2026-11-22 00:00"),
    ],
)
def test_a_date_is_a_day_with_or_without_a_time_or_a_word(text, expected):
    assert f"{parse_date(text, NOW):%Y-%m-%d %H:%M}" == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-11-23", "is in the future: it is 2026-11-22 03:04 in the time zone UTC"),
        ("2026-11-22T03:05", "is in the future"),
        ("2026-02-30", "there is no such day"),
        ("2026-11-20T25", "there is no such day"),
        ("20261120", "expected a day such as"),
        ("20.11.2026", "expected a day such as"),
        ("2026-W47-5", "expected a day such as"),
        ("tomorrow", "expected a day such as"),
        ("", "expected a day such as"),
        ("2026-11-20 ", "expected a day such as"),
        ("\uff12\uff10\uff12\uff16-11-20", "expected a day such as"),
    ],
)
def test_a_date_that_is_none_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_date(text, NOW)


def test_a_range_holds_both_ends():
    days = [f"{day:%d}" for day in parse_range("2026-11-18..2026-11-20", NOW)]

    assert days == ["18", "19", "20"]
    assert [f"{day:%m-%d}" for day in parse_range("2026-11-20..", NOW)] == ["11-20", "11-21", "11-22"]
    assert [f"{day:%m-%d}" for day in parse_range("yesterday..today", NOW)] == ["11-21", "11-22"]
    assert len(parse_range("2026-11-20..2026-11-20", NOW)) == 1
    assert is_range("2026-11-20..")
    assert not is_range("2026-11-20")
    assert not is_range(None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-11-20..2026-11-18", "whose first day is after its last"),
        ("2026-11-20..2026-11-23", "is in the future"),
        ("..2026-11-20", "expected a day such as"),
        ("2026-11-20T03..2026-11-21", "expected days in a range"),
        ("2026-11-18..2026-11-19..2026-11-20", "expected a day such as"),
        ("2026-11-20...2026-11-21", "expected a day such as"),
    ],
)
def test_a_range_that_is_none_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_range(text, NOW)


def test_the_day_is_that_of_the_time_zone():
    kiritimati, west = now_in("Pacific/Kiritimati"), now_in("Etc/GMT+12")

    assert (kiritimati.date() - west.date()).days in {1, 2}
    assert now_in("utc").tzinfo is now_in("Etc/UTC").tzinfo is dt.UTC


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "/etc/passwd", "../UTC", "Europe"])
def test_an_unknown_time_zone_is_refused(zone):
    with pytest.raises(ConfigError, match="--timezone is"):
        now_in(zone)
