"""`fsf trend`: the nights of a series against a reference, as printed, written and drawn."""

import json
from pathlib import Path

import numpy as np
import pytest

from fsf_core.cli.app import main
from fsf_core.nights.pins import pin
from fsf_core.report.trend_page import trend_page
from fsf_core.runs import RunReader
from tests.support import html_pages, ledger
from tests.support.made_runs import make_run

NAMES = ("background", "rot <b>")
_FINGERPRINT = {"classes": ["background", "peel"], "palette": [[0, 0, 0], [200, 0, 0]]}


def night(folder: Path, name: str, seed: int, *, light: float = 120, items: int = 100, **options) -> str:
    generator = np.random.default_rng(seed)
    rot = generator.beta(2, 20, items)
    figures = {"brightness": generator.normal(light, 5, items)}
    options = {"figures": figures, "class_names": NAMES, "item_ids": [f"{name}/{k}" for k in range(items)], **options}
    return make_run(str(folder / name), np.column_stack([1 - rot, rot]), **options)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Nights from the 10th to the 16th: dark on the 13th, none on the 14th, all failed on the 15th, the 16th begun."""
    folder = tmp_path / "runs"
    for day, options in {
        10: {}, 11: {}, 12: {}, 13: {"light": 60}, 15: {"items": 0, "failed": ["a", "b"]}, 16: {"finished": False},
    }.items():  # fmt: skip
        night(folder, f"2026-11-{day}", day, **options)
    return folder


def trend(capsys, *words: str):
    code = main(["trend", *map(str, words)])
    lines = capsys.readouterr().out.splitlines()
    return code, json.loads(lines[-1]) if lines else None, lines


def test_every_night_of_a_series_is_compared_with_the_oldest(series, capsys, tmp_path):
    code, found, lines = trend(capsys, series, "--out", tmp_path / "out")

    assert code == 0
    assert [(one["name"][-2:], one["state"]) for one in found["nights"]] == [
        ("10", "finished"), ("11", "finished"), ("12", "finished"), ("13", "finished"), ("15", "finished"),
        ("16", "unfinished"),
    ]  # fmt: skip
    assert [one["is_reference"] for one in found["nights"]] == [True, *[False] * 5]
    assert [(one["items"], one["failed"]) for one in found["nights"]] == [*[(100, 0)] * 4, (2, 2), (100, 0)]
    assert found["missing"] == ["2026-11-14"]
    brightness = found["inputs"][0]
    assert brightness["alarms"] == [False, False, False, True, None, False]
    assert [value is None for value in brightness["values"]] == [False] * 4 + [True, False]
    assert [one["verdict"] for one in found["nights"]][3] == "data"
    assert any("2026-11-13" in line and "brightness" in line for line in lines)
    assert json.loads((tmp_path / "out" / "trend.json").read_text()) == found
    page = (tmp_path / "out" / "trend.html").read_text()
    assert "rot &lt;b&gt;" in page
    assert "rot <b>" not in page


def test_a_pinned_run_or_that_of_against_is_the_reference(series, capsys):
    pin(str(series / "2026-11-12"), "good light")

    assert trend(capsys, series)[1]["reference"]["run"].endswith("2026-11-12")
    found = trend(capsys, series, "--against", series / "2026-11-13")[1]
    assert found["reference"]["run"].endswith("2026-11-13")
    assert found["inputs"][0]["alarms"][:4] == [True, True, True, False]


def test_runs_are_taken_in_the_order_given(series, capsys):
    found = trend(capsys, series / "2026-11-12", series / "2026-11-10")[1]

    assert [one["name"] for one in found["nights"]] == ["2026-11-12", "2026-11-10"]
    assert found["reference"]["run"].endswith("2026-11-12")


def test_a_template_and_the_newest_nights_of_it_can_be_given(series, capsys):
    found = trend(capsys, series / "{date}", "--last", "2", "--against", series / "2026-11-10")[1]

    assert [one["name"] for one in found["nights"]] == ["2026-11-15", "2026-11-16"]


def test_labels_are_not_read_for_a_trend_which_shows_no_metrics(series, capsys, monkeypatch):
    """Their intervals were drawn anew for every night."""
    read = []
    monkeypatch.setattr(RunReader, "confusion", lambda run: read.append(run.uri))

    assert trend(capsys, series)[0] == 0
    assert read == []


def test_damaged_nights_are_shown_as_such(series, capsys):
    (series / "2026-11-11" / "run.json").write_text("{")
    for file in (series / "2026-11-12" / "class_stats").glob("*.parquet"):
        file.write_bytes(b"torn")

    code, found, _ = trend(capsys, series)

    assert code == 0
    assert [one["state"] for one in found["nights"]][1:3] == ["unreadable", "unreadable"]
    assert "cannot be read" in found["nights"][2]["error"]


def test_a_folder_of_two_series_is_refused(series, capsys):
    night(series, "orchard-2026-11-10", 1)

    assert trend(capsys, series)[0] == 2
    assert main(["trend", str(series)]) == 2
    assert "holds 2 series, expected one; give" in capsys.readouterr().err


def test_without_a_finished_run_there_is_no_reference(tmp_path, capsys):
    night(tmp_path, "2026-11-10", 1, finished=False)

    assert main(["trend", str(tmp_path)]) == 2
    assert "name one with --against" in capsys.readouterr().err


def test_a_night_that_failed_is_not_judged_and_part_of_a_video_counts_as_failed(tmp_path, capsys):
    first = night(tmp_path, "first", 1)
    with ledger.claim_run(str(tmp_path / "second"), fingerprint=_FINGERPRINT, details={}) as attempt:
        start, end = ledger.video("clip", 3, 3)
        ledger.commit(attempt, start, ledger.broken(end, frames=1), ledger.image("x"), ledger.image("y", failed=True))
    _, found, lines = trend(capsys, first, tmp_path / "second", "--against", first)

    assert [(one["items"], one["failed"], one["judged"]) for one in found["nights"]] == [(100, 0, True), (3, 2, False)]
    assert "not judged" in next(line for line in lines if line.startswith("second"))


def test_the_page_names_each_alarm_of_a_night_once(series, tmp_path, capsys):
    dark = night(series, "dark", 20, light=60, items=200)
    found = trend(capsys, series / "2026-11-10", dark)[1]
    alarms = [
        {"name": name, "statistic": statistic, "value": 0.5, "limit": 0.1, "of": "classes"}
        for name in ("rot <b>", "background")
        for statistic in ("presence", "js")
    ]
    found["nights"][1]["alarms"] = alarms
    page = html_pages.parse(trend_page(found))

    assert " presence 0.5,  presence 0.5" in [each.text for each in page.all("td")]
