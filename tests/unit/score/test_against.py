"""The run that --against names: checked before anything runs, and the same one when the job is resumed."""

import pytest

from fsf_core import runs
from fsf_core.config import ScoreConfig
from fsf_core.errors import ConfigError, OutputError
from fsf_core.score.against import compare_with, find_reference, reference_record
from fsf_core.score.gates import judge_gates, parse_gates, require_known_names
from fsf_core.score.nights import NightJob
from tests.support import ledger
from tests.support.made_runs import make_run

NAMES = ("background", "peel")
RATIOS = [[0.9, 0.1]] * 30


def made(folder, *, class_names=NAMES, **more):
    return make_run(str(folder), more.pop("ratios", RATIOS), class_names=class_names, **more)


def night(out, against):
    config = ScoreConfig(manifest="m", out=str(out), bundle="b", against=against and str(against))
    return NightJob(config=config, given=str(out), out=str(out), series=None, path="")


def test_without_the_option_there_is_none(tmp_path):
    assert find_reference(night(tmp_path / "new", None), NAMES) is None
    assert reference_record(None, None) == {}


def test_a_finished_run_of_the_same_classes_is_taken(tmp_path):
    made(tmp_path / "reference")

    run = find_reference(night(tmp_path / "new", tmp_path / "reference"), NAMES)
    assert run.uri == str(tmp_path / "reference")
    assert reference_record("x", run) == {"against": {"given": "x", "run": run.uri, "run_id": run.run_id}}


def test_any_other_is_refused(tmp_path):
    made(tmp_path / "other", class_names=("background", "ulcer"))
    made(tmp_path / "unfinished", finished=False)
    made(tmp_path / "new")
    with pytest.raises(OutputError):
        find_reference(night(tmp_path / "new", tmp_path / "gone"), NAMES)
    for name, message in (
        ("other", "has the classes background, ulcer, expected those of this job: background, peel"),
        ("unfinished", "has not finished"),
        ("new", "which is --out too"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_reference(night(tmp_path / "new", tmp_path / name), NAMES)


def test_a_resumed_job_keeps_the_run_that_it_began_with_while_it_is_there(tmp_path, caplog):
    first, later = (runs.open_run(made(tmp_path / name)) for name in ("first", "later"))
    pointer = tmp_path / "latest"
    pointer.symlink_to(tmp_path / "first")
    details = reference_record(str(pointer), first)
    with ledger.claim_run(str(tmp_path / "new"), fingerprint={}, details=details):
        pass
    pointer.unlink()
    pointer.symlink_to(tmp_path / "later")
    assert find_reference(night(tmp_path / "new", pointer), NAMES).run_id == first.run_id
    assert find_reference(night(tmp_path / "new", later.uri), NAMES).run_id == later.run_id, "another is asked for"

    (tmp_path / "first" / "_SUCCESS").unlink()
    assert find_reference(night(tmp_path / "new", pointer), NAMES).run_id == later.run_id
    assert "event=reference_gone" in caplog.text


def test_every_figure_of_drift_is_in_the_document(tmp_path):
    """The names of gates are keys of the document of another package."""
    figures = {
        name: [0.5 + at / 100 for at in range(30)]
        for name in ("confidence", "uncertain_share", "brightness", "contrast", "sharpness")
    }
    shares = [[0.9 - at / 100, 0.1 + at / 100] for at in range(30)]
    first = runs.open_run(made(tmp_path / "first", ratios=shares, figures=figures))
    moved = [[1 - 2 * peel, 2 * peel] for _, peel in shares]
    second = runs.open_run(made(tmp_path / "second", ratios=moved, figures=figures))
    drift = compare_with(first, second, pixels=True)
    texts = [f"{name} < -99" for name in ("psi.peel", "psi.peel.limit", "js.peel", "js.peel.limit")]
    texts += [
        f"figure_{statistic}.{name}{limit} < -99"
        for statistic in ("psi", "js")
        for name in ("brightness", "contrast", "sharpness", "size", "confidence", "uncertain_share")
        for limit in ("", ".limit")
    ]
    texts += ["alarms < -99", "pixels_changed_share < -99", "new_failures < -99", "gone_failures < -99"]
    gates = parse_gates([*texts, "psi.peel > limit"])
    require_known_names(gates, NAMES, ["against"])
    entries = judge_gates({"items": {"failed": 0, "total": 30}, "out": "x", "drift": drift}, gates)[1:]

    assert [entry["reason"] for entry in entries[:-1] if not entry["passed"]] == []
    assert not entries[-1]["passed"], "the class has doubled"
    assert entries[-1]["values"]["psi.peel"] > entries[-1]["values"]["psi.peel.limit"]
    assert drift["against"] == first.uri


@pytest.mark.parametrize("empty", ["first", "second"])
def test_a_run_without_results_has_no_number_of_alarms(tmp_path, empty):
    """A night in which all items failed is a finished run, and the next one may be compared with it."""
    facts, found = {"classes": [*NAMES], "palette": [[0, 0, 0], [9, 9, 9]]}, {}
    for name in ("first", "second"):
        if name == empty:
            with ledger.claim_run(str(tmp_path / name), fingerprint=facts, details={}) as attempt:
                ledger.commit(attempt, ledger.image("a", failed=True))
                ledger.publish(attempt, {"items": {"total": 1, "scored": 0, "failed": 1}})
        else:
            made(tmp_path / name)
        found[name] = runs.open_run(str(tmp_path / name))
    drift = compare_with(found["first"], found["second"], pixels=True)
    gate = judge_gates({"items": {"failed": 0, "total": 9}, "out": "x", "drift": drift}, parse_gates(["alarms > 0"]))[
        -1
    ]

    assert not gate["passed"]
    assert "alarms has no value (one of the two runs has no scored item)" in gate["reason"]
