"""The page of `fsf report` in a real browser: it opens at once, requests nothing, and works by keyboard."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsf_core.analysis.drift import compare_runs
from fsf_core.analysis.drift.trend import NightRun, trend_document
from fsf_core.report.build import ReportRequest, write_report
from fsf_core.report.drift_page import drift_page
from fsf_core.report.trend_page import trend_page
from fsf_core.runs import open_run
from tests.support import axe
from tests.support.browser import Page, chromium
from tests.support.processes import fsf
from tests.support.synthetic_runs import Shape, make

OPEN_S, MAX_BYTES = 2.0, 15_000_000
HOSTILE = ("<script>window.hacked = 1</script>", "\" onload='window.hacked = 1'", "<img src=x onerror=window.hacked=1>")
LONG_NAMES = ("background", "a class with a name that no button of a phone holds " * 3, "果" * 70, "wind_scarring")
STATE = """
const shot = document.activeElement, dialog = document.querySelector("#viewer");
done({
  open: dialog.open, title: document.querySelector("#viewer-title").textContent,
  focus: document.activeElement.className || document.activeElement.id,
  panels: document.querySelector("#panels").dataset.count, hacked: window.hacked === undefined ? 0 : 1,
});
"""
TABLE = """
const rows = [...document.querySelectorAll("#item-table tbody tr")].map(row => [...row.cells].map(c => c.textContent));
done({rows, count: document.querySelector("#count").textContent});
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Reports of a small run with everything in it, and of a larger one."""
    home = tmp_path_factory.mktemp("runs")
    small = Shape(
        images=10, videos=1, video_frames=16, failures=3, pictures=6, ids=HOSTILE, reasons=HOSTILE, names=LONG_NAMES
    )  # fmt: skip
    large = Shape(images=1000, failures=5, pictures=6)
    for count, shape in ((10, small), (1000, large)):
        run = make(home / str(count), shape)
        code, output = fsf("report", run, "--out", str(home / f"{count}.html"), "--picture-px", "256")
        assert code == 0, output
        written = json.loads(output.splitlines()[-1])
        assert written["report"] == str(home / f"{count}.html")
        assert written["bytes"] == (home / f"{count}.html").stat().st_size < MAX_BYTES
    before, now = (open_run(str(home / name)) for name in ("1000", "10"))
    request = ReportRequest(pictures=0, side_px=64, access=None)
    write_report(now.uri, out=str(home / "change.html"), request=request, against=before.uri)
    (home / "drift.html").write_text(drift_page(compare_runs(before, now)), encoding="utf-8")
    nights = [NightRun(name=each.run_id, uri=each.uri, date=None, state="finished", run=each) for each in (before, now)]
    trend = trend_document(before, nights) | {"missing": ["2026-11-14"]}
    (home / "trend.html").write_text(trend_page(trend), encoding="utf-8")
    return {count: home / f"{count}.html" for count in (10, 1000)}


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        page.resize(1280, 900)
        yield page


def open_page(window: Page, path: Path) -> float:
    """Load a page; returns the seconds until it was ready."""
    window.requests()
    window.log("browser")
    started = time.monotonic()
    window.open(path)
    return time.monotonic() - started


@pytest.mark.parametrize("count", [10, 1000])
def test_a_report_opens_at_once_and_asks_for_nothing(window: Page, pages: dict[int, Path], count: int) -> None:
    window.open(Path("/dev/null"))
    seconds = open_page(window, pages[count])
    window.run("window.scrollTo(0, document.body.scrollHeight); setTimeout(() => done(1), 300)")

    assert seconds < OPEN_S
    assert window.requests() == [pages[count].as_uri()]
    assert window.log("browser") == []
    assert window.run("done([...document.images].filter(each => each.complete && !each.naturalWidth).length)") == 0
    assert window.run("done(document.documentElement.scrollWidth)") == 1280


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_either_theme(window: Page, pages: dict[int, Path], theme: str) -> None:
    open_page(window, pages[10])
    window.prefer(theme)

    assert axe.violations(window) == []
    window.run("document.querySelector('.shot').click(); setTimeout(() => done(1), 200)")
    assert axe.violations(window) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_the_pages_of_drift(window: Page, pages: dict[int, Path], theme: str) -> None:
    home = pages[10].parent
    for name in ("drift", "trend"):
        open_page(window, home / f"{name}.html")
        window.prefer(theme)

        assert axe.violations(window) == []
        assert window.log("browser") == []


@pytest.mark.parametrize("name", ["10", "change", "drift", "trend"])
def test_a_page_is_no_wider_than_a_phone(window: Page, pages: dict[int, Path], name: str) -> None:
    window.resize(400, 900)
    open_page(window, pages[10].parent / f"{name}.html")
    window.run("document.querySelectorAll('details').forEach(each => { each.open = true }); done(1)")
    width = window.run("done(document.documentElement.scrollWidth)")
    window.resize(1280, 900)

    assert width == 400


def test_the_pictures_are_used_by_keyboard(window: Page, pages: dict[int, Path]) -> None:
    open_page(window, pages[10])
    window.run("document.querySelector('#layers button').focus(); done(1)")
    for _ in range(12):
        window.press("Tab")
        if window.run(STATE)["focus"] == "shot":
            break
    window.press("Enter")
    first = window.run(STATE)
    window.press("ArrowRight")
    second = window.run(STATE)
    window.press("c", "+", "Escape")
    closed = window.run(STATE)

    assert (first["open"], first["panels"]) == (True, "4")  # picture, mask, overlay, label
    assert second["title"] not in ("", first["title"])
    assert (closed["open"], closed["focus"], closed["panels"]) == (False, "shot", "1")
    assert closed["hacked"] == 0


def test_a_question_shows_its_pictures_in_its_order(window: Page, pages: dict[int, Path]) -> None:
    open_page(window, pages[10])
    shown = window.run(
        "document.querySelector('[data-key=unsure]').click(); "
        "done([...document.querySelectorAll('.card:not([hidden])')].map(card => "
        "parseFloat(card.querySelector('[data-key=unsure] b').textContent)))"
    )

    assert len(shown) == 3  # a quarter of eleven items
    assert shown == sorted(shown)


def test_the_table_sorts_and_filters(window: Page, pages: dict[int, Path]) -> None:
    open_page(window, pages[1000])
    whole = window.run(TABLE)
    window.run("[...document.querySelectorAll('#item-table th button')].at(-1).click(); done(1)")
    sorted_rows = window.run(TABLE)["rows"]
    window.run(
        "const search = document.querySelector('#search'); search.value = 'LINE-1/0099'; "
        "search.dispatchEvent(new Event('input')); done(1)"
    )
    found = window.run(TABLE)

    assert (len(whole["rows"]), whole["count"]) == (50, "1–50 of 1,005 rows")
    shares = [float(row[-1].removesuffix(" %")) for row in sorted_rows]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0
    assert {row[0][:11] for row in found["rows"]} == {"line-1/0099"}
    assert window.run("done(document.querySelectorAll('th[aria-sort=descending]').length)") == 1


def test_the_theme_is_switched_on_the_page(window: Page, pages: dict[int, Path]) -> None:
    open_page(window, pages[10])
    window.prefer("light")
    colours = []
    for _ in range(3):
        window.run("document.querySelector('#theme').click(); done(1)")
        colours.append(window.run("done(getComputedStyle(document.body).backgroundColor)"))

    assert colours == ["rgb(251, 250, 248)", "rgb(22, 21, 20)", "rgb(251, 250, 248)"]
