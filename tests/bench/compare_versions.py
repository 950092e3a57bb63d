"""Compare what two versions of the program make of the same inputs, row for row and byte for byte.

    python -m tests.bench.compare_versions /path/to/old/.venv/bin/fsf .venv/bin/fsf /tmp/compared

Both programs score the same images (good and broken) and videos (whole and truncated), with overlays and rendered
videos, in runs that are whole, killed and resumed, and reuse another. Compared are the bundle's identity, every row of
every table, the overlays, and the decoded frames of rendered videos. Exits with 1 if anything differs.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import duckdb
import numpy as np
import onnx

from tests.support import assets, clips
from tests.support.tiny_onnx import tiny_onnx

CLASSES = "background,sunburn,ulcer,wind_scarring"
IGNORED = {"masks": ("run_id",), "class_stats": (), "failures": ("attempts", "error_message")}
"""Columns that differ between any two runs, with the moment of a kill, or with the wording of a message."""

MAX_ENCODER_DIFFERENCE = 4.0
"""Mean difference of the grey levels of a frame, 0 to 255, that another setting of the encoder may make; on noise, x264
with and without its vector code differs by 2."""


def write_inputs(folder: Path) -> None:
    """Write images, videos, broken files and an ONNX file."""
    assets.write_good(folder / "pictures")
    assets.write_broken(folder / "pictures")
    videos = folder / "videos"
    videos.mkdir(parents=True)
    (videos / "long.mp4").write_bytes(clips.clip(frames=300, width_px=320, height_px=240, gop=25, audio=True))
    (videos / "turned.mp4").write_bytes(clips.rotated(clips.clip(frames=60), 90))
    (videos / "other.mkv").write_bytes(clips.clip("libx265", container="matroska", frames=70))
    whole = clips.clip(frames=200, container="matroska")
    (videos / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    onnx.save(tiny_onnx(), folder / "tiny.onnx")


def run_steps(program: str, inputs: Path, home: Path) -> None:
    """Run every step with one version of the program, in the folder `home`."""

    def fsf(*words: str) -> None:
        done = subprocess.run([program, *words], cwd=home, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{program} {' '.join(words)}\nended with {done.returncode}:\n{done.stderr}")

    home.mkdir(parents=True)
    pictures, videos = str(inputs / "pictures"), str(inputs / "videos")
    fsf(
        "export",
        "--onnx",
        str(inputs / "tiny.onnx"),
        "--classes",
        CLASSES,
        "--profile",
        "fastsegformer",
        "--out",
        "bundle",
    )
    model = ("--bundle", "bundle", "--provider", "cpu")
    fsf("score", *model, "--manifest", pictures, "--out", "pictures", "--overlays", "--early-failed-share", "1")
    fsf("score", *model, "--manifest", pictures, "--out", "grid", "--mask-size", "model", "--early-failed-share", "1")
    fsf(
        "score",
        *model,
        "--manifest",
        videos,
        "--out",
        "videos",
        "--segment-frames",
        "16",
        "--render",
        "blend",
        "--legend",
    )
    fsf("score", *model, "--manifest", videos, "--out", "sampled", "--fps", "5", "--start-s", "1")
    resumed = ("score", *model, "--manifest", videos, "--out", "resumed", "--segment-frames", "16", "--part-units", "2")
    kill_when_committed([program, *resumed], home, parts=3)
    fsf(*resumed)
    fsf("score", *model, "--manifest", videos, "--out", "reused", "--segment-frames", "16", "--reuse", "videos")
    fsf("score", *model, "--manifest", pictures, "--out", "joined", "--part-units", "8", "--compact-mb", "64",
        "--early-failed-share", "1")  # fmt: skip
    for run in ("pictures", "videos", "resumed", "reused", "joined"):
        fsf("verify", run)


def kill_when_committed(command: list[str], home: Path, *, parts: int) -> None:
    """Start a job, and kill it with its workers once it has committed this many parts."""
    job = subprocess.Popen(
        command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while job.poll() is None and len(list((home / "resumed").glob("**/receipts/*.arrow"))) < parts:
        time.sleep(0.02)
    if job.poll() is None:
        os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def tables(run: Path) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Yield the name and the sorted rows of every table of a run."""
    for name, ignored in IGNORED.items():
        if not list((run / name).glob("*.parquet")):
            yield name, []
            continue
        but = f"exclude ({', '.join(ignored)})" if ignored else ""
        query = f"select * {but} from read_parquet('{run}/{name}/*.parquet', union_by_name = true) order by all"
        yield name, duckdb.sql(query).fetchall()


def same_bytes(old: Path, new: Path) -> bool:
    """Return whether two files are equal."""
    return old.read_bytes() == new.read_bytes()


def same_frames(old: Path, new: Path) -> bool:
    """Return whether two videos show the same at the same times, but for what their encoder lost."""
    with av.open(str(old)) as first, av.open(str(new)) as second:
        for before, after in itertools.zip_longest(first.decode(video=0), second.decode(video=0)):
            if before is None or after is None or before.pts != after.pts:
                return False
            images = [frame.to_ndarray(format="yuv420p").astype(np.int16) for frame in (before, after)]
            if images[0].shape != images[1].shape or np.abs(images[0] - images[1]).mean() > MAX_ENCODER_DIFFERENCE:
                return False
    return True


def differences(old: Path, new: Path) -> list[str]:
    """Return the differences between the folders of both versions, one line each."""
    found = []
    identities = [json.loads((home / "bundle" / "bundle.json").read_text())["sha256"] for home in (old, new)]
    if identities[0] != identities[1]:
        found.append(f"bundle: {identities[0]} and {identities[1]}")
    for run in sorted(path.parent.name for path in old.glob("*/run.json")):
        rows = 0
        for (name, before), (_, after) in zip(tables(old / run), tables(new / run), strict=True):
            rows += len(before)
            if before != after:
                count = len({*map(repr, before)} ^ {*map(repr, after)})
                found.append(f"{run}/{name}: {len(before)} and {len(after)} rows, {count} of them differ")
        for kind, same in (("overlays/*.jpg", same_bytes), ("videos/*.mp4", same_frames)):
            paths = [{path.name: path for path in sorted((home / run).glob(kind))} for home in (old, new)]
            if {*paths[0]} != {*paths[1]}:
                found.append(f"{run}/{kind}: other names")
            else:
                found += [f"{run}/{name}" for name in paths[0] if not same(paths[0][name], paths[1][name])]
            rows += len(paths[0])
        print(f"{run}: {rows} rows and files compared")
    for run in ("resumed", "reused"):  # also within one version: these runs must equal the undisturbed one
        for (name, before), (_, after) in zip(tables(new / "videos"), tables(new / run), strict=True):
            if before != after:
                found.append(f"{run}/{name} differs from that of videos/")
    return found


def main() -> int:
    """Run both versions and print what differs."""
    old, new, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3]).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    write_inputs(folder / "inputs")
    for name, program in (("old", old), ("new", new)):
        print(f"running {name}: {program}", flush=True)
        run_steps(str(Path(program).absolute()), folder / "inputs", folder / name)
    found = differences(folder / "old", folder / "new")
    print("\n".join(found))
    print(f"{len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
