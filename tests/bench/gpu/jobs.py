"""Steps c, e, f, g and h: `fsf score` as a process, its rate, what it costs by stage, and how busy the card was."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.compute as pc

from fsf_core import bench, masks, runs
from tests.bench import meter, stages
from tests.bench.gpu.card import CardSampler
from tests.bench.gpu.held import decode_tasks
from tests.bench.gpu.inputs import linked, write_list
from tests.bench.gpu.setting import Letter, Setting, cores
from tests.bench.gpu.table import frame_cpu_ms

STEADY = (0.15, 0.9)
"""Share of the frames at which the steady part of a run begins and ends. In a short job all of its pictures are decoded
by then: the rate is that of the card with pictures ahead of it, and no rate that lasts (see `lasting`)."""

MIN_COMMITS = 8

KILL_AT = 0.3
"""Share of the frames that are committed when the actor is killed."""


def small(setting: Setting, letter: Letter, precision: str, *more: str) -> dict[str, Any]:
    """Score pictures of 512×512; their run is kept for `killed`."""
    name = "-".join(["run", letter, precision, *(word.strip("-") for word in more)])
    return _scored(setting, name, letter, precision, small_list(setting), *more)


def two_actors(setting: Setting) -> dict[str, Any]:
    """Score pictures of 512×512 with two actors on one card."""
    more = ("--gpus-per-actor", "0.5") if setting.on_gpu else ()
    return small(setting, "p", "fp32", "--actors", "2", *more)


def lasting(setting: Setting, letter: Letter, precision: str) -> dict[str, Any]:
    """Score pictures of 512×512, of which none is decoded before the model is loaded, and add the rate that lasts."""
    return _lasting(setting, f"run-lasting-{letter}-{precision}", letter, precision, small_list(setting))


def _lasting(setting: Setting, name: str, letter: Letter, precision: str, manifest: Path, *more: str) -> dict[str, Any]:
    marks = setting.work / f"marks-{name}"
    shutil.rmtree(marks, ignore_errors=True)
    marks.mkdir()
    found = _scored(setting, name, letter, precision, manifest, "--actors", "1", *more, marks=marks)
    share = found["cpu_ms_by_stage"]["decode"] / frame_cpu_ms(found)
    rate = lasting_rate(bench.commits(str(setting.work / name)), decode_tasks(marks), decode_share=share)
    return found | {"frames_per_s_lasting": round(min(rate, found["frames_per_s"]), 1)}


def lasting_rate(done: list[tuple[float, int]], tasks: list[tuple[float, float, int]], *, decode_share: float) -> float:
    """Return the frames/s of all work that was done while decode tasks waited, which is while all cores had work.

    Pictures that were decoded by then and not committed count for the share of a frame's work that decoding is. So the
    rate is that of a long job, of which as many pictures are decoded as scored, and a short job is enough for it.

    Args:
        done: moment and frames of every commit.
        tasks: moments at which every decode task began and ended, and its images.
        decode_share: of the CPU time of a frame.
    """
    start, end = (choose(began for began, _, _ in tasks) for choose in (min, max))
    committed = sum(frames for moment, frames in done if moment <= end)
    decoded = sum(images * min(1.0, (end - began) / max(1e-9, ended - began)) for began, ended, images in tasks)
    return (decode_share * decoded + (1 - decode_share) * committed) / max(1e-9, end - start)


def small_list(setting: Setting) -> Path:
    """Return the manifest of the pictures of 512×512."""
    pictures = linked(setting.inputs / "distinct-512", setting.work / "pictures-512", setting.frames)
    return write_list(pictures, setting.work / "pictures-512.csv", setting.frames)


def large(setting: Setting, letter: Letter, precision: str) -> dict[str, Any]:
    """Score pictures of 12 megapixels, as `lasting` does."""
    count = setting.count(1600, 8)
    pictures = linked(setting.inputs / "distinct-12mp", setting.work / "pictures-12mp", count)
    manifest = write_list(pictures, setting.work / "pictures-12mp.csv", count)
    return _lasting(setting, f"run-12mp-{letter}-{precision}", letter, precision, manifest, "--part-units", "8")


def video(setting: Setting, letter: Letter, precision: str) -> dict[str, Any]:
    """Score a video of 1080p."""
    manifest = setting.work / "video.csv"
    manifest.write_text(f"id,uri\nvideo,{setting.inputs / 'video-1080p.mp4'}\n")
    return _scored(setting, f"run-video-{letter}-{precision}", letter, precision, manifest, "--part-units", "1")


def command(
    setting: Setting,
    letter: Letter,
    precision: str,
    manifest: Path,
    out: Path,
    *more: str,
    marks: Path | None = None,
) -> list[str]:
    """Return the command of the job; on a CPU, of its rehearsal; with `marks`, of one that decodes nothing ahead."""
    module = ["fsf_core.cli" if setting.on_gpu else "tests.bench.gpu.rehearsal"]
    if marks:
        module = ["tests.bench.gpu.held", str(marks)]
    arguments = ["--bundle", str(setting.bundle(letter)), "--manifest", str(manifest), "--out", str(out)]
    arguments += ["--precision", precision, "--provider", setting.provider]
    if not setting.on_gpu:
        arguments += ["--batch-frames", "8", *(() if "--actors" in more else ("--actors", "1"))]
    return [sys.executable, "-m", *module, "score", *arguments, *more]


def _scored(
    setting: Setting,
    name: str,
    letter: Letter,
    precision: str,
    manifest: Path,
    *more: str,
    marks: Path | None = None,
) -> dict[str, Any]:
    """Run the job and return its figures."""
    out = setting.work / name
    shutil.rmtree(out, ignore_errors=True)
    with CardSampler() as card:
        reading = meter.run(command(setting, letter, precision, manifest, out, *more, marks=marks))
    summary = json.loads(reading.stdout.splitlines()[-1])
    failed = summary["items"]["failed"]
    assert not failed, f"{failed} items failed: {summary['failure_reasons']}"
    done = bench.commits(str(out))
    steady = steady_part(done)
    begin, end = steady[0][0], steady[-1][0]
    work, frames = summary["work"], summary["frames"]
    whole = frames / summary["scoring_seconds"]
    rate = bench.steady_rate(steady) if len(steady) >= MIN_COMMITS else whole
    cpu_s = reading.cpu_at(end) - reading.cpu_at(begin)
    return {
        "frames": frames,
        "frames_per_s": round(rate, 1),
        "frames_per_s_all_commits": round(bench.steady_rate(done), 1),
        "frames_per_s_scoring": round(whole, 1),
        "commits": len(done),
        "first_commit_s": round(done[0][0] - reading.started, 1),
        "took_s": round(reading.seconds, 1),
        "batch_frames": summary["batch_frames"],
        "actors": summary["actors"],
        "provider": summary["provider"],
        "cpu_ms_by_stage": {stage["stage"]: round(1e3 * stage["cpu_seconds"] / frames, 3) for stage in work["stages"]},
        "driver_cpu_ms": round(1e3 * work["driver_cpu_seconds"] / frames, 3),
        "ray_cpu_ms": round(1e3 * reading.by_role["ray"][-1] / frames, 3),
        "cores_busy": round(cpu_s / max(1e-9, end - begin), 2),
        "frames_per_core_s": round(rate * (end - begin) / max(1e-9, cpu_s), 1),
        "model_busy_share": round(work["model_busy_seconds"] / max(1e-9, work["actor_seconds"]), 3),
        "model_calls": work["model_calls"],
        "card": card.between(begin, end),
        "card_whole": card.between(reading.started, reading.started + reading.seconds),
        "peak_mb": round(reading.peak_mb),
        "object_store_mb": round(reading.peak_shm_mb),
    }


def steady_part(done: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return the commits of the steady part of a run; all of them if those are few."""
    ends = np.cumsum([frames for _, frames in done])
    low, high = (share * ends[-1] for share in STEADY)
    chosen = [commit for commit, end in zip(done, ends, strict=True) if low <= end <= high]
    return chosen if len(chosen) >= MIN_COMMITS else done


