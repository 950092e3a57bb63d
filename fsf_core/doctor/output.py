"""Checks of the folder of the run: what its store allows, and what a job would make of the run in it.

The only checks that write. What they write has names of its own, touches no file of a run, and is removed again, also
where a check fails.
"""

import contextlib
import fcntl
import secrets
import shutil
from collections.abc import Iterator

from fsf_core import runs, storage
from fsf_core.doctor.checks import NotCheckedError
from fsf_core.doctor.subject import Subject
from fsf_core.errors import FSFError, OutputError, StorageError
from fsf_core.score import preflight
from fsf_core.score.changes import as_recorded, require_same_values
from fsf_core.score.findings import Finding
from fsf_core.score.nights import find_reused

PROBE = ".fsf-doctor-"
"""Prefix of the names of the objects that are written."""

FREE_BYTES = 1 << 30
"""Free space of a disk below which there is a warning."""

ONE_JOB = "start one job at a time in this folder: "


def check_out(subject: Subject) -> Iterator[Finding]:
    """Write, read, overwrite and delete a file of --out."""
    yield from (_check_disk if storage.is_local(subject.out) else _check_store)(subject.out)


def check_run(subject: Subject) -> Iterator[Finding]:
    """Judge the run in --out as a job would, without taking it."""
    out = subject.out
    runs.require_run_or_empty(out)
    holder, alive = runs.find_holder(out)
    shown = storage.redact(out)
    if holder and alive:
        raise OutputError(f"{shown} is in use by {holder}; wait for it, or give another --out")
    if holder:
        found = f"{shown} is held by {holder}, whose heartbeat has stopped"
        yield Finding(check="run", status="warn", found=found, do="a job takes it over after 60 s without a heartbeat")
    state = _state(subject)
    yield Finding(check="run", status="ok", found=f"{shown} {state}")


def check_reuse(subject: Subject) -> Iterator[Finding]:
    """Find the run whose results a job would copy."""
    if subject.night is None:
        raise NotCheckedError("it needs --out")
    earlier = find_reused(subject.night, subject.fingerprint())
    if earlier is None:
        found = f"no run can be reused for --reuse {storage.redact(str(subject.config.reuse))}: model or options differ"
        yield Finding(check="reuse", status="warn", found=found, do="the job scores everything; compare the options")
    else:
        found = f"results of {storage.redact(earlier.uri)} are copied for items that have not changed"
        yield Finding(check="reuse", status="ok", found=found)


def _state(subject: Subject) -> str:
    """Return what a job would do with the folder.

    Raises:
        OutputError: it belongs to another run, or is damaged.
        NotCheckedError: which run the options mean is not known.
    """
    out = subject.out
    if not storage.exists(storage.join(out, "run.json")):
        return "holds no run yet"
    runs.read_fingerprint(out)
    finished = runs.is_finished(out)
    try:
        facts = subject.fingerprint()
    except NotCheckedError as error:
        raise NotCheckedError(
            f"whether the {'finished' if finished else 'unfinished'} run in {storage.redact(out)} is of these options: "
            f"{error}"
        ) from error
    manifest = subject.required_manifest()
    recorded = as_recorded(facts, manifest, out)
    require_same_values(recorded, manifest, out)
    runs.require_same(out, recorded)
    done = runs.find_completed(runs.load_ledger(out))
    if finished:
        return "holds this run, finished; a job would score only what is new, and try failures again"
    return f"holds this run, unfinished; a job would resume it ({len(done.rows)} items done)"


