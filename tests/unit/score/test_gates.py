"""Which finished runs must not be taken for a success."""

import pytest

from fsf_core.score.gates import failed_gates


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
