"""The runner of checks: whatever a check does becomes a line."""

import threading
import time
from collections.abc import Iterator

import pytest

from fsf_core.doctor.checks import Check, NotCheckedError
from fsf_core.errors import StorageError
from fsf_core.score.findings import Finding

FIRST = Finding(check="c", status="ok", found="first")


def _raising(error: BaseException) -> Iterator[Finding]:
    yield FIRST
    raise error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StorageError("s3://b refuses; create the bucket"), "FAIL c: s3://b refuses; create the bucket"),
        (NotCheckedError("it needs --bundle"), "WARN c: not checked: it needs --bundle"),
        (PermissionError(13, "denied"), "FAIL c: PermissionError: [Errno 13] denied; check the path, its permissions"),
        (KeyError("x"), "WARN c: not checked: unexpected KeyError: 'x'; report this as a bug"),
        (RuntimeError("s3://me:secret@host"), "WARN c: not checked: unexpected RuntimeError: s3://***@host; report"),
    ],
)
def test_an_error_becomes_a_line_below_what_was_found_before(error: BaseException, line: str) -> None:
    found = [*Check(name="c", call=lambda: _raising(error), limit_s=10).findings()]

    assert found[0] == FIRST
    assert str(found[1]).startswith(line)


def test_a_check_that_hangs_fails_at_its_limit_and_keeps_what_it_found() -> None:
    release = threading.Event()

    def hang() -> Iterator[Finding]:
        yield FIRST
        release.wait(60)

    begun = time.monotonic()
    found = [*Check(name="c", call=hang, limit_s=0.2).findings()]
    release.set()

    assert time.monotonic() - begun < 10
    assert [finding.status for finding in found] == ["ok", "fail"]
    assert "no result within 0 s" in found[1].found


def test_checks_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=30)

    def meet() -> list[Finding]:
        both.wait()
        return [FIRST]

    checks = [Check(name="c", call=meet, limit_s=60) for _ in range(2)]

    assert [finding for check in checks for finding in check.findings()] == [FIRST, FIRST]
