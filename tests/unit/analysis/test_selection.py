"""What `fsf select` chooses: the uncertain, the rare, the changed, without near duplicates, and why."""

import csv
import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fsf_core import runs
from fsf_core.analysis.selection import Request, as_exclusion, candidates, select, select_changed
from fsf_core.errors import ConfigError, OutputError
from tests.support.chosen_runs import CLASSES, Frame, write_run

RNG_SEED = 7
GOLDEN = Path(__file__).parents[2] / "golden" / "judged_oranges.csv"
ORANGE_CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")


def pictures(count, **figures):
    """Images of which each is a little different from the others in every input figure."""
    rng = np.random.default_rng(RNG_SEED)
    values = zip(*(rng.normal(size=count) for _ in range(3)), strict=True)
    return [
        Frame(
            item_id=f"img{number:03d}",
            brightness=100 + 10 * light,
            contrast=40 + 3 * contrast,
            sharpness=300 * math.exp(sharp),
            **figures,
        )
        for number, (light, contrast, sharp) in enumerate(values)
    ]


def belt(name, seconds, *, fps=5, **figures):
    """A video whose frames are all alike."""
    return [Frame(item_id=name, frame_index=at, pts_s=at / fps, **figures) for at in range(int(seconds * fps))]


@pytest.fixture
def chosen(tmp_path):
    """Return a function that writes a run of frames and chooses from it."""

    numbers = itertools.count()

    def choose(frames, by, count, *, failed=(), passed=None, classes=CLASSES, **options):
        folder = str(tmp_path / f"run{next(numbers)}")
        uri = write_run(folder, frames, failed=failed, passed=passed, classes=classes)
        return select(runs.open_run(uri), Request(by=by, count=count, **options))

    return choose


def ids(choice):
    return [pick.item_id for pick in choice.picks]


def test_the_most_uncertain_come_first_with_their_figures(chosen):
    frames = [replace(frame, uncertain_share=number / 100) for number, frame in enumerate(pictures(40))]

    choice = chosen(frames, "uncertainty", 3, diverse=False)

    assert ids(choice) == ["img039", "img038", "img037"]
    assert [pick.score for pick in choice.picks] == pytest.approx([0.39, 0.38, 0.37])
    assert choice.picks[0].reason == (
        "uncertain on 39 % of its cells, more than 97.5 % of the 40 candidates; confidence 0.90; least sure of "
        "background (mean probability 0.90)"
    )
    assert (choice.measure, choice.candidates, choice.left_out) == ("uncertain_share", 40, {})


def test_near_duplicates_of_a_pick_are_passed_over(chosen):
    frames = [replace(frame, uncertain_share=0.1 + number / 1000) for number, frame in enumerate(pictures(40))]
    copies = [replace(frames[39], item_id=f"copy{number}", uncertain_share=0.3) for number in range(10)]

    apart = chosen([*frames, *copies], "uncertainty", 5)
    assert len([item_id for item_id in ids(apart) if item_id.startswith("copy") or item_id == "img039"]) == 1


def test_without_diversity_duplicates_are_picked(chosen):
    frames = [replace(frame, uncertain_share=0.1) for frame in pictures(40)]
    copies = [replace(frames[0], item_id=f"copy{number}", uncertain_share=0.3) for number in range(10)]

    assert ids(chosen([*frames, *copies], "uncertainty", 5, diverse=False)) == [f"copy{number}" for number in range(5)]


def test_a_diverse_choice_stays_among_the_best_tenfold(chosen):
    frames = [replace(frame, uncertain_share=number / 400) for number, frame in enumerate(pictures(400))]

    choice = chosen(frames, "uncertainty", 5)

    assert all(int(item_id.removeprefix("img")) >= 350 for item_id in ids(choice))
    assert [pick.score for pick in choice.picks] == sorted((pick.score for pick in choice.picks), reverse=True)


def test_a_run_of_copies_alone_is_chosen_from_all_the_same(chosen):
    frames = [Frame(item_id=f"copy{number}") for number in range(8)]

    for by in ("uncertainty", "rare", "random", "diversity"):
        assert len({*ids(chosen(frames, by, 5))}) == 5, by