def _check_disk(out: str) -> Iterator[Finding]:
    """Write and lock a file in a local folder; missing folders are created for that long."""
    folder = storage.local_path(out).absolute()
    probe = folder / f"{PROBE}{secrets.token_hex(4)}"
    with storage.empty_folders_removed(str(folder)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with probe.open("w") as file:
                file.write("x")
                file.flush()
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise OutputError(
                        f"{out} cannot be locked: {error}; give an --out on a file system with locks"
                    ) from error
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise OutputError(f"{out} cannot be written: {error}; give another --out") from error
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
    found = f"{out} can be written and locked, {free / 1e9:.1f} GB free"
    low = free < FREE_BYTES
    do = "free some space: a job that fills the disk stops, and the same command resumes it" if low else ""
    yield Finding(check="out", status="warn" if low else "ok", found=found, do=do)


def _check_store(out: str) -> Iterator[Finding]:
    """Write, read, create, overwrite and delete one object below a prefix."""
    probe, shown = storage.join(out, f"{PROBE}{secrets.token_hex(4)}"), storage.redact(out)
    written = False
    try:
        storage.create(probe, b"first")
        written = True
        first = storage.read_bytes(probe)
        again = storage.create(probe, b"second")
        storage.write_bytes(probe, b"third")
        third = storage.read_bytes(probe)
        storage.list_names(out, PROBE)
    except FSFError as error:
        left = _remove_quietly(probe) if written else None
        raise StorageError(f"{error}{_describe_left(probe, left)}") from error
    left = _remove_quietly(probe)
    if left is not None:
        raise StorageError(f"{left}{_describe_left(probe, left)}")
    if (first, third) != (b"first", b"third"):
        raise StorageError(
            f"{shown} returns other bytes than were written to it a moment ago; expected a store whose reads follow "
            "its writes (S3, Google Cloud Storage, Azure); give an --out in such a store"
        )
    yield Finding(check="out", status="ok", found=f"{shown}: written, read, overwritten, listed and deleted an object")
    yield _judge_conditional(shown, overwrites=again)
    yield from _check_multipart(probe)
    yield from _check_clock(out)


def _judge_conditional(shown: str, *, overwrites: bool) -> Finding:
    """Judge whether the store creates an object only where none exists."""
    if not overwrites:
        found = f"{shown}: an existing object is not created again"
        return Finding(check="out conditional write", status="ok", found=found)
    return Finding(
        check="out conditional write",
        status="warn",
        found=f"{shown} ignores If-None-Match: it overwrites an object that should only be created",
        do=f"{ONE_JOB}two that start at once may both write until a heartbeat shows it, up to 5 s later; or use a "
        "store with conditional writes",
    )


def _check_multipart(probe: str) -> Iterator[Finding]:
    """Begin and abort an upload in parts, by which larger files are written."""
    try:
        tried = storage.try_multipart(probe)
    except StorageError as error:
        do = "files above 50 MiB (--compact-mb, rendered videos) need it"
        yield Finding(check="out multipart", status="warn", found=str(error), do=do)
        return
    if tried:
        yield Finding(check="out multipart", status="ok", found="an upload in parts can be begun and aborted")


def _check_clock(out: str) -> Iterator[Finding]:
    """Compare this machine's clock with the store's, which refuses requests of another time."""
    measured = storage.clock_ahead(out)
    if measured is None:
        return
    ahead_s, uncertainty_s = measured
    beyond_s = abs(ahead_s) - uncertainty_s
    status = preflight.skew_status(beyond_s)
    direction = "ahead of" if ahead_s > 0 else "behind"
    found = f"this machine is {abs(ahead_s):.1f} ± {uncertainty_s:.1f} s {direction} the store"
    do = "" if status == "ok" else "synchronise it (chrony): stores refuse requests signed with a clock 15 minutes off"
    yield Finding(check="out clock", status=status, found=found, do=do)


def _describe_left(probe: str, left: FSFError | None) -> str:
    """Return which object could not be removed again; empty if it was."""
    return f"; {storage.redact(probe)} is left there, delete it" if left is not None else ""


def _remove_quietly(uri: str) -> FSFError | None:
    """Remove an object; returns why it is left."""
    try:
        storage.remove(uri)
    except FSFError as error:
        return error
    return None
