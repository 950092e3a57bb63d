"""The run that --against names: found and checked before anything runs, compared with the new run at its end."""

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from fsf_core import runs, storage
from fsf_core.errors import ConfigError, OutputError
from fsf_core.score.nights import NightJob

COMPARED_FRAMES = 50_000
"""Frames of a run up to which its masks are compared without being asked to: the driver reads all of them."""

log = logging.getLogger("fsf")


def find_reference(night: NightJob, classes: Sequence[str]) -> runs.RunReader | None:
    """Open the finished run that a job is compared with; a resumed job keeps the one that it began with.

    Args:
        night: the job.
        classes: names of its classes.

    Raises:
        OutputError: there is no such run.
        ConfigError: it is the run of the job, has not finished, or has other classes.
    """
    against = night.config.against
    if against is None:
        return None
    run = _begun_with(night.out, against) or runs.open_run(against)
    if run.uri.rstrip("/") == night.out.rstrip("/"):
        raise ConfigError(f"--against is {storage.redact(against)}, which is --out too, expected another run; name it")
    if not run.finished:
        raise ConfigError(
            f"--against {storage.redact(run.uri)} has not finished, expected a finished run; finish it, or name another"
        )
    if run.classes != tuple(classes):
        raise ConfigError(
            f"--against {storage.redact(run.uri)} has the classes {', '.join(run.classes)}, expected those of this "
            f"job: {', '.join(classes)}; name a run of the same classes"
        )
    return run


def reference_record(against: str | None, run: runs.RunReader | None) -> dict[str, Any]:
    """Return what the attempt of a run records about the run that it is compared with."""
    if run is None or against is None:
        return {}
    return {"against": {"given": storage.redact(against), "run": storage.redact(run.uri), "run_id": run.run_id}}


def compare_with(reference: runs.RunReader, run: runs.RunReader, *, pixels: bool) -> dict[str, Any]:
    """Return the entry `drift` of the summary.

    Args:
        reference: the run of --against.
        run: that is about to be published.
        pixels: whether the masks of items of both are compared.
    """
    from fsf_core.analysis.drift import compare_runs

    document = compare_runs(reference, run, skip=[] if pixels else ["pixels"])
    return {"against": storage.redact(reference.uri), "pixels_compared": pixels, **document}


def _begun_with(out: str, against: str) -> runs.RunReader | None:
    """Return the run that an earlier start of this run was compared with under the same name, if it is still there."""
    if not storage.exists(storage.join(out, "run.json")):
        return None
    attempts = runs.read_document(out, "run.json")["attempts"]
    recorded = [each["against"] for each in attempts if each.get("against")]
    for each in reversed([each for each in recorded if each["given"] == storage.redact(against)]):
        with contextlib.suppress(OutputError):
            run = runs.open_run(each["run"])
            if run.run_id == each["run_id"] and run.finished:
                return run
        log.warning("event=reference_gone run=%s do='compares with the run that has its name now'", each["run"])
    return None
