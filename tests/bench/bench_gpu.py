"""What the job does on a GPU: parity with the CPU, the bare session, the job and its peers, and how it takes a kill.

    python -m tests.bench.bench_gpu --out FOLDER --budget-s 420          on a machine with a card
    python -m tests.bench.bench_gpu --out FOLDER --provider cpu --quick  the rehearsal, on any machine
    python -m tests.bench.bench_gpu --prepare FOLDER                     inputs alone, for --bundles FOLDER

Each step is a process with a time limit, so that a hang or a crash costs that step alone. Its result is kept in
FOLDER/results.json when it ends, and the same command goes on with the steps that are missing; with --results FILE also
those of another run on such a machine, of which --again STEPS measures some anew if another commit measured them; a
result stays until there is a newer one. The most telling steps come first; one that the rest of the budget does not
cover is left out and named. The last line is the results as JSON.
"""

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.bench.gpu import inputs, table
from tests.bench.gpu.setting import Setting

RESULTS = "results.json"

SAME_MACHINE = ("card", "cores", "cpu")
"""Facts of the environment in which a machine must equal that of earlier results."""

MIN_LIMIT_S, LIMIT_FACTOR = 45.0, 2.2
"""A step may take this factor of its estimate, and at least this time."""

CPU_FACTOR = 8.0
"""How much longer a step may take in a rehearsal, on few cores."""

PARENT_EVERY_S = 1.0
"""How often a step looks whether the bench still runs."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One measurement."""

    name: str
    seconds: float
    """Estimate for an H100 with 16 cores, imports included; a step of many points ends at it."""
    call: str
    """Module of tests.bench.gpu and its function, which is imported in the step's process: most need Ray."""
    given: tuple[str, ...] = ()
    """Arguments beside the setting."""
    quick: bool = True
    """Whether rehearsals with --quick run it; no for what another step rehearses."""

    def run(self, setting: Setting) -> Any:
        """Measure here; returns what JSON can hold."""
        module, _, function = self.call.partition(".")
        return getattr(importlib.import_module(f"tests.bench.gpu.{module}"), function)(setting, *self.given)


STEPS = (
    Step(name="environment", seconds=6, call="bare.environment"),
    Step(name="parity-p", seconds=35, call="parity.run", given=("p",)),
    Step(name="job-p-fp32", seconds=38, call="jobs.small", given=("p", "fp32")),
    Step(name="lasting-p-fp32", seconds=40, call="jobs.lasting", given=("p", "fp32")),
    Step(name="bare-p", seconds=60, call="bare.run", given=("p",)),
    Step(name="cores", seconds=25, call="jobs.core_costs"),
    Step(name="peer-seed_torch", seconds=26, call="contenders.run", given=("seed_torch",)),
    Step(name="peer-seed_ort", seconds=28, call="contenders.run", given=("seed_ort",)),
    Step(name="bare-e", seconds=40, call="bare.run", given=("e",), quick=False),
    Step(name="job-e-fp32", seconds=38, call="jobs.small", given=("e", "fp32"), quick=False),
    Step(name="job-p-fp16", seconds=38, call="jobs.small", given=("p", "fp16"), quick=False),
    Step(name="two-actors", seconds=45, call="jobs.two_actors"),
    Step(name="video", seconds=35, call="jobs.video", given=("e", "fp32")),
    Step(name="peer-ray_docs", seconds=40, call="contenders.run", given=("ray_docs",)),
    Step(name="peer-dataloader", seconds=30, call="contenders.run", given=("dataloader",)),
    Step(name="forms", seconds=25, call="forms.run", given=("p",)),
    Step(name="12mp", seconds=34, call="jobs.large", given=("p", "fp32")),
    Step(name="parity-e", seconds=35, call="parity.run", given=("e",), quick=False),
    Step(name="job-demo-fp32", seconds=42, call="jobs.small", given=("demo", "fp32"), quick=False),
    Step(name="killed", seconds=55, call="jobs.killed"),
    Step(name="job-e-fp16", seconds=38, call="jobs.small", given=("e", "fp16")),
    Step(name="job-demo-fp16", seconds=42, call="jobs.small", given=("demo", "fp16"), quick=False),
    Step(name="parity-demo", seconds=35, call="parity.run", given=("demo",), quick=False),
    Step(name="options", seconds=45, call="bare.options", given=("p",), quick=False),
)
"""In the order of their value: what a budget does not cover is left out."""


