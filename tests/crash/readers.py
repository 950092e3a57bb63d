"""A stranger's view of a run: `_SUCCESS` and RUN/TABLE/*.parquet read with DuckDB, and never the ledger's own reader.

A read counts only if the run bears the same `_SUCCESS` before and after it. Then it must show one of the allowed
states, and no other: a row twice, a row missing, a torn file, a file that manifest.json does not list.
"""

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

KEYS = {
    "masks": "item_id, frame_index",
    "class_stats": "item_id, frame_index, class_id",
    "failures": "item_id, frame_index, stage",
    "video_stats": "item_id, second, class_id",
}
NOT_COMPARED = {"masks": "run_id", "failures": "attempts"}
"""Columns that differ between two runs of the same items."""

LISTED = ("masks/*.parquet", "class_stats/*.parquet", "failures/*.parquet", "video_stats/*.parquet", "videos/*.mp4")
"""The published files that manifest.json must list, all of them and no other."""

POLL_SHARE = 0.2
"""Share of the time that a polling reader reads: more would slow the job down that it watches."""


@dataclass(frozen=True, kw_only=True)
class State:
    """The content of a run, equal for two runs of the same items."""

    tables: Mapping[str, tuple[int, str]]
    """Rows, and a digest of all their values, by table."""
    files: Mapping[str, str]
    """Digests of overlays by their path in a row of masks, and of rendered videos by rank."""

    def __str__(self):
        rows = ", ".join(f"{rows} {name}" for name, (rows, _) in self.tables.items())
        digest = hashlib.sha256(repr((self.tables, self.files)).encode()).hexdigest()[:6]
        return f"{rows}, {len(self.files)} files, digest {digest}"


class WrongInstantError(Exception):
    """A finished run shows what no reader may see."""


def state_of(run: Path) -> State:
    """Return the content of a run, finished or not.

    Raises:
        WrongInstantError: a row twice, or a file that is torn or vanishes.
    """
    with duckdb.connect(config={"threads": 1}) as connection:
        tables = {table: _table_state(connection, run, table) for table in KEYS}
        paths = _overlays(connection, run)
    try:
        overlays = {path: _digest(run / path) for path in paths}
        videos = sorted(_digest(path) for path in run.glob("videos/*.mp4"))
    except OSError as error:
        raise WrongInstantError(f"a file vanished: {error}") from error
    return State(tables=tables, files=overlays | {f"video {rank}": digest for rank, digest in enumerate(videos)})


def finished_state(run: Path) -> State | None:
    """Return the content of a run that bears the same `_SUCCESS` before and after the read; None for any other.

    Raises:
        WrongInstantError: the run is finished, and shows a row twice, a torn file, or other files than manifest.json.
    """
    before = _mark(run)
    if before is None:
        return None
    try:
        state = state_of(run)
        _require_listed(run)
    except WrongInstantError:
        if _mark(run) == before:
            raise
        return None
    return state if _mark(run) == before else None


def problem_of(run: Path, allowed: Collection[State]) -> str:
    """Return why a finished run is wrong at this instant; empty if it is right or not finished."""
    try:
        state = finished_state(run)
    except WrongInstantError as error:
        return str(error)
    return "" if state is None or state in allowed else f"found {state}, expected {' or '.join(map(str, allowed))}"


def leftovers(run: Path) -> list[str]:
    """Return the drafts, attempts and other hidden files that a finished run should not have."""
    hidden = (str(path.relative_to(run)) for path in sorted(run.rglob("*")) if path.name.startswith("."))
    return [name for name in hidden if name != ".lock" and not name.startswith(".lease-")]


def delta_rows(tables: Path, run_id: str) -> dict[str, tuple[int, int]]:
    """Return rows and distinct rows of a run in each of its Delta tables; a table that does not exist has none."""
    counts = {}
    for name in ("masks", "class_stats", "failures"):
        try:
            rows = DeltaTable(str(tables / name)).to_pyarrow_table(filters=[("run_id", "=", run_id)])  # noqa: F841
        except DeltaError:
            counts[name] = (0, 0)
            continue
        with duckdb.connect() as connection:
            counts[name] = connection.sql(f"select count(*), count(distinct ({KEYS[name]})) from rows").fetchall()[0]
    return counts


