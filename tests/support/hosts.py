"""Hosts for tests: namespaces of this machine with an address, a process table and a session disk each.

    with open_hosts("head", "one", "two") as hosts:
        hosts["head"].start_head(cpus=0)
        hosts["one"].start_worker(hosts["head"], cpus=2)
        code, output = hosts["head"].run("fsf", "score", …)
        hosts["one"].cut()

A host knows the others by name, has an interface of its own on a common switch, sees no process of another host, and
has its own /tmp/ray and /dev/shm. Everything else on the disk is shared, like a network disk. A process on it can be
reached from here at its address, and reaches this process at `hosts.outside`. A host is lost at once when it is killed;
all of them end with the process that opened them, however that ends.

Needs root, util-linux and pyroute2; `require_hosts` skips a test where they are missing.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.namespaces import (
    change_links,
    child_of,
    first_process,
    own_subnet,
    processes_of,
    title_of,
    why_no_hosts,
)
from tests.support.processes import ROOT

SESSIONS = Path("/tmp/ray")  # noqa: S108 - where Ray puts its sessions; every host mounts its own disk there
OBJECT_STORE_BYTES = 150_000_000


def require_hosts() -> None:
    """Skip the test where there can be no hosts."""
    if reason := why_no_hosts():
        pytest.skip(reason)


def faketime_library() -> str | None:
    """Return the library that shifts clocks, from Debian's package faketime, if it is installed."""
    return next(map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


@dataclass(kw_only=True)
class Host:
    """One host."""

    name: str
    address: str
    home: Path
    """Its HOME, and the folder of its commands' output."""
    init: subprocess.Popen[str]
    """The process that holds its namespaces, as seen from here."""
    switch_pid: int
    port: str
    """Its interface at the switch."""
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    _throttle: threading.Event | None = None

    @property
    def pid(self) -> int:
        """Its first process, as seen from here."""
        return int(Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()[0])

    def popen(
        self, *command: str, cwd: Path | str = ROOT, output: IO[Any] | int = subprocess.PIPE, **environment: str
    ) -> subprocess.Popen[str]:
        """Start a command on this host, the leader of a process group; stderr joins stdout.

        Args:
            command: `fsf`, `python` and `ray` are those of this checkout and its interpreter.
            cwd: its current folder.
            output: where stdout and stderr go.
            environment: variables beside those of the host.
        """
        process = subprocess.Popen(
            ["nsenter", "-t", str(self.pid), "-n", "-m", "-u", "-i", "-p", f"--wd={cwd}", "--", *_resolved(command)],
            env={**self.environment, **environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, *command: str, timeout_s: float = 120, cwd: Path | str = ROOT, **environment: str) -> tuple[int, str]:
        """Run a command on this host; returns its exit code and its output.

        Raises:
            AssertionError: it takes longer; it is killed.
        """
        with tempfile.TemporaryFile("w+", dir=self.home) as output:  # a daemon that it leaves behind would hold a pipe
            process = self.popen(*command, cwd=cwd, output=output, **environment)
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                output.seek(0)
                raise AssertionError(f"{' '.join(command)}: no end within {timeout_s:g} s\n{output.read()}") from None
            output.seek(0)
            return code, output.read()

    def must(self, *command: str, timeout_s: float = 120, **environment: str) -> str:
        """Run a command that must succeed; returns its output."""
        code, output = self.run(*command, timeout_s=timeout_s, **environment)
        assert code == 0, f"{self.name}: {' '.join(command)}: exit code {code}\n{output}"
        return output

    # --- Ray ---

    @property
    def gcs(self) -> str:
        """Address of the cluster whose head this host is."""
        return f"{self.address}:6379"

    @property
    def dashboard(self) -> str:
        """Address for `ray job submit` of the cluster whose head this host is."""
        return f"http://{self.address}:8265"

    def start_head(self, *options: str, cpus: float = 0, timeout_s: float = 120, **environment: str) -> None:
        """Start the head of a cluster; returns once it responds."""
        self.must(
            "ray", "start", "--head", f"--node-ip-address={self.address}", "--port=6379",
            f"--dashboard-host={self.address}", *_node_options(cpus), *options, timeout_s=timeout_s, **environment,
        )  # fmt: skip

    def start_worker(
        self, head: "Host", *options: str, cpus: float = 2, gpus: float = 0, timeout_s: float = 120, **environment: str
    ) -> None:
        """Join the cluster of a head."""
        self.must(
            "ray", "start", f"--address={head.gcs}", f"--node-ip-address={self.address}",
            *_node_options(cpus, gpus), *options, timeout_s=timeout_s, **environment,
        )  # fmt: skip

    # --- faults ---

    def processes(self) -> list[int]:
        """Return the processes of this host but for the first, as seen from here."""
        return [pid for pid in processes_of(self._process_table()) if pid != self.pid]

    def titles(self) -> dict[int, str]:
        """Return the command lines of the processes of this host, by pid as seen from here."""
        return {pid: title_of(pid) for pid in self.processes()}

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to every process of this host but the first."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def signal_program(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the processes of one program."""
        found = [pid for pid, title in self.titles().items() if title.split(" ")[0].rpartition("/")[2] == name]
        assert found, f"no {name} runs on {self.name}"
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def pause(self) -> None:
        """Stop every process (SIGSTOP); its kernel still accepts connections."""
        self.signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue after `pause`."""
        self.signal_all(signal.SIGCONT)
        for process in self.started:  # nsenter stops with its command
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)

    def kill_processes(self) -> None:
        """Kill (-9) every process; the host stays, and refuses connections."""
        while self.processes():
            self.signal_all(signal.SIGKILL)
            time.sleep(0.05)

    def kill(self) -> None:
        """Take the whole host away, its address too, as when a machine loses power."""
        self._end_throttle()
        self.init.kill()
        self.init.wait()
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)

    def cut(self) -> None:
        """Cut the host off: packets from and to it are dropped silently."""
        self._links(["link", {"command": "set", "ifname": self.port, "state": "down"}])

    def heal(self) -> None:
        """Connect it again."""
        self._links(["link", {"command": "set", "ifname": self.port, "state": "up"}])

    def slow_link(self, rate: str, *, latency: str = "50ms", burst: int = 16_000) -> None:
        """Limit what it receives to a rate such as 2mbit."""
        self._links(
            ["tc", {"command": "add", "kind": "tbf", "ifname": self.port, "rate": rate, "latency": latency,
                    "burst": burst}]
        )  # fmt: skip

    def throttle(self, share: float, *, period_s: float = 0.1) -> None:
        """Let its processes run for a share of the time only, until it is called with 1."""
        self._end_throttle()
        if share >= 1:
            return
        ended = self._throttle = threading.Event()

        def alternate() -> None:
            while not ended.is_set():
                self.pause()
                ended.wait(period_s * (1 - share))
                self.go_on()
                ended.wait(period_s * share)

        threading.Thread(target=alternate, daemon=True).start()

    def _end_throttle(self) -> None:
        if self._throttle:
            self._throttle.set()
            self._throttle = None
            time.sleep(0.3)
            with contextlib.suppress(OSError, IndexError):
                self.go_on()

    def _links(self, *requests: list[Any]) -> None:
        change_links([self.switch_pid, *request] for request in requests)

    def _process_table(self) -> str:
        return str(Path(f"/proc/{self.pid}/ns/pid").readlink())


@dataclass(frozen=True, kw_only=True)
class Hosts(Mapping[str, Host]):
    """The hosts of one test, by name."""

    by_name: dict[str, Host]
    outside: str
    """Address of this process, as the hosts see it."""

    def __getitem__(self, name: str) -> Host:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)


@contextlib.contextmanager
def open_hosts(
    *names: str, environment: Mapping[str, str] | None = None, clocks: Mapping[str, float] | None = None
) -> Iterator[Hosts]:
    """Make hosts, and take them away with everything that runs on them.

    Args:
        names: of the hosts, as they are known to each other.
        environment: variables of every command on them; of this process they get PATH and LANG alone.
        clocks: by name, by how many seconds the clock of a host is fast; needs libfaketime.
    """
    SESSIONS.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        subnet = stack.enter_context(own_subnet())
        home = Path(tempfile.mkdtemp(prefix="fsf-hosts-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        addresses = {name: f"{subnet}.{10 + number}" for number, name in enumerate(names)}
        known = "".join(f"{address} {name}\n" for name, address in addresses.items())
        (home / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
        switch = stack.enter_context(first_process("switch", home / "hosts", SESSIONS))
        hosts = {
            name: Host(
                name=name,
                address=address,
                home=home / name,
                init=stack.enter_context(first_process(name, home / "hosts", SESSIONS)),
                switch_pid=child_of(switch),
                port=f"p{number}",
                environment=_environment(home / name, {**(environment or {}), **_shifted((clocks or {}).get(name, 0))}),
            )
            for number, (name, address) in enumerate(addresses.items())
        }
        for host in hosts.values():
            host.home.mkdir()
            stack.callback(_end, host)
        change_links(_wiring(child_of(switch), hosts.values(), f"{subnet}.1"))
        yield Hosts(by_name=hosts, outside=f"{subnet}.1")


def _wiring(switch_pid: int, hosts: Any, outside: str) -> Iterator[list[Any]]:
    """Yield the requests that connect hosts, and this process, to a switch."""
    leg = f"fsf{outside.split('.')[2]}"
    yield [switch_pid, "link", {"command": "add", "ifname": "sw", "kind": "bridge"}]
    yield [switch_pid, "link", {"command": "set", "ifname": "sw", "state": "up"}]
    ends = [(host.port, "eth0", child_of(host.init), host.address) for host in hosts]
    for port, interface, pid, address in [*ends, ("out", leg, os.getpid(), outside)]:
        peer = {"ifname": interface, "net_ns_pid": pid}
        yield [switch_pid, "link", {"command": "add", "ifname": port, "kind": "veth", "peer": peer}]
        yield [switch_pid, "link", {"command": "set", "ifname": port, "master": "sw", "state": "up"}]
        if pid != os.getpid():
            yield [pid, "link", {"command": "set", "ifname": "lo", "state": "up"}]
        yield [pid, "addr", {"command": "add", "ifname": interface, "address": address, "prefixlen": 24}]
        yield [pid, "link", {"command": "set", "ifname": interface, "state": "up"}]


def _end(host: Host) -> None:
    """End what was started on a host, and its commands."""
    if host.init.poll() is None:
        host.kill()
    for process in host.started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


def _environment(home: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of every command on a host."""
    programs = Path(sys.executable).parent
    return {
        "HOME": str(home),
        "PATH": f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        **more,
    }


def _shifted(seconds: float) -> dict[str, str]:
    """Return the variables that shift the clocks of a command and its children.

    The monotonic one, too: where it stays, libfaketime 0.9.10 makes time.sleep of Python fail.
    """
    if not seconds:
        return {}
    library = faketime_library()
    if library is None:
        pytest.skip("a clock of its own needs libfaketime (Debian's faketime)")
    return {
        "LD_PRELOAD": library,
        "FAKETIME": f"{seconds:+g}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "0",
        "NO_FAKE_STAT": "1",
        "FAKETIME_NO_CACHE": "1",
    }


def _node_options(cpus: float, gpus: float = 0) -> list[str]:
    """Return options of `ray start` that keep a node small."""
    return [
        f"--num-cpus={cpus:g}",
        *([f"--num-gpus={gpus:g}"] if gpus else []),
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        "--disable-usage-stats",
    ]


def _resolved(command: Sequence[str]) -> list[str]:
    """Return a command with the checkout's programs."""
    first, *rest = command
    own = {
        "fsf": [sys.executable, "-m", "fsf_core.cli"],
        "python": [sys.executable],
        "ray": [str(Path(sys.executable).parent / "ray")],
    }
    return [*own.get(first, [first]), *rest]