def test_frames_of_a_video_are_apart_in_time_and_the_best_of_their_second(chosen):
    video = [
        replace(frame, uncertain_share=0.2 + (0.1 if frame.frame_index == 7 else frame.frame_index / 1000))
        for frame in belt("belt.mp4", 10)
    ]

    choice = chosen(video, "uncertainty", 20, diverse=False)

    times = sorted(pick.time_s for pick in choice.picks)
    assert choice.picks[0].frame_index == 7
    assert np.diff(times).min() >= 1.0 - 1e-6
    assert 5 <= len(times) <= 10


@pytest.mark.parametrize("by", ["uncertainty", "rare", "random", "diversity"])
@pytest.mark.parametrize("gap_s", [0.0, 0.7, 2.0])
def test_the_gap_holds_for_every_way_of_choosing(by, gap_s, chosen):
    choice = chosen([*pictures(5), *belt("a.mp4", 6), *belt("b.mp4", 6)], by, 65, gap_s=gap_s)

    for video in ("a.mp4", "b.mp4"):
        times = sorted(pick.time_s for pick in choice.picks if pick.item_id == video)
        assert len(times) == len({*times})
        assert np.diff(times).min() >= max(gap_s, 1e-5) - 1e-6
        assert len(times) >= (30 if not gap_s else 6 / gap_s / 2)


def test_a_random_choice_prefers_no_kind_of_item(chosen):
    frames = [*pictures(100), *belt("belt.mp4", 20)]

    found = [item_id for seed in range(4) for item_id in ids(chosen(frames, "random", 30, seed=seed))]

    assert np.mean([item_id == "belt.mp4" for item_id in found]) == pytest.approx(20 / 120, abs=0.08)


def test_a_random_choice_follows_from_the_seed_and_hardly_changes_as_the_run_grows(chosen):
    first = chosen(pictures(100), "random", 10, seed=3)
    assert ids(first) == ids(chosen(pictures(100), "random", 10, seed=3))
    assert ids(first) != ids(chosen(pictures(100), "random", 10, seed=4))

    grown = chosen([*pictures(100), Frame(item_id="new")], "random", 10, seed=3)
    assert len({*ids(first)} & {*ids(grown)}) >= 9


def test_a_rare_class_a_dark_picture_and_a_rare_combination_are_rare(chosen):
    frames = [replace(frame, ratios=(0.9, 0.1, 0)) for frame in pictures(100)]
    frames[17] = replace(frames[17], ratios=(0.85, 0.1, 0.05))
    frames[33] = replace(frames[33], brightness=5.0)
    frames[70] = replace(frames[70], ratios=(0.2, 0.8, 0))

    choice = chosen(frames, "rare", 3)

    reasons = {pick.item_id: pick.reason for pick in choice.picks}
    assert {*reasons} == {"img017", "img033", "img070"}
    assert "5 % ulcer (median 0 %, in 1 % of the candidates)" in reasons["img017"]
    assert re.search(r": brightness 5 \(median \d+\.?\d*\)", reasons["img033"])
    assert "80 % sunburn (median 10 %, in 100 % of the candidates)" in reasons["img070"]


def test_diversity_covers_groups_that_chance_leaves_out(chosen):
    common = [replace(frame, ratios=(0.9, 0.1, 0)) for frame in pictures(200)]
    few = [Frame(item_id=f"few{number}", ratios=(0.3, 0.3, 0.4), brightness=20.0) for number in range(3)]

    choice = chosen([*common, *few], "diversity", 5)

    assert len([item_id for item_id in ids(choice) if item_id.startswith("few")]) == 1
    assert choice.picks[0].reason == "the most typical of 203 candidates: nearest to their mean"
    assert re.match(r"unlike those before it, \d\.\d\d from the nearest of the 4: ", choice.picks[4].reason)


def test_changes_are_measured_frame_by_frame(tmp_path):
    before = [Frame(item_id=name, ratios=(1, 0, 0)) for name in ("same", "some", "most", "gone")]
    after = [
        Frame(item_id="same", ratios=(1, 0, 0)),
        Frame(item_id="some", ratios=(0.9, 0.1, 0)),
        Frame(item_id="most", ratios=(0.2, 0, 0.8)),
        Frame(item_id="new", ratios=(0, 1, 0)),
    ]
    old, new = (runs.open_run(write_run(str(tmp_path / name), rows)) for name, rows in (("a", before), ("b", after)))

    choice = select_changed(new, old, Request(by="change", count=10))

    assert [(pick.item_id, pick.score) for pick in choice.picks] == [("most", 0.8), ("some", 0.1)]
    assert choice.picks[0].reason == (
        f"80 % of its pixels changed since {old.run_id}, more than 66.6 % of the 3 candidates"
    )
    assert choice.left_out == {"no_score": 1, "unchanged": 1}


