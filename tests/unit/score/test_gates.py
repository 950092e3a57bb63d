"""Which finished runs must not be taken for a success."""

import pytest

from fsf_core.errors import ConfigError, ItemError
from fsf_core.expressions.figures import written
from fsf_core.score.gate_names import FAILURE_TYPES, FIGURES, NEEDS
from fsf_core.score.gates import failed_gates, judge_gates, parse_gates, require_known_names


def summary(*, failed, total, **more):
    return {"items": {"failed": failed, "total": total}, "out": "/runs/today", **more}


@pytest.mark.parametrize(("failed", "total", "allowed"), [(0, 5, 0.0), (1, 5, 0.2), (4, 5, 1.0), (29, 100, 0.29)])
def test_a_run_within_its_limits_passes_all_gates(failed, total, allowed):
    assert failed_gates(summary(failed=failed, total=total), max_failed_share=allowed) == []


def test_more_failures_than_allowed_fail_a_gate():
    (sentence,) = failed_gates(summary(failed=2, total=5), max_failed_share=0.2)

    assert sentence == (
        "2 of 5 items failed, a share of 0.4; --max-failed-share allows 0.2; see the failures table in /runs/today"
    )


@pytest.mark.parametrize("allowed", [0.0, 1.0])
def test_a_run_without_any_result_fails_a_gate_of_its_own(allowed):
    """The message was "5 of 5 items failed, more than --max-failed-share 1 allows"."""
    found = failed_gates(summary(failed=5, total=5), max_failed_share=allowed)

    assert found == ["all 5 items failed; see the failures table in /runs/today"]


def test_every_video_that_could_not_be_rendered_fails_a_gate():
    videos = {"made": 1, "failed": {"a.mp4": "CrashError: x", "b.mp4": "OSError: y"}}

    assert failed_gates(summary(failed=0, total=3, videos=videos)) == [
        "a.mp4 was not rendered: CrashError: x",
        "b.mp4 was not rendered: OSError: y",
    ]


def test_gates_are_judged_together():
    assert len(failed_gates(summary(failed=1, total=2, videos={"failed": {"a": "x"}}), max_failed_share=0.1)) == 2


# --- gates of --fail-if ---

CLASSES = ("background", "sunburn", "wind scarring", "low", "a.b", "3")
EVERYTHING = tuple(NEEDS)


def whole_summary(**more):
    """A summary with every entry that a figure is read from; the class `a.b` is absent from the labels."""
    names = list(enumerate(CLASSES))
    figures = ("iou", "recall", "precision", "dice", "boundary_iou")
    headlines = ("miou", "accuracy", "mean_recall", "mean_precision", "mean_dice", "fwiou", "mean_boundary_iou")
    bounds = {"low": 0.6, "high": 0.9}
    absent = "a.b"
    statistics = {"items": 9, "mean": 0.5, "min": 0.1, "p05": 0.2, "p50": 0.5, "p95": 0.8, "max": 0.9}
    metrics = {
        **dict.fromkeys(headlines, 0.8),
        "items": 3,
        "classes": [
            {"id": k, "name": name, "support_px": 0 if name == absent else 7}
            | dict.fromkeys(figures, None if name == absent else 0.75)
            for k, name in names
        ],
        "intervals": {
            "items": 3,
            **dict.fromkeys(headlines, bounds),
            "classes": [
                {"id": k, "name": name, **dict.fromkeys(figures, None if name == absent else bounds)}
                for k, name in names
            ],
        },
        "published": dict.fromkeys(headlines[:4], 0.7),
    }
    compared = {"psi": 0.05, "js": 0.01, "limits": {"psi": 0.1, "js": 0.02}}
    drifted = {"psi": 0.3, "js": 0.02, "presence": 0.1, "limits": {"psi": 0.2, "js": 0.05, "presence": 0.4}}
    drift = {
        "classes": [{"name": name, **drifted} for name in CLASSES],
        "inputs": [{"name": name, **compared} for name in ("brightness", "contrast", "sharpness", "size")],
        "confidence": [{"name": name, **compared} for name in ("confidence", "uncertain_share")],
        "alarms": [{"name": "sunburn"}],
        "pixels_changed_share": 0.25,
        "failures": {"new": 2, "gone": 0},
    }
    work = dict.fromkeys(
        ("frames_per_s", "job_frames_per_s", "bare_session_share", "cpu_seconds", "gpu_seconds", "bytes_read",
         "bytes_written"), 2.5,
    )  # fmt: skip
    return {
        "items": {"failed": 1, "total": 10, "scored": 9},
        "out": "/runs/today",
        "files_left_out": 0,
        "reused_items": 0,
        "frames": 20,
        "failures": {"DecodeError": 1},
        "classes": [{"id": k, "name": name, "pixels": 100, "ratio": 0.2} for k, name in names],
        "figures": dict.fromkeys(("confidence", "uncertain_share", "brightness", "contrast", "sharpness"), statistics),
        "regions": {
            "count": 4,
            "classes": [
                {"id": k, "name": name, "count": k and 2, "pixels": 9, "largest_px": k and 5} for k, name in names
            ],
        },
        "videos": {"made": 1, "failed": {}},
        "metrics": metrics,
        "drift": drift,
        "work": {**work, "cost": {"per_million_frames": 12.5}},
        **more,
    }


def judged(*texts, summary=None, available=EVERYTHING):
    gates = parse_gates(texts)
    require_known_names(gates, CLASSES, available)
    entries = judge_gates(summary or whole_summary(), gates)
    return [entry for entry in entries if entry["option"] == "--fail-if"]