def main() -> int:
    """Run the steps that are missing; returns 1 if one failed."""
    given = _arguments()
    if given.prepare:
        print(json.dumps(inputs.prepare(given.prepare, inputs.TASKS, quick=given.quick)))
        return 0
    setting = _setting(given)
    if given.step:
        return _run_here(next(step for step in STEPS if step.name == given.step), setting, given.result)
    wanted = [step for step in STEPS if not given.only or step.name in given.only.split(",")]
    found = run_steps(wanted, setting, given)
    shown = table.render(found)
    (given.out / "table.md").write_text(shown + "\n")
    print(shown)
    print(json.dumps(found))
    return 1 if found["failed"] else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of results.json")
    parser.add_argument("--results", type=Path, help="results to go on from where --out has none: tests/bench/gpu.json")
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a tiny model and few pictures, for rehearsals")
    parser.add_argument("--budget-s", type=float, default=float("inf"), help="time for all steps together")
    parser.add_argument("--only", default="", help=f"some of {','.join(step.name for step in STEPS)}")
    parser.add_argument("--again", default="", help="steps to measure anew where another commit measured them")
    parser.add_argument("--frames", type=int, help="pictures of 512×512 for the job (default: 20,000; quick: 256)")
    parser.add_argument("--photos", type=Path, help="folder of photographs that join the parity check")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "fsf-bench-gpu", help="for runs")
    parser.add_argument("--bundles", type=Path, help="folder that --prepare made (default: inside --work)")
    parser.add_argument("--prepare", type=Path, help="make bundles, pictures and a video in this folder, and end")
    parser.add_argument("--commit", help="of the source, where git is missing")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--end-s", type=float, default=float("inf"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not (given.prepare or given.out):
        parser.error("give --out FOLDER, or --prepare FOLDER")
    return given


def _setting(given: argparse.Namespace) -> Setting:
    return Setting(
        inputs=(given.bundles or given.work / f"inputs{'-quick' * given.quick}").absolute(),
        work=given.work.absolute(),
        provider=given.provider,
        quick=given.quick,
        frames=given.frames or (256 if given.quick else 20_000),
        photos=given.photos and given.photos.absolute(),
        commit=given.commit or _commit(),
        ends=time.monotonic() + given.end_s,
    )


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
        return done.stdout.strip() or "unknown"
    return "unknown"


def _run_here(step: Step, setting: Setting, result: Path) -> int:
    """Run a step in this process, and write its result."""
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    result.write_text(json.dumps(step.run(setting)))
    return 0


def end_with(parent: int) -> None:
    """Kill this process and all that it has started once its parent is gone: a bench that is killed leaves nothing."""
    while os.getppid() == parent:
        time.sleep(PARENT_EVERY_S)
    kill_descendants(os.getpid())
    os.killpg(0, signal.SIGKILL)