def test_classes_are_matched_by_name_where_two_models_have_them_in_another_order(tmp_path):
    a = write_run(str(tmp_path / "a"), [Frame(item_id="x", ratios=(0.5, 0.25, 0.25))])
    names = ("background", "ulcer", "sunburn", "rust")
    b = write_run(
        str(tmp_path / "b"), [Frame(item_id="x", ratios=(0.5, 0.25, 0.25, 0), probability=None)], classes=names
    )

    choice = select_changed(runs.open_run(b), runs.open_run(a), Request(by="change", count=1))

    assert choice.picks[0].score == 0.5


def test_changes_between_runs_without_a_common_class_are_refused(tmp_path):
    a = runs.open_run(write_run(str(tmp_path / "a"), [Frame(item_id="x")]))
    b = runs.open_run(write_run(str(tmp_path / "b"), [Frame(item_id="x")], classes=("road", "car", "sky")))

    with pytest.raises(OutputError, match="expected at least one name in both"):
        select_changed(a, b, Request(by="change", count=1))


def test_masks_of_another_size_have_no_change(tmp_path, monkeypatch):
    a = runs.open_run(write_run(str(tmp_path / "a"), [Frame(item_id="x")]))
    monkeypatch.setattr("tests.support.chosen_runs.SIDE_PX", 10)
    b = runs.open_run(write_run(str(tmp_path / "b"), [Frame(item_id="x", ratios=(0, 1, 0))]))

    choice = select_changed(a, b, Request(by="change", count=1))

    assert (choice.picks, choice.left_out) == ((), {"no_score": 1})


@pytest.mark.parametrize("tiffs", [(True, True), (True, False), (False, True)])
def test_masks_that_are_tiffs_are_compared_by_rows(tiffs, tmp_path, monkeypatch):
    monkeypatch.setattr("fsf_core.runs.mask_files._BAND_PX", 100)
    old, new = (
        runs.open_run(
            write_run(
                str(tmp_path / name),
                [
                    Frame(item_id="most", ratios=most, as_tiff=as_tiff),
                    Frame(item_id="same", ratios=(0.5, 0.25, 0.25), as_tiff=as_tiff),
                ],
            )
        )
        for name, most, as_tiff in (("a", (1, 0, 0), tiffs[0]), ("b", (0.2, 0.5, 0.3), tiffs[1]))
    )

    choice = select_changed(new, old, Request(by="change", count=10))

    assert [(pick.item_id, pick.score) for pick in choice.picks] == [("most", 0.8)]
    assert choice.left_out == {"unchanged": 1}


def test_of_two_tiffs_the_error_names_the_damaged_one(tmp_path):
    frames = [Frame(item_id="x", as_tiff=True)]
    old, new = (runs.open_run(write_run(str(tmp_path / name), frames)) for name in ("a", "b"))
    for run in (old, new):
        path = Path(run.uri, "masks_tiff", "x-0.tif")
        whole = path.read_bytes()
        path.write_bytes(whole[:-20])
        with pytest.raises(OutputError, match=f"{path} cannot be read"):
            select_changed(new, old, Request(by="change", count=1))
        path.write_bytes(whole)


def test_changes_of_many_masks_are_compared_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("fsf_core.analysis.selection.changes.HELD_BYTES", 300)
    before = [Frame(item_id=f"{number:02d}", ratios=(1, 0, 0)) for number in range(30)]
    after = [Frame(item_id=f"{number:02d}", ratios=(1 - number / 100, number / 100, 0)) for number in range(30)]
    old, new = (runs.open_run(write_run(str(tmp_path / name), rows)) for name, rows in (("a", before), ("b", after)))

    choice = select_changed(new, old, Request(by="change", count=30, diverse=False))

    assert [pick.score for pick in choice.picks] == pytest.approx([number / 100 for number in range(29, 0, -1)])