def core_costs(setting: Setting) -> dict[str, Any]:
    """Return what the stages cost on one thread, with masks as rough as noise and with smooth ones."""
    return {letter: _core_costs(setting, letter) for letter in ("p", "demo")}


def _core_costs(setting: Setting, letter: Letter) -> dict[str, Any]:
    """Return what the stages cost on one thread here, and the frames/s of all cores if they did nothing else."""
    home = setting.work / f"costs-{letter}"
    shutil.rmtree(home, ignore_errors=True)
    found: dict[str, Any] = {}
    infer = None
    for name, distinct, full in (("512", "distinct-512", 192), ("12mp", "distinct-12mp", 24)):
        count = setting.count(full, 8)
        manifest = write_list(linked(setting.inputs / distinct, home / name, count), home / f"{name}.csv", count)
        spec = stages.specify(
            setting.bundle(letter), manifest, home / f"out-{name}", gpu=True, precision="fp32", batch_frames=32
        )
        infer = infer or stages.open_model(spec, setting.provider)
        costs = stages.costs(spec, infer, manifest)
        others_ms = sum(costs[stage] for stage in ("decode", "mask", "write"))
        found[name] = {"cpu_ms": costs, "frames_per_s_of_cores": round(1e3 * cores() / others_ms, 1)}
    shutil.rmtree(home)
    return found


