"""The page of a report: what it shows of every kind of run, and that nothing of the data can act in it."""

import base64
import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from fsf_core import runs
from fsf_core.analysis.drift import compare_runs
from fsf_core.report import build, items, pictures
from fsf_core.report.build import ReportRequest, write_report
from fsf_core.report.drift_page import drift_page
from tests.support import clips, html_pages, ledger, made_runs, rendered_runs
from tests.support.synthetic_runs import Shape, make

REQUEST = ReportRequest(pictures=3, side_px=96, access=None)
SMALL = Shape(images=7, videos=1, video_frames=12, failures=2, pictures=3)
HOSTILE = (
    "<script>window.hacked = 1</script>",
    '" onload="window.hacked = 1',
    "</script><img src=x onerror='window.hacked = 1'>",
    "\u202eevil\u2066.jpg",
    "تفاح/🍊.jpg",
    "{{ 7 * 7 }}",
    "javascript:window.hacked = 1",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder whose runs share their pictures."""
    return tmp_path_factory.mktemp("runs")


def page_of(run, *, against=None, **changes):
    """Return the page of a run, parsed, and what the command reports of it."""
    written = write_report(run, out=f"{run}.html", request=replace(REQUEST, **changes), against=against)
    with open(written["report"], encoding="utf-8") as file:  # noqa: PTH123
        text = file.read()
    assert written["bytes"] == len(text.encode())
    return html_pages.parse(text), written


def rows_of(page):
    [data] = [each for each in page.all("script") if each.attributes.get("id") == "rows"]
    return json.loads(data.text)["rows"]


@pytest.fixture(scope="module")
def ordinary(home):
    return page_of(make(home / "ordinary", SMALL))


def test_a_run_is_shown_with_every_section(ordinary):
    page, written = ordinary
    titles = [each.text for each in page.all("h2") if each.text]

    expected = ["Classes", "Metrics", "Pictures", "Model and input", "Videos", "Failures", "Items", "Run"]
    assert [title for title in titles if title in expected] == expected
    assert "8 of 10 items" in page.text
    assert "2 failed" in page.text
    assert written["items"] == written["rows"] == 10
    assert {row[1] for row in rows_of(page)} == {"scored", "DecodeError in decode"}
    assert "replace the file" in page.text


def test_the_figures_are_those_of_the_tables(ordinary, home):
    page, _ = ordinary
    run = runs.open_run(str(home / "ordinary"))
    stats = run.class_stats(columns=["class_id", "pixels"]).group_by("class_id").aggregate([("pixels", "sum")])
    for pixels in stats.column("pixels_sum").to_pylist():
        assert f"{pixels:,}" in page.text


def test_labels_are_shown_beside_their_masks(home):
    page, _ = page_of(make(home / "labelled", replace(SMALL, videos=0, failures=0)))
    kinds = {each.attributes.get("class") for each in page.all("img")}

    assert kinds >= {"p", "m", "l"}
    assert "Worst by IoU" in page.text


def test_the_page_is_whole_and_its_policy_allows_nothing_else(ordinary):
    page, _ = ordinary
    [policy] = [each.attributes["content"] for each in page.all("meta") if "http-equiv" in each.attributes]
    scripts = [each for each in page.all("script") if each.attributes.get("type") != "application/json"]
    for element in (*page.all("style"), *scripts):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()}'" in policy
    assert (len(page.all("style")), len(scripts)) == (1, 1)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert not {"link", "iframe", "object", "embed", "base", "form", "video", "audio"} & {e.tag for e in page.elements}
    for element in page.elements:
        assert not any(name.startswith("on") or name in ("style", "srcset") for name in element.attributes)
        source, target = element.attributes.get("src"), element.attributes.get("href")
        assert source is None or re.match(r"data:image/(webp|png);base64,[A-Za-z0-9+/=]+$", source)
        assert target is None or target.startswith("#")


def test_texts_of_the_data_are_escaped(home):
    shape = Shape(
        images=7, pictures=3, videos=0, failures=2, ids=HOSTILE, reasons=(f"{HOSTILE[0]}; {HOSTILE[2]}",),
        names=("background", "<b>bold</b>", '"quoted"', "</style>"),
    )  # fmt: skip
    plain, _ = page_of(make(home / "plain", replace(shape, ids=(), reasons=(), names=())))
    page, _ = page_of(make(home / "hostile", shape))

    assert {each.tag for each in page.elements} == {each.tag for each in plain.elements}
    assert len(page.all("script")) == len(plain.all("script"))
    assert {n for e in page.elements for n in e.attributes} == {n for e in plain.elements for n in e.attributes}
    assert HOSTILE[0] in page.text
    assert "<b>bold</b>" in page.text
    assert "\\u202eevil" in page.text  # not acting
    assert "{{ 7 * 7 }}" in page.text
    shown = {row[0] for row in rows_of(page) if row[1] == "scored"}
    assert shown == {*HOSTILE[:3], "\\u202eevil\\u2066.jpg", *HOSTILE[4:]}


@pytest.mark.parametrize(
    ("name", "shape", "shown", "missing"),
    [
        ("unfinished", replace(SMALL, finished=False), "This run has not finished", "Videos"),
        ("all failed", Shape(images=0, failures=3), "All items failed", "Share of all pixels"),
        ("no labels", replace(SMALL, labels=False), "Least confident", "Worst by IoU"),
        ("no videos", replace(SMALL, videos=0), "Pictures", "Share of each class over the time"),
        ("older", replace(SMALL, measured=False, labels=False), "Random sample", "Model and input"),
        ("one class", replace(SMALL, classes=1), "Largest background", "smaller classes"),
        ("300 classes", replace(SMALL, classes=300, images=12, pictures=6), "276 smaller classes", "Traceback"),
        ("one item", Shape(images=1, pictures=1), "The only item.", "Failures"),
    ],
)
def test_every_kind_of_run_has_a_page(home, name, shape, shown, missing):
    page, _ = page_of(make(home / name, shape))

    assert shown in page.text
    assert missing not in page.text


def test_a_run_without_any_row_has_a_page(tmp_path):
    with ledger.claim_run(str(tmp_path / "run"), fingerprint={"classes": ["a"], "palette": [[0, 0, 0]]}, details={}):
        pass
    page, written = page_of(str(tmp_path / "run"))

    assert "nothing yet" in page.text
    assert (written["items"], written["pictures"]) == (0, 0)


def test_a_frame_of_a_video_is_shown(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(clips.clip(frames=12))
    page, _ = page_of(rendered_runs.finished(tmp_path / "run", tmp_path / "clip.mp4"))

    assert [each.attributes["class"] for each in page.all("img")].count("p") > 1
    assert "clip · frame" in page.text


@pytest.mark.parametrize("damage", ["missing", "changed", "no picture"])
def test_a_source_that_cannot_be_shown_leaves_the_mask_and_a_note(tmp_path, damage):
    source = tmp_path / "sources" / "orange-000.jpg"
    if damage == "no picture":
        source.parent.mkdir()
        source.write_bytes(b"something else")
    run = make(tmp_path / "run", Shape(images=1, pictures=1, labels=False))
    if damage == "missing":
        source.unlink()
    elif damage == "changed":
        source.write_bytes(b"something else")
    page, _ = page_of(run)

    assert {each.attributes["class"] for each in page.all("img")} == {"m"}
    reason = {"missing": "does not exist", "changed": "has changed since it was scored", "no picture": "not an image"}
    [note] = {each.text for each in page.all("small") if each.text.startswith("Picture not shown: ")}
    assert reason[damage] in note


def test_credentials_do_not_appear(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    shape = Shape(images=1, pictures=1, failures=1, reasons=("found s3://a:wJalrXUtnFEMI/K7MDENG@b/c; wait",))
    page, _ = page_of(make(tmp_path / "run", shape))

    assert "wJalrXUtnFEMI" not in "".join(each.text for each in page.elements)
    assert "***" in page.text


def test_pictures_are_smaller_where_all_would_be_too_large(home, monkeypatch):
    run = make(home / "budget", replace(SMALL, videos=0))
    _, whole = page_of(run, side_px=512)
    monkeypatch.setattr(pictures, "MAX_TOTAL_BYTES", 12_000)
    page, small = page_of(run, side_px=512)

    assert small["pictures"] == whole["pictures"]
    assert small["bytes"] < whole["bytes"]
    shown = sum(len(each.attributes["src"]) for each in page.all("img"))
    assert shown * 3 / 4 < 13_000


def test_a_large_run_has_a_table_of_its_extremes_that_says_so(home, monkeypatch):
    monkeypatch.setattr(items, "MAX_ROWS", 20)
    shape = Shape(images=60, failures=9, pictures=4)
    run = make(home / "large", shape)
    page, written = page_of(run)
    rows = rows_of(page)
    features = runs.open_run(run).masks(columns=["item_id", "confidence"]).to_pylist()
    least = min(row["confidence"] for row in features)

    assert (written["items"], written["rows"], len(rows)) == (69, 20, 20)
    assert "20 of 69 items: failed ones, the extremes of every column, and a random sample (seed 0)" in page.text
    assert sum(row[1] != "scored" for row in rows) == 5  # a quarter of the table
    shown = {row[0] for row in rows}
    assert any(row["confidence"] == least for row in features if row["item_id"] in shown)


def test_another_run_is_compared(home):
    before = make(home / "before", replace(SMALL, images=40, videos=0, pictures=6, shift_px=1, failures=1))
    now = make(home / "now", replace(SMALL, images=44, videos=0, pictures=6, shift_px=9, failures=3))
    page, _ = page_of(now, against=before)
    same, _ = page_of(now, against=now)

    assert "The model changed" in page.text
    assert "No drift beyond chance" in same.text
    titles = {each.text: number for number, each in enumerate(page.elements) if each.tag == "dt"}
    values = {name: page.elements[at + 1].text for name, at in titles.items()}
    assert (values["Items in both"], values["New items"], values["New failures"]) == ("41", "6", "2")
    assert "Most changed" in page.text
    assert [each.attributes.get("class") for each in page.all("img")].count("o") >= 3
    assert "Most changed" not in same.text


def test_a_video_of_which_a_segment_failed_is_one_item(tmp_path):
    run = str(tmp_path / "run")
    fingerprint = {"classes": [*ledger.CLASSES], "palette": [[0, 0, 0], [200, 0, 0]]}
    first, second, third = ledger.video("clip", 3, 3, 3)
    with ledger.claim_run(run, fingerprint=fingerprint, details={}) as attempt:
        ledger.commit(attempt, first, third, ledger.image("x"))
        ledger.commit(attempt, ledger.broken(second, frames=1), ledger.image("y", failed=True))
        ledger.publish(attempt, {"items": {"total": 3, "scored": 1, "failed": 2}})
    page, written = page_of(run, pictures=0)

    assert (written["items"], written["rows"]) == (3, 3)
    assert "All 3 items." in page.text
    assert "1 of 3 items" in page.text
    assert {row[0]: row[1:3] for row in rows_of(page)} == {
        "clip": ["DecodeError in decode", 7], "x": ["scored", 1], "y": ["DecodeError in decode", None],
    }  # fmt: skip


def test_a_class_that_the_other_run_does_not_have_has_no_share_there(tmp_path):
    ids = [f"i{k}" for k in range(20)]
    ratios = np.random.default_rng(0).dirichlet([9, 2, 1], 20)
    now = made_runs.make_run(str(tmp_path / "now"), ratios, class_names=("a", "b", "new"), item_ids=ids)
    before = made_runs.make_run(str(tmp_path / "before"), ratios[:, :2], class_names=("a", "b"), item_ids=ids)
    page, _ = page_of(now, against=before, pictures=0)

    cells = [page.elements[at + 1 : at + 3] for at, each in enumerate(page.elements) if each.text == "new"]
    shares = [[cell.text for cell in pair] for pair in cells if pair[0].tag == pair[1].tag == "td"]
    assert [(share.endswith(" %"), before) for share, before in shares] == [(True, "–")]


def test_runs_that_are_too_small_are_not_called_the_same(tmp_path):
    before = made_runs.make_run(str(tmp_path / "before"), np.full((30, 2), 0.5))
    now = made_runs.make_run(str(tmp_path / "now"), np.empty((0, 2)), item_ids=[], failed=["x", "y"])
    page, _ = page_of(now, against=before)

    [verdict] = [each for each in page.all("p") if (each.attributes.get("class") or "").startswith("verdict")]
    assert verdict.text == "Drift was not judged, because one of the runs has fewer than 5 scored items."
    assert verdict.attributes["class"] == "verdict soft"


@pytest.mark.parametrize(("items", "judged"), [(30, 3), (3, 0)])
def test_the_page_of_drift_counts_the_figures_that_were_judged(tmp_path, items, judged):
    before = made_runs.make_run(str(tmp_path / "before"), np.full((30, 2), 0.5))
    now = made_runs.make_run(str(tmp_path / "now"), np.full((items, 2), 0.5), class_names=("class_0", "class_1"))
    page = html_pages.parse(drift_page(compare_runs(runs.open_run(before), runs.open_run(now))))

    assert f"of {judged} judged" in [each.text for each in page.all("small")]
    assert next(each.text for each in page.all("strong")).startswith("No drift" if judged else "Drift was not judged")


def test_an_alarm_of_presence_is_named_as_what_it_is(tmp_path):
    ratios = np.column_stack([np.full(400, 0.9), np.full(400, 0.1)])
    none = np.column_stack([np.ones(400), np.zeros(400)])
    before = made_runs.make_run(str(tmp_path / "before"), np.concatenate([ratios[:40], none[:360]]))
    now = made_runs.make_run(str(tmp_path / "now"), np.concatenate([ratios[:200], none[:200]]))
    page, _ = page_of(now, against=before, pictures=0)

    cells = [each.text for each in page.all("td")]
    assert cells[cells.index("difference of the shares of items that have it") + 1] == "0.400"


def test_the_head_shows_gates_and_drift_of_the_summary(home):
    run = make(home / "judged", Shape(images=2, pictures=2, finished=False))
    gates = [
        {"option": None, "expression": "failed == items", "values": {}, "passed": True, "reason": None},
        {"option": "--fail-if", "expression": "miou < 0.99", "values": {"miou": 0.5}, "passed": False,
         "reason": "miou is 0.5"},
        {"option": "--fail-if", "expression": "failed > 3", "values": {"failed": 0}, "passed": True, "reason": None},
    ]  # fmt: skip
    summary = {
        "items": {"total": 2, "scored": 2, "failed": 0}, "frames": 2, "gates": gates,
        "drift": {"against": "runs/<b>", "verdict": "data", "alarms": [{"name": "brightness"}]},
    }  # fmt: skip
    ledger.publish(run, summary)
    page, _ = page_of(run)

    assert "1 of 2 gates failed" in page.text
    assert "fail if miou < 0.99: miou is 0.5" in page.text
    assert "fail if failed > 3: failed is 0" in page.text
    assert "fail if failed == items" not in page.text
    assert "Drift against runs/<b>: brightness." in page.text


def test_the_page_is_written_into_the_run_unless_a_file_is_named(tmp_path):
    run = make(tmp_path / "run", Shape(images=1, pictures=1))
    written = write_report(run, out=None, request=REQUEST)

    assert written["report"] == f"{run}/{build.FILE}"
    assert runs.verify(run) == []
