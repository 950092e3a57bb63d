"""The parts of a report by themselves: choice of frames, groups of failures, heat map, colours, numbers."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from fsf_core import masks
from fsf_core.report import colours
from fsf_core.report.choose import SAMPLE, _Extremes, _hashes
from fsf_core.report.classes import ClassRow, classes_of_interest, log_axis, split_tail
from fsf_core.report.failures import split_advice
from fsf_core.report.metrics import heat_map
from fsf_core.report.page import clock, duration, json_for_html, number, percent
from fsf_core.report.pictures import fit
from fsf_core.report.videos import timelines
from fsf_core.schema import VIDEO_STATS


def offer(extremes, ids, values):
    shown = np.array(values, np.float64)
    extremes.offer(pa.array(ids), np.arange(len(ids)), shown, shown)


def test_the_most_extreme_frame_of_the_most_extreme_items_is_chosen_in_any_order_of_the_rows():
    ids, values = ["a", "b", "a", "c", "d", "b"], [3.0, 9.0, 1.0, 2.0, np.nan, 0.5]
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 0, 4, 1, 5, 3]):
        for cut in range(7):
            extremes = _Extremes(measure=SAMPLE, count=2)
            for part in (order[:cut], order[cut:]):
                offer(extremes, [ids[row] for row in part], [values[row] for row in part])
            chosen = [(key[0], reason.rank, reason.value) for key, reason in extremes.reasons()]
            assert chosen == [("b", 1, 0.5), ("a", 2, 1.0)]


def test_the_random_sample_depends_on_the_ids_alone():
    ids, frames = pa.array(["x", "y", "🍊", "x"]), np.array([0, 0, 0, 1])
    drawn = _hashes(ids, frames)

    assert len({*drawn.tolist()}) == 4
    assert np.array_equal(_hashes(ids[::-1], frames[::-1]), drawn[::-1])
    assert ((drawn >= 0) & (drawn < 1)).all()


@pytest.mark.parametrize(
    ("message", "found", "advice"),
    [
        ("found 0 bytes, expected an image; replace the file", "found 0 bytes, expected an image", "replace the file"),
        ("a; b; c", "a; b", "c"),
        ("no advice", "no advice", ""),
        ("", "", ""),
    ],
)
def test_the_advice_of_a_message_is_its_end(message, found, advice):
    assert split_advice(message) == (found, advice)


@pytest.mark.parametrize("classes", [1, 2, 16, 17, 300])
def test_the_heat_map_adds_up_to_the_confusion(classes):
    confusion_KK = np.random.default_rng(classes).integers(0, 1000, (classes, classes))
    found = heat_map(confusion_KK, [f"class {k}" for k in range(classes)])

    assert sum(cell.pixels for row in found.rows for cell in row) == confusion_KK.sum()
    assert len(found.rows) == len(found.names) == min(classes, 16)
    assert found.others == max(0, classes - 15) * (classes > 16)
    for row in found.rows:
        assert sum(cell.share for cell in row) == pytest.approx(1)


def test_a_class_without_labels_has_no_shares():
    found = heat_map(np.array([[5, 3], [0, 0]]), ["a", "b"])

    assert [cell.share for cell in found.rows[1]] == [None, None]


def test_classes_are_visible_in_both_themes_and_keep_their_colour_where_they_can():
    for colour in masks.voc_colours(300):
        for paper in colours.PAPER:
            assert colours.contrast(colours.visible(colour, paper), paper) >= 3
    assert colours.visible((128, 0, 0), colours.PAPER[0]) == (128, 0, 0)


def test_texts_of_the_heat_map_are_readable():
    rules = colours.heat_rules()
    found = [colour.split("light-dark(") for colour in rules.split("}") if colour]
    assert len(found) == 2 * (colours.SHADES + 1)
    for _, grounds, inks in found:
        pairs = zip(grounds.split(")")[0].split(","), inks.split(")")[0].split(","), strict=True)
        for ground, ink in pairs:
            assert colours.contrast(rgb(ground), rgb(ink)) >= 4.5


def rgb(text):
    return tuple(bytes.fromhex(text.removeprefix("#")))


def class_row(class_id, share):
    return ClassRow(
        class_id=class_id, name=str(class_id), pixels=round(share * 1e6), share=share, items=1, items_share=1.0,
        low=share / 2, median=share, high=share,
    )  # fmt: skip


def test_the_axis_of_the_classes_holds_the_smallest_share():
    axis = log_axis([class_row(0, 0.99), class_row(1, 0.002)])

    assert [label for _, label in axis.ticks] == ["0.1 %", "1 %", "10 %", "100 %"]
    assert axis.place(1.0) == 1
    assert axis.place(0.01) == pytest.approx(1 / 3)
    assert axis.place(0.0) == 0


def test_galleries_are_for_classes_that_do_not_cover_most_of_the_run():
    rows = [class_row(0, 0.4), class_row(1, 0.55), class_row(2, 0.05), class_row(3, 0.0)]

    assert classes_of_interest(rows, 6) == [2]
    assert classes_of_interest(rows[:2], 6) == [0, 1]  # there is nothing else
    assert [len(part) for part in split_tail([class_row(k, 1 / 300) for k in range(300)])] == [24, 276]


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (0.98581, "98.6 %"), (0.0086, "0.860 %"), (0.00003, "0.0030 %"), (1e-9, "< 0.001 %"),
     (None, "–"), (float("nan"), "–"), (0.0345, "3.45 %")],
)  # fmt: skip
def test_shares_have_three_digits(share, text):
    assert percent(share) == text


def test_numbers_times_and_sizes_are_short():
    assert [number(value) for value in (1234567, 0.123456, 7.0, None)] == ["1,234,567", "0.123", "7", "–"]
    assert [duration(value) for value in (1.26, 125, 7300, None)] == ["1.3 s", "2 min 05 s", "2 h 01 min", "–"]
    assert [clock(value) for value in (65.25, 59.96, 119.99)] == ["1:05.2", "1:00.0", "2:00.0"]
    assert [fit(3000, 4000, 512), fit(10, 20, 512), fit(1, 90_000, 512)] == [(384, 512), (10, 20), (1, 512)]


def test_json_in_a_page_ends_no_element():
    text = json_for_html(["</script>", "<!--", "\u2028&"])

    assert not {*"<>&\u2028"} & {*text}


def test_the_length_of_a_sampled_video_is_not_the_number_of_its_scored_seconds():
    rows = [
        {
            "item_id": "clip",
            "second": second,
            "class_id": k,
            "class_name": str(k),
            "frames": 2,
            "ratio": (second + k) / 99,
        }
        for second in (5, 15, 25)
        for k in (0, 1)
    ]
    run = SimpleNamespace(finished=True, video_stats=lambda: pa.Table.from_pylist(rows, schema=VIDEO_STATS))
    [line], total = timelines(run, [1])

    assert (line.seconds, line.frames, total) == (21, 6, 1)
    assert [(peak.class_id, peak.share, peak.second) for peak in line.peaks] == [(1, 26 / 99, 25)]