def refused(text, available=EVERYTHING):
    with pytest.raises(ConfigError) as caught:
        judged(text, available=available)
    return str(caught.value)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.shown())
def test_every_figure_is_found_by_its_name_and_has_a_value(figure):
    parts = (figure.name[0], "wind scarring", *figure.name[1:]) if figure.per_class else figure.name
    [entry] = judged(f"{written(parts)} < -1")

    [(name, value)] = entry["values"].items()
    assert name == written(parts)
    assert isinstance(value, int | float), figure
    assert entry == {**entry, "passed": True, "reason": None}
    if figure.needs:
        assert NEEDS[figure.needs] in refused(f"{written(parts)} < 0", available=[])


def test_no_two_figures_have_one_name():
    assert len({figure.shown() for figure in FIGURES}) == len(FIGURES)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("miou < 0.85", "miou < 0.85 (miou is 0.8)"),
        ('iou."wind scarring" < 0.8', 'iou."wind scarring" < 0.8 (iou."wind scarring" is 0.75)'),
        ("iou.low < 0.8 and iou.low.low < 0.7", None),
        ('ratio."a.b" > 0.1 and ratio.3 > 0.1', None),
        ("failed_share > 5%", "failed_share > 5% (failed_share is 0.1)"),
        ("failed > 0 and failures.DecodeError > 0", None),
        ("psi.sunburn > limit", "psi.sunburn > limit (psi.sunburn is 0.3, psi.sunburn.limit is 0.2)"),
        ("psi.sunburn > 1.2 * limit", None),
        ("figure_psi.size > limit / 4", None),
        ("confidence.p05 < confidence.mean / 2", None),
        ("alarms > 0 and new_failures > 0", None),
    ],
)
def test_a_gate_that_holds_is_failed_with_the_values_found(text, reason):
    [entry] = judged(text)

    assert not entry["passed"]
    assert entry["expression"] == text
    assert reason is None or entry["reason"] == reason
    assert entry["reason"] in failed_gates(whole_summary(gates=[entry]))


@pytest.mark.parametrize("text", ["miou < 0.8", "js.sunburn > limit", "failures.FetchError > 0", "frames < 20"])
def test_a_gate_that_does_not_hold_is_passed(text):
    [entry] = judged(text)

    assert entry["passed"]
    assert failed_gates(whole_summary(gates=[entry])) == []


def test_a_gate_that_cannot_be_judged_is_not_passed_and_says_why():
    [entry] = judged('iou."a.b" < 0.7')
    assert not entry["passed"]
    assert entry["values"] == {'iou."a.b"': None}
    assert entry["reason"] == (
        'iou."a.b" < 0.7 cannot be judged: iou."a.b" has no value (the class is in no label and no mask of a '
        "labelled item)"
    )
    [entry] = judged("1 / (frames - 20) > 3")
    assert entry["reason"] == "1 / (frames - 20) > 3 cannot be judged: a division by zero; frames is 20"
    assert [each["passed"] for each in judged('iou."a.b" is not null and iou."a.b" < 0.7', 'iou."a.b" is null')] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("iou.sunbrun < 0.7", "iou.sunburn"),
        ("mIoU < 0.7", "miou"),
        ("iou < 0.7", "iou.background"),
        ("falied > 3", "failed"),
        ("iou.wind-scarring < 0.7", 'iou."wind scarring"'),
        ("confidense < 0.5", "confidence"),
        ("psi.sunburn > limt", "limit"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones_similar_first(text, first):
    message = refused(text)

    similar, _, every = message.partition(" or another of these: ")
    assert first in similar
    for name in ("failed_share", "miou", "ratio.CLASS", "psi.CLASS", "figure_psi.(brightness"):
        assert name in every, name
    assert 'CLASS is one of background, sunburn, "wind scarring"' in every


def test_hundreds_of_classes_are_not_all_listed():
    gates = parse_gates(["iou.nothing < 1"])
    with pytest.raises(ConfigError, match=r"c19 and 280 more") as caught:
        require_known_names(gates, [f"c{number}" for number in range(300)], EVERYTHING)
    assert len(str(caught.value)) < 3000


def test_summaries_of_older_versions_are_judged_by_what_they_have():
    older = {key: whole_summary()[key] for key in ("items", "out", "frames", "failures", "classes", "files_left_out")}
    passed = judge_gates(older, parse_gates(["failed_share > 0.5", "confidence < 0.1", "miou < 0.5"]))

    assert [entry["passed"] for entry in passed] == [True, True, False, False]
    assert failed_gates(older) == []


def test_the_gates_of_other_options_are_listed_too():
    entries = judge_gates(
        whole_summary(items={"failed": 4, "total": 10}, videos={"failed": {"a": "x"}}), [], max_failed_share=0.3
    )

    assert [(entry["option"], entry["expression"], entry["passed"]) for entry in entries] == [
        (None, "failed == items", True),
        ("--max-failed-share", "failed_share > 0.3", False),
        ("--render", "unrendered > 0", False),
    ]


def test_the_types_of_failures_are_those_that_an_item_can_have():
    import fsf_core.media.video
    import fsf_core.stages.isolated_decode  # noqa: F401 - defines one

    def below(kind):
        return {kind.__name__ for kind in kind.__subclasses__()}.union(*map(below, kind.__subclasses__()))

    assert set(FAILURE_TYPES) >= {name for name in below(ItemError) if not name.startswith("_")}
