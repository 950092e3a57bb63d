"""The hosts of the drills are what they are taken for."""

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.support import namespaces
from tests.support.hosts import Hosts, open_hosts, require_hosts
from tests.support.processes import ROOT, wait_for

ASK = "import sys, urllib.request; urllib.request.urlopen(f'http://{sys.argv[1]}:8000/', timeout=2)"


@pytest.fixture
def pair() -> Iterator[Hosts]:
    require_hosts()
    with open_hosts("one", "two") as hosts:
        yield hosts


def test_hosts_reach_each_other_by_name_until_one_is_cut_off_and_again_when_it_is_back(pair: Hosts) -> None:
    one, two = pair.values()
    two.popen("python", "-m", "http.server", "8000")
    wait_for(lambda: one.run("python", "-c", ASK, "two")[0] == 0, timeout_s=20)
    assert subprocess.run([sys.executable, "-c", ASK, two.address], check=False).returncode == 0, "from outside too"

    two.cut()
    code, output = one.run("python", "-c", ASK, "two")
    assert code == 1
    assert "timed out" in output
    two.heal()
    wait_for(lambda: one.run("python", "-c", ASK, "two")[0] == 0, timeout_s=20)


def test_a_host_sees_only_its_own_processes_and_disk(pair: Hosts) -> None:
    one, two = pair.values()
    one.popen("sleep", "60")
    one.must("sh", "-c", "echo one > /tmp/ray/name; hostname")
    assert "sleep 60" in one.must("ps", "ax")
    assert "sleep 60" not in two.must("ps", "ax")
    assert two.must("sh", "-c", "hostname; ls /tmp/ray") == "two\n"


def test_a_killed_host_takes_its_processes_along_and_spares_the_others(pair: Hosts) -> None:
    one, two = pair.values()
    lost, kept = one.popen("sleep", "60"), two.popen("sleep", "60")
    wait_for(lambda: all(host.titles() for host in pair.values()))
    one.pause()
    one.kill()
    assert lost.wait(5) != 0
    assert kept.poll() is None


def test_a_throttled_host_runs_for_a_share_of_the_time(pair: Hosts) -> None:
    one = pair["one"]
    one.popen("python", "-c", "while True: pass")
    wait_for(one.titles)
    process = psutil.Process(one.processes()[0])
    one.throttle(0.2)
    began, before = time.monotonic(), process.cpu_times().user
    time.sleep(2)
    share = (process.cpu_times().user - before) / (time.monotonic() - began)
    one.throttle(1)
    assert share < 0.45, "0.2, and what the machine's other work lets a signal wait"


def test_a_host_can_have_a_clock_of_its_own() -> None:
    require_hosts()
    with open_hosts("right", "fast", clocks={"fast": 90}) as hosts:
        ask = ("python", "-c", "import time; time.sleep(0.01); print(time.time())")  # a sleep failed, and so did Ray
        right, fast = (float(host.must(*ask)) for host in hosts.values())
    assert 85 < fast - right < 95 + 5


def test_hosts_end_with_the_process_that_opened_them() -> None:
    require_hosts()
    code = (
        "from tests.support.hosts import open_hosts\nwith open_hosts('one') as h: h['one'].popen('sleep', '61').wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as opener:
        family: list[psutil.Process] = []

        def asleep() -> bool:
            family[:] = psutil.Process(opener.pid).children(recursive=True)
            return any(process.name() == "sleep" for process in family)

        wait_for(asleep, timeout_s=20)
        opener.kill()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive


def test_a_machine_without_the_means_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    assert namespaces.why_no_hosts() == "hosts of their own need root, for namespaces"
