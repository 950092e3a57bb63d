"""`ray up` of cluster/ray-up/own-machines.yaml on three machines with an sshd and a disk each, and a job on them.

    python -m tests.drills.ray_up MACHINE WHEELS --bundle BUNDLE

MACHINE is the root of a Debian as cluster/ray-up/README.md prepares it: Python 3.11, openssh-server, rsync, OpenCV's
libraries, the user fsf (uid 1000) and its /opt/fsf. WHEELS holds a wheel of every dependency, since the machines reach
no registry. Takes root, 6 GB of disk and some ten minutes on two cores. The commands are those of that README, run on a
fourth host. `ray down` is run too: it stops the processes of one user in the process tables of three hosts.
"""

import argparse
import contextlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds

from fsf_core.demo import oranges
from tests.support.hosts import Host, Hosts, open_hosts
from tests.support.processes import ROOT, wait_for

FILE = ROOT / "cluster" / "ray-up" / "own-machines.yaml"
PYTHON = "/opt/fsf/venv/bin/python"
NODES = (
    "import ray; ray.init(address='auto', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()), 'nodes')"
)
SHM = "/dev/shm"  # noqa: S108 - object store of a machine
MACHINES = ("head", "one", "two")


def report(text: str, since: float) -> None:
    print(f"{time.monotonic() - since:6.1f} s  {text}", flush=True)


def start_machine(host: Host, machine: Path, wheels: Path, disks: Path, shared: Path, public_key: str) -> Path:
    """Give a host a disk of its own and start its sshd; returns its root."""
    root = disks / host.name
    for folder in (root / "upper", root / "work", root / "root"):
        folder.mkdir(parents=True)
    where = root / "root"
    prepare = f"""
        mount -t overlay overlay -o lowerdir={machine},upperdir={root}/upper,workdir={root}/work {where}
        mount --rbind /dev {where}/dev && mount -t proc proc {where}/proc
        mount -t tmpfs -o mode=1777 shm {where}{SHM}
        mkdir -p {where}/wheels {where}/srv/shared {where}/run/sshd {where}/home/fsf/.ssh
        mount --bind {wheels} {where}/wheels && mount --bind {shared} {where}/srv/shared
        printf '[global]\\nno-index = true\\nfind-links = /wheels\\n' > {where}/etc/pip.conf
        echo {shlex.quote(public_key)} > {where}/home/fsf/.ssh/authorized_keys
        chroot {where} chown -R fsf:fsf /home/fsf && chroot {where} usermod -p '*' fsf
    """
    host.must("sh", "-ec", prepare)
    host.popen("chroot", str(where), "/usr/sbin/sshd", "-D", "-e", "-o", "UsePAM=no", output=subprocess.DEVNULL)
    return where


@contextlib.contextmanager
def three_machines(machine: Path, wheels: Path, disks: Path, shared: Path) -> Iterator[tuple[Hosts, Path]]:
    """Start three machines and a laptop with the checkout's wheel and its own copy of the file."""
    with open_hosts("laptop", *MACHINES, environment={"RAY_AUTH_MODE": "token"}) as hosts:
        laptop = hosts["laptop"]
        laptop.must("sh", "-ec", "mkdir -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519")
        key = (laptop.home / ".ssh" / "id_ed25519.pub").read_text().strip()
        for name in MACHINES:
            start_machine(hosts[name], machine, wheels, disks, shared, key)
        checkout = laptop.home / "checkout"
        (checkout / "cluster" / "ray-up").mkdir(parents=True)
        shutil.copy(ROOT / "constraints.txt", checkout)
        laptop.must(
            "python",
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            f"{checkout}/dist",
            str(ROOT),
        )
        text = FILE.read_text()
        changes = {
            "10.0.0.10": hosts["head"].address,
            "10.0.0.11, 10.0.0.12": ", ".join(hosts[name].address for name in MACHINES[1:]),
            "cuda,": "",
            "~/.ssh/id_ed25519": f"{laptop.home}/.ssh/id_ed25519",  # ssh takes ~ from the user database, not from HOME
        }
        for old, new in changes.items():
            assert text.count(old) == (2 if old == "10.0.0.10" else 1), old
            text = text.replace(old, new)
        (checkout / "cluster" / "ray-up" / FILE.name).write_text(text)
        yield hosts, checkout