def test_a_run_without_the_columns_is_judged_by_its_class_probabilities(chosen):
    frames = [
        Frame(
            item_id=name,
            ratios=(0.5, 0.5, 0),
            probability=(0.9, probability, None),
            uncertain_share=None,
            confidence=None,
            brightness=None,
            contrast=None,
            sharpness=None,
        )
        for name, probability in (("sure", 0.9), ("unsure", 0.5))
    ]

    choice = chosen(frames, "uncertainty", 1)

    assert (ids(choice), choice.measure) == (["unsure"], "1 - mean_probability")
    assert choice.picks[0].score == pytest.approx(0.3)
    assert choice.picks[0].reason == (
        "mean class probability 0.70, a doubt more than 50 % of the 2 candidates; least sure of sunburn (mean "
        "probability 0.50)"
    )


def test_a_run_of_class_maps_has_no_uncertainty(chosen):
    frames = [Frame(item_id="x", probability=None, uncertain_share=None, confidence=None)]

    with pytest.raises(ConfigError, match="expected a run of a model that gives probabilities; choose by rare, random"):
        chosen(frames, "uncertainty", 1)
    assert ids(chosen(frames, "rare", 1)) == ["x"]


def test_failures_are_counted_and_never_chosen(chosen):
    choice = chosen(pictures(3), "random", 10, failed=["bad1", "bad2"])

    assert {*ids(choice)} == {"img000", "img001", "img002"}
    assert choice.failed_items == 2


@pytest.mark.parametrize("by", ["uncertainty", "rare", "random", "diversity"])
def test_a_run_without_a_scored_frame_gives_an_empty_choice(by, chosen):
    choice = chosen([], by, 5, failed=["bad"])

    assert (choice.picks, choice.candidates, choice.failed_items, choice.measure) == ((), 0, 1, None)


def test_excluded_items_and_parts_of_videos_are_left_out(chosen):
    excluded = as_exclusion([("img000", None), ("img001", 0), ("a.mp4", 10), ("b.mp4", None), ("not here", 3)])

    choice = chosen([*pictures(3), *belt("a.mp4", 4), *belt("b.mp4", 4)], "random", 50, excluded=excluded)

    assert {*ids(choice)} == {"img002", "a.mp4"}
    assert all(abs(pick.time_s - 2.0) >= 1.0 for pick in choice.picks if pick.item_id == "a.mp4")
    assert choice.left_out == {"excluded": 2 + 9 + 20}


@pytest.mark.parametrize("where", [None, "brightness > 1000"])
def test_excluded_items_and_frames_that_the_run_does_not_have_are_named(where, chosen):
    """Those of a failed item, of a picture, and those that --where leaves out are in the run."""
    rows = [("img000", None), ("img001", 4), ("a.mp4", 10), ("a.mp4", 20), ("not here", 3), ("bad", 2), ("gone", None)]

    choice = chosen(
        [*pictures(3), *belt("a.mp4", 4)], "random", 50, failed=["bad"], where=where, excluded=as_exclusion(rows)
    )

    assert {*choice.not_in_run} == {"frame 20 of 'a.mp4'", "'not here'", "'gone'"}


def test_frames_that_the_run_has_labels_of_are_left_out_where_that_is_wanted(chosen):
    frames = [replace(frame, label_ignored_px=0 if frame.item_id == "img001" else None) for frame in pictures(4)]
    frames += [replace(frame, label_ignored_px=3 if frame.frame_index == 5 else None) for frame in belt("belt.mp4", 4)]

    choice = chosen(frames, "random", 10, unlabelled=True)
    assert {*ids(choice)} == {"img000", "img002", "img003", "belt.mp4"}
    assert all(abs(pick.time_s - 1.0) >= 1.0 - 1e-6 for pick in choice.picks if pick.item_id == "belt.mp4")
    assert choice.left_out == {"labelled": 1 + 9}
    assert "img001" in ids(chosen(frames, "random", 10))