def run_steps(steps: list[Step], setting: Setting, given: argparse.Namespace) -> dict[str, Any]:
    """Run the steps without a result, each as a process, and keep each result when it ends.

    Returns:
        Results and seconds by step; failed steps with the end of their output; the names of those that were left out.
    """
    started = time.monotonic()
    given.out.mkdir(parents=True, exist_ok=True)
    setting.work.mkdir(parents=True, exist_ok=True)
    path = given.out / RESULTS
    found = results_so_far(setting, path if path.exists() or not given.results else given.results)
    again = {name for name in given.again.split(",") if found["commits"].get(name) != setting.commit}
    machine = setting.work / f"machine{'-quick' * setting.quick}"
    with ThreadPoolExecutor() as pool:
        of_machine = pool.submit(inputs.prepare, machine, inputs.OF_MACHINE, quick=setting.quick)
        inputs.prepare(setting.inputs, inputs.PORTABLE, quick=setting.quick)
        of_machine.result()
    print(f"prepared in {time.monotonic() - started:.0f} s", flush=True)
    factor = 1.0 if setting.on_gpu else CPU_FACTOR
    for step in steps:
        left_s = given.budget_s - (time.monotonic() - started)
        measured = step.name in found["results"] and step.name not in again
        if measured or (setting.quick and not step.quick):
            continue
        if left_s < step.seconds:
            found["left_out"].append(step.name)
            continue
        limit_s = min(left_s, factor * max(MIN_LIMIT_S, LIMIT_FACTOR * step.seconds))
        begun = time.monotonic()
        result, output = run_step(step.name, setting, limit_s=limit_s, end_s=factor * step.seconds)
        found["seconds"][step.name] = round(time.monotonic() - begun, 1)
        if result is None:
            found["failed"][step.name] = output
        else:
            found["results"][step.name] = result
            found["commits"][step.name] = setting.commit
        kept = path.with_suffix(".new")
        kept.write_text(json.dumps(found, indent=1))
        kept.replace(path)
        state = "failed" if result is None else json.dumps(result)[:300]
        print(f"{step.name} ({found['seconds'][step.name]:.0f} s): {state}", flush=True)
    return found


def results_so_far(setting: Setting, path: Path) -> dict[str, Any]:
    """Return the results of a file to go on from, or none.

    Raises:
        SystemExit: they are those of a rehearsal, or of another kind of machine.
    """
    subject = {"provider": setting.provider, "quick": setting.quick}
    found: dict[str, Any] = subject | {"results": {}, "seconds": {}, "commits": {}}
    if path.exists():
        found |= json.loads(path.read_text())
    if {name: found[name] for name in subject} != subject:
        sys.exit(f"{path} has other results ({found['provider']}, quick {found['quick']}); give another --out")
    if before := found["results"].get("environment"):
        from tests.bench.gpu import card  # imports Ray

        now = card.describe()
        other = [f"{before[name]}, not {now[name]}" for name in SAME_MACHINE if before[name] != now[name]]
        if other:
            sys.exit(f"{path} has results of another machine ({'; '.join(other)}); give another --out")
    return found | {"failed": {}, "left_out": []}


def run_step(name: str, setting: Setting, *, limit_s: float, end_s: float) -> tuple[Any, str]:
    """Run a step as a process; returns its result, or None and the end of its output.

    Args:
        name: of the step.
        setting: of the bench.
        limit_s: after this time, it and all processes that it has started are killed.
        end_s: after this time, it measures no more points.
    """
    result, log = (setting.work / f"{name}.{kind}" for kind in ("json", "log"))
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.bench.bench_gpu", "--step", name, "--result", str(result)]
    command += ["--out", str(setting.work), "--work", str(setting.work), "--bundles", str(setting.inputs)]
    command += ["--provider", setting.provider, "--frames", str(setting.frames), "--end-s", str(end_s)]
    command += ["--commit", setting.commit, *(["--quick"] if setting.quick else [])]
    command += ["--photos", str(setting.photos)] if setting.photos else []
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(limit_s)
            ending = f"exit code {process.returncode}"
        except subprocess.TimeoutExpired:
            ending = f"killed after {limit_s:.0f} s"
        finally:
            kill_family(process)
    if process.returncode == 0 and result.exists():
        return json.loads(result.read_text()), ""
    return None, f"{ending}: {log.read_text(errors='replace')[-3000:]}"


def kill_family(process: subprocess.Popen[Any]) -> None:
    """Kill a process, all that it has started, and what is left of its session."""
    kill_descendants(process.pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_descendants(pid: int) -> None:
    """Kill all that a process has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for member in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()


if __name__ == "__main__":
    sys.exit(main())
