"""Jobs that are paused and wake up when another job has their run; some points of zombies.py."""

import pytest

from fsf_core.model.bundle import Bundle
from tests.crash.jobs import RUNS
from tests.crash.zombies import Drill, open_place


@pytest.mark.parametrize(
    ("store", "run", "change", "wake"),
    [
        ("disk", "new", r"link .* -> \.attempt-\d+/receipts/", "during"),
        ("disk", "retry", "-> manifest.json$", "after"),
        ("s3", "new", "^put _SUCCESS$", "after"),
    ],
)
def test_a_job_that_wakes_up_leaves_the_run_to_its_successor(
    store: str, run: str, change: str, wake: str, tiny_bundle: Bundle
) -> None:
    problems: list[str] = []
    with open_place(store, bundle=tiny_bundle.uri) as place:
        drill = Drill(place, RUNS[run], problems.append)
        (point,) = drill.points([change])
        drill.sleep(point, wake)

    assert problems == []
    assert drill.tally.not_reached == 0