def test_only_rows_that_match_are_candidates(chosen):
    passed = pa.schema([("camera", pa.string()), ("plot", pa.int64())])
    frames = [
        replace(frame, passed={"camera": "AB"[number % 2], "plot": number}) for number, frame in enumerate(pictures(10))
    ]

    choice = chosen(frames, "random", 50, passed=passed, where="camera == 'B' and plot > 4 and brightness > 0")

    assert {*ids(choice)} == {"img005", "img007", "img009"}
    assert choice.left_out == {"where": 7}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("kamera == 'B'", r"--where names the column 'kamera', the table masks of the run has \['item_id', "),
        ("mask is null", r"--where names the column 'mask'"),
        ("plot == 'x'", r"--where compares the column 'plot'"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused(where, message, chosen):
    frames = [replace(frame, passed={"plot": 1}) for frame in pictures(2)]

    with pytest.raises(ConfigError, match=message):
        chosen(frames, "random", 1, passed=pa.schema([("plot", pa.int64())]), where=where)


def test_a_figure_that_an_older_manifest_passed_through_is_no_figure(tmp_path, monkeypatch):
    frames = [Frame(item_id=f"img{number}", passed={"confidence": "high"}) for number in range(3)]
    older = pa.schema([field for field in candidates.MASKS if field.name != "confidence"])
    with monkeypatch.context() as patch:
        patch.setattr("tests.support.chosen_runs.MASKS", older)
        uri = write_run(str(tmp_path / "run"), frames, passed=pa.schema([("confidence", pa.string())]))

    choice = select(runs.open_run(uri), Request(by="rare", count=2, where="confidence == 'high'"))

    assert len(choice.picks) == 2


def test_a_unit_that_is_in_an_unfinished_run_twice_is_one_candidate(tmp_path):
    uri = write_run(str(tmp_path / "run"), pictures(3), finished=False)
    write_run(uri, pictures(2), finished=False)

    choice = select(runs.open_run(uri), Request(by="random", count=10))

    assert sorted(ids(choice)) == ["img000", "img001", "img002"]


def test_beyond_the_limit_the_best_or_a_sample_are_compared(chosen, monkeypatch):
    monkeypatch.setattr("fsf_core.analysis.selection.choose.MAX_CANDIDATES", 20)
    frames = [replace(frame, uncertain_share=number / 100) for number, frame in enumerate(pictures(50))]

    best = chosen(frames, "uncertainty", 20, diverse=False)
    assert sorted(ids(best)) == [f"img{number:03d}" for number in range(30, 50)]
    assert best.left_out == {"beyond_limit": 30}
    assert ids(chosen(frames, "rare", 5)) == ids(chosen(frames, "rare", 5))


@pytest.mark.parametrize("classes", [1, 300])
def test_one_class_and_three_hundred(classes, chosen):
    names = tuple(f"c{number}" for number in range(classes))
    rng = np.random.default_rng(0)
    frames = [
        replace(
            frame,
            ratios=tuple(np.round(rng.dirichlet(np.ones(classes)), 2) * (rng.random(classes) < 0.1)),
            probability=(0.5,) * classes,
        )
        for frame in pictures(12)
    ]
    frames = [replace(frame, ratios=(1 - sum(frame.ratios[1:]), *frame.ratios[1:])) for frame in frames]

    for by in ("uncertainty", "rare", "random", "diversity"):
        assert len({*ids(chosen(frames, by, 8, classes=names))}) == 8, by


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A run with the figures of tests/golden/judged_oranges.csv, and the wrong share of each image."""
    with GOLDEN.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    figures = ("uncertain_share", "confidence", "brightness", "contrast", "sharpness")
    frames = [
        Frame(
            item_id=row["id"],
            ratios=[float(row[name]) for name in ORANGE_CLASSES],
            probability=(0.9,) * len(ORANGE_CLASSES),
            **{name: float(row[name]) for name in figures},
        )
        for row in rows
    ]
    uri = write_run(str(tmp_path_factory.mktemp("judged") / "run"), frames, classes=ORANGE_CLASSES)
    return runs.open_run(uri), {row["id"]: float(row["wrong_share"]) for row in rows}


@pytest.mark.parametrize(("by", "times"), [("uncertainty", 3.0), ("rare", 1.7), ("diversity", 1.2)])
def test_twenty_chosen_oranges_have_more_errors_than_twenty_drawn_at_random(by, times, judged):
    run, wrong = judged
    found = sum(wrong[pick.item_id] for pick in select(run, Request(by=by, count=20)).picks)
    drawn = [
        sum(wrong[pick.item_id] for pick in select(run, Request(by="random", count=20, seed=seed)).picks)
        for seed in range(20)
    ]

    assert np.mean(drawn) == pytest.approx(20 * np.mean([*wrong.values()]), rel=0.2)
    assert found > times * np.mean(drawn)