def run(options: argparse.Namespace, disks: Path) -> None:
    """Go from three machines to a score, to a second `ray up`, and to none."""
    began = time.monotonic()
    shared = disks / "shared"
    shared.mkdir()
    oranges.write_demo(shared / "data", count=12, frames=24)
    shutil.copytree(options.bundle, shared / "bundle")
    subprocess.run(["chown", "-R", "1000:1000", shared], check=True)
    config = f"cluster/ray-up/{FILE.name}"
    with three_machines(options.machine, options.wheels, disks, shared) as (hosts, checkout):
        laptop = hosts["laptop"]

        def ray(*words: str, timeout_s: float = 120) -> str:
            code, output = laptop.run("ray", *words, cwd=checkout, timeout_s=timeout_s)
            assert code == 0, f"ray {shlex.join(words)}: exit code {code}\n{output[-5000:]}"
            return output

        def nodes() -> str:
            code, output = laptop.run("ray", "exec", config, f'RAY_AUTH_MODE=token {PYTHON} -c "{NODES}"', cwd=checkout)
            return output if code == 0 else ""

        report("three machines and a laptop", began)
        ray("get-auth-token", "--generate")
        ray("up", "-y", config, timeout_s=900)
        report("ray up", began)
        wait_for(lambda: "3 nodes" in nodes(), timeout_s=900)
        report("the workers joined", began)
        tunnel = laptop.popen("ray", "dashboard", config, cwd=checkout, output=subprocess.DEVNULL)
        score = ["/opt/fsf/venv/bin/fsf", "score", "--bundle", "/srv/shared/bundle", "--provider", "cpu"]
        score += ["--manifest", "/srv/shared/data/manifest.csv", "--out"]
        submit = ["job", "submit", "--address", "http://127.0.0.1:8265", "--"]
        time.sleep(5)
        code, output = laptop.run("ray", *submit, *score, "/srv/shared/refused", cwd=checkout, RAY_AUTH_MODE="disabled")
        assert code != 0
        assert "401" in output or "uthenticat" in output, output
        report("a job without the token is refused", began)
        print("\n".join(ray(*submit, *score, "/srv/shared/cluster", timeout_s=300).splitlines()[-12:]))
        report("a job with it is done", began)
        assert tables(shared / "cluster") == local_tables(shared, score)
        report("its tables are those of a local run", began)
        tunnel.kill()
        ray("up", "-y", config, timeout_s=900)
        wait_for(lambda: "3 nodes" in nodes(), timeout_s=600)
        report("ray up again: the cluster is back", began)
        ray("down", "-y", config, timeout_s=300)
        left = {
            name: [t for t in hosts[name].titles().values() if "raylet" in t or "gcs_server" in t] for name in MACHINES
        }
        report(f"ray down: {sum(map(len, left.values()))} Ray processes are left", began)
        assert not any(left.values()), left


def tables(run_folder: Path) -> list[dict[str, object]]:
    """Return the statistics of a run in a fixed order."""
    table = ds.dataset(run_folder / "class_stats", format="parquet").to_table()
    names = ["item_id", "frame_index", "class_id", "pixels"]
    return table.select(names).sort_by([(name, "ascending") for name in names[:3]]).to_pylist()


def local_tables(shared: Path, score: list[str]) -> list[dict[str, object]]:
    """Return the same of a run on this machine alone."""
    words = [word.replace("/srv/shared", str(shared)) for word in score[1:]]
    command = [sys.executable, "-m", "fsf_core.cli", *words, str(shared / "local")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    return tables(shared / "local")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("machine", type=lambda path: Path(path).resolve())
    parser.add_argument("wheels", type=lambda path: Path(path).resolve())
    parser.add_argument("--bundle", type=Path, required=True, help="a bundle of 4 classes")
    with tempfile.TemporaryDirectory(prefix="fsf-ray-up-") as folder:
        run(parser.parse_args(), Path(folder))


if __name__ == "__main__":
    main()