class Poll:
    """A reader that polls a run in a thread; collects the wrong instants."""

    def __init__(self, run: Path, allowed: Collection[State], *, share: float = POLL_SHARE):
        self.run, self.allowed, self.share = run, allowed, share
        self.reads = 0
        """Reads of a finished run."""
        self.problems: list[str] = []

    @contextlib.contextmanager
    def running(self) -> Iterator["Poll"]:
        """Poll for as long as the block lasts."""
        ended = threading.Event()
        thread = threading.Thread(target=self._poll, args=(ended,))
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()

    def look(self) -> None:
        """Read once."""
        self.reads += _mark(self.run) is not None
        problem = problem_of(self.run, self.allowed)
        if problem and problem not in self.problems:
            self.problems.append(problem)

    def _poll(self, ended: threading.Event) -> None:
        while not ended.is_set():
            began = time.monotonic()
            self.look()
            ended.wait(0.01 + (time.monotonic() - began) * (1 / self.share - 1))


def _mark(run: Path) -> tuple[int, int] | None:
    """Return what tells one `_SUCCESS` from another; None without one."""
    try:
        status = (run / "_SUCCESS").stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _table_state(connection: duckdb.DuckDBPyConnection, run: Path, table: str) -> tuple[int, str]:
    if not (source := _source(run, table)):
        return 0, ""
    with _wrong_if_unreadable(table):
        found = connection.sql(f"select * from {source} order by {KEYS[table]}")
        columns, rows = found.columns, found.fetchall()
    keys = [columns.index(name) for name in KEYS[table].split(", ")]
    if (distinct := len({tuple(row[at] for at in keys) for row in rows})) != len(rows):
        raise WrongInstantError(f"{table} has {len(rows)} rows, of which {distinct} are distinct")
    kept = [at for at, name in enumerate(columns) if name != NOT_COMPARED.get(table)]
    content = [[columns[at] for at in kept], *([row[at] for at in kept] for row in rows)]
    return len(rows), hashlib.sha256(repr(content).encode()).hexdigest()


def _overlays(connection: duckdb.DuckDBPyConnection, run: Path) -> list[str]:
    """Return the paths of the overlays that rows of masks name."""
    if not (source := _source(run, "masks")):
        return []
    with _wrong_if_unreadable("masks"):
        rows = connection.sql(f"select overlay from {source} where overlay is not null order by 1").fetchall()
    return [path for (path,) in rows]


def _source(run: Path, table: str) -> str:
    """Return the files of a table as a source of SQL; empty if there are none."""
    paths = sorted(map(str, run.glob(f"{table}/*.parquet")))
    return f"read_parquet({paths}, union_by_name = true)" if paths else ""


@contextlib.contextmanager
def _wrong_if_unreadable(table: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise WrongInstantError(f"{table} cannot be read: {' '.join(str(error).split())[:200]}") from error


def _require_listed(run: Path) -> None:
    """Compare the published files with manifest.json."""
    try:
        listed = {file["path"]: file for file in json.loads((run / "manifest.json").read_text())["files"]}
        sizes = {path: (run / path).stat().st_size for path in _published(run) | {*listed}}
    except (OSError, ValueError, KeyError) as error:
        raise WrongInstantError(f"manifest.json and the files differ: {error}") from error
    if others := {*sizes} ^ {*listed}:
        raise WrongInstantError(f"manifest.json does not list {sorted(others)}")
    if torn := [path for path, file in listed.items() if file["bytes"] != sizes[path]]:
        raise WrongInstantError(f"{torn} are not of the size in manifest.json")


def _published(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for pattern in LISTED for path in run.glob(pattern)}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