def killed(setting: Setting) -> dict[str, Any]:
    """Kill the actor in the middle of a job, and compare its tables with those of an undisturbed run."""
    reference = setting.work / "run-p-fp32"
    if not (reference / "summary.json").exists():
        small(setting, "p", "fp32")
    count = setting.count(min(8_000, setting.frames), min(192, setting.frames))
    out, manifest = setting.work / "run-killed", small_list(setting)
    shutil.rmtree(out, ignore_errors=True)
    again = command(setting, "p", "fp32", manifest, out, "--limit", str(count), "--part-units", "32")
    exit_codes: list[int] = []
    with (setting.work / "run-killed.log").open("w") as log:
        job = subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=log)
        enough = 0 if setting.quick else KILL_AT * count
        pid = _wait_and_kill(job, lambda: len(list((out / "receipts").glob("*"))) * 32 >= enough)
        exit_codes.append(job.wait())
        while exit_codes[-1] and len(exit_codes) < 3:
            exit_codes.append(subprocess.run(again, stdout=subprocess.DEVNULL, stderr=log, check=False).returncode)
    if exit_codes[-1]:
        raise RuntimeError(f"exit codes {exit_codes}: {(setting.work / 'run-killed.log').read_text()[-2000:]}")
    return {"frames": count, "killed_pid": pid, "exit_codes": exit_codes, **same_tables(reference, out)}


def _wait_and_kill(job: subprocess.Popen[bytes], ready: Callable[[], bool]) -> int:
    """Kill -9 the process that holds the model once enough is committed; returns its id.

    Raises:
        RuntimeError: the job ended before that.
    """
    while job.poll() is None:
        if ready():
            actors = [each for each in psutil.Process(job.pid).children(recursive=True) if _holds_model(each)]
            if actors:
                actors[0].kill()
                return int(actors[0].pid)
        time.sleep(0.05)
    raise RuntimeError(f"the job ended with {job.returncode} before its actor could be killed")


def _holds_model(process: psutil.Process) -> bool:
    try:
        title = " ".join(process.cmdline())
        return title.startswith("ray::") and "Infer" in title and "__init__" not in title
    except psutil.Error:
        return False


def same_tables(reference: Path, out: Path) -> dict[str, Any]:
    """Return in how many rows and pixels a run differs from a longer one over the same items.

    Columns that name the run are left out.
    """
    found: dict[str, Any] = {}
    for name, keys in (("masks", ["item_id", "frame_index"]), ("class_stats", ["item_id", "frame_index", "class_id"])):
        table = runs.read_table(str(out), name)
        other = runs.read_table(str(reference), name)
        other = other.filter(pc.is_in(other.column("item_id"), pc.unique(table.column("item_id"))))
        order = [(key, "ascending") for key in keys]
        rows = [one.drop_columns([*{"run_id"} & {*one.schema.names}]).sort_by(order) for one in (table, other)]
        same = [one.to_pylist() for one in rows]
        found[f"{name}_rows"] = [len(one) for one in same]
        found[f"{name}_rows_that_differ"] = sum(one != two for one, two in zip(*same, strict=True))
        if name == "masks":
            apart = 0
            for one, two in zip(*same, strict=True):
                if one["mask"] != two["mask"]:
                    apart += int(
                        (masks.decode_png(one["mask"]["bytes"]) != masks.decode_png(two["mask"]["bytes"])).sum()
                    )
            found["pixels_that_differ"] = apart
    return found
