"""What the drills run: a job of images and video on a cluster of hosts, a record of its progress, and the verdict."""

import contextlib
import itertools
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from fsf_core import runs
from tests.support import assets, clips
from tests.support.hosts import Host
from tests.support.processes import ROOT, fsf, receipts, rows_of

HOOK = str(Path(__file__).with_name("hook"))
PYTHONPATH = f"{HOOK}:{ROOT}"
IMAGES, VIDEOS, VIDEO_FRAMES = 240, 2, 60
CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")
FRAMES = IMAGES + VIDEOS * VIDEO_FRAMES


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The command of a job, without --out, and its tables."""

    home: Path
    command: tuple[str, ...]
    rows: dict[str, list[dict[str, Any]]]
    """The tables of the undisturbed local run."""
    unknown: tuple[str, ...] = ()
    """Columns of `class_stats` that are not compared."""

    def option(self, name: str) -> str:
        """Return the value of an option of the command."""
        return self.command[self.command.index(name) + 1]

    def without_probabilities(self) -> "Workload":
        """Return it for a run beside GPUs: fused models give class maps and no probabilities."""
        return replace(self, unknown=("mean_probability",))

    def compared(self, rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
        """Return tables as they are compared."""
        stats = [{name: row[name] for name in row if name not in self.unknown} for row in rows["class_stats"]]
        return {**rows, "class_stats": stats}


def make_workload(home: Path, bundle: str | None = None) -> Workload:
    """Make images, videos, a manifest and, if none is given, a bundle; score them on this machine without a fault."""
    bundle = bundle or export_tiny_bundle(home)
    sources = []
    for number in range(20):
        sources.append(home / f"{number}.jpg")
        sources[-1].write_bytes(assets.pillow(assets.picture(200 + number, 300), "JPEG"))
    rows = [f"image {number},{sources[number % len(sources)]}" for number in range(IMAGES)]
    for number in range(VIDEOS):
        path = home / f"{number}.mp4"
        path.write_bytes(clips.clip(frames=VIDEO_FRAMES, gop=5 + number))
        rows.append(f"video {number},{path}")
    (home / "items.csv").write_text("id,uri\n" + "\n".join(rows) + "\n")
    command = (
        "score", "--bundle", bundle, "--manifest", str(home / "items.csv"), "--provider", "cpu",
        "--part-units", "4", "--segment-frames", "8",
    )  # fmt: skip
    code, output = fsf(*command, "--actors", "2", "--out", str(home / "undisturbed"))
    assert code == 0, output
    rows_there = rows_of(home / "undisturbed")
    assert len(rows_there["masks"]) == FRAMES
    return Workload(home=home, command=command, rows=rows_there)


def export_tiny_bundle(home: Path) -> str:
    """Export the tiny network of the tests; returns the folder of the bundle."""
    code, output = fsf(
        "export", "--net", "tests.support.tiny_net:build", "--classes", ",".join(CLASSES), "--exporter", "torchscript",
        "--profile", "fastsegformer", "--out", str(home / "bundle"),
    )  # fmt: skip
    assert code == 0, output
    return str(home / "bundle")


@dataclass(kw_only=True)
class Run:
    """A run on a cluster: its driver, and when its parts were committed."""

    work: Workload
    out: Path
    label: str = ""
    """Tells the output of one driver from that of another one of the same run."""
    driver: Any = None
    log: Path = field(default_factory=Path)
    codes: list[int] = field(default_factory=list)
    """Exit codes of the starts so far."""
    fault_at: float = 0.0
    ended_at: float = 0.0
    _commits: list[float] = field(default_factory=list)
    _watched: threading.Event = field(default_factory=threading.Event)

    def start(self, host: Host, *options: str, address: str, program: tuple[str, ...] = ("fsf",), **more: str) -> None:
        """Start the job from a host."""
        self.log = self.out.parent / f"{self.out.name}{self.label}.{len(self.codes)}.log"
        words = [*program, *self.work.command, "--out", str(self.out), "--ray-address", address, *options]
        with self.log.open("w") as output:
            self.driver = host.popen(*words, output=output, **more)

    def pause(self) -> None:
        """Stop the driver (SIGSTOP); nsenter, which started it, stops with it."""
        for process in psutil.Process(self.driver.pid).children(recursive=True):
            process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue after `pause`."""
        nsenter = psutil.Process(self.driver.pid)
        for process in [*nsenter.children(recursive=True), nsenter]:  # in this order, or nsenter stops again
            process.send_signal(signal.SIGCONT)

    @property
    def ended(self) -> bool:
        """Whether the driver has ended."""
        return self.driver.poll() is not None

    def until_parts(self, count: int, *, limit_s: float = 120) -> None:
        """Wait until this number of parts is committed."""
        self.until(lambda: receipts(self.out) >= count, limit_s=limit_s, what=f"{count} parts")

    def until(self, condition: Callable[[], bool], *, limit_s: float, what: str) -> None:
        """Wait for something that must happen while the job runs."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert not self.ended, f"the job ended before {what}: {self.text()}"
            assert time.monotonic() < deadline, f"no {what} within {limit_s:g} s: {self.text()}"
            time.sleep(0.1)

    def fault(self) -> None:
        """Note the time of the fault."""
        self.fault_at = time.monotonic()

    def wait(self, limit_s: float) -> int:
        """Wait for the end of the driver; a job that takes longer hangs.

        Raises:
            AssertionError: it does.
        """
        try:
            code = int(self.driver.wait(limit_s))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.driver.pid, signal.SIGKILL)
            raise AssertionError(f"the job hangs: no end within {limit_s:g} s: {self.text()}") from None
        self.ended_at = time.monotonic()
        self.codes.append(code)
        return code

    def text(self) -> str:
        """Return the output of the newest start."""
        return self.log.read_text() if self.log.is_file() else ""

    @property
    def last_line(self) -> str:
        """The reason of the newest start, its last line."""
        return (self.text().strip().splitlines() or [""])[-1]

    @property
    def after_fault_s(self) -> float:
        """Seconds from the fault to the end of the driver."""
        return self.ended_at - self.fault_at

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Note when parts are committed, for as long as the block lasts."""
        ended = threading.Event()

        def watch() -> None:
            seen = 0
            while not ended.wait(0.2):
                now = receipts(self.out)
                if now != seen:
                    seen = now
                    self._commits.append(time.monotonic())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @property
    def standstill_s(self) -> float:
        """The longest time after the fault in which no part was committed, until the driver's end."""
        times = [self.fault_at, *(at for at in self._commits if at > self.fault_at), self.ended_at or time.monotonic()]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def judge(self) -> None:
        """Require the tables of the undisturbed local run.

        Raises:
            AssertionError: they differ.
        """
        found, expected = map(self.work.compared, (rows_of(self.out), self.work.rows))
        assert found == expected, "the tables differ from those of the undisturbed local run"
        assert runs.verify(str(self.out)) == []


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder for a while; its name is short, because jobs make sockets."""
    with tempfile.TemporaryDirectory(prefix="fsf-drill-") as folder:
        yield Path(folder)
