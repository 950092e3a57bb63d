"""How fast the whole job is, beside the bare model and beside what a user might run instead.

    python -m tests.bench.bench            the short form, under 10 minutes on 2 cores
    python -m tests.bench.bench --full     2,000 pictures of 512×512, and a video

Everything runs one after another on the same pictures in one go, so compare within one table only. The last line is one
JSON object; ratios above 1 mean that fsf is faster. `efficiency` and `vs_*` compare frames/s while all of a contender's
workers give masks, as they leave the model's process; `*_whole` count the start of pools and actors and the writing
too, and a short run is mostly made of those. The bare model runs before fsf and after it, and its mean counts.

Weights are made by recipe: the networks are the authors' and so is their cost, the masks are rough as noise.
"""

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from fsf_core import __version__
from tests.bench import bench_masks, bench_video, meter
from tests.bench.competitors import Rate, bare_rate, ours, peer, score_words, stages
from tests.bench.inputs import MEGAPIXELS_12, draw, listed, model, null_model

PEERS = ("seed_ort", "seed_ort_plain", "seed_torch", "ray_docs", "daft", "dataloader")
POOLED = ("ray_docs", "daft")
CASES = ("p512", "int8_p512", "e512", "mp12", "mask_12mp", "null", "memory")
FULL_ONLY = ("video",)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model on one kind of picture."""

    name: str
    letter: str
    """Which FastSegFormer."""
    height_px: int
    width_px: int
    frames: int
    """For fsf."""
    peer_frames: int
    """For the peers that start pools of workers, and note every batch."""
    loop_frames: int
    """For the loops, whose rate is the same from the first picture on; the first of the same pictures."""
    bare: float | None
    """Frames/s of the bare model on the machine that the numbers are for; None: they are for every machine."""

    def frames_of(self, contender: str) -> int:
        """How many pictures a contender gets."""
        return min(self.frames, self.peer_frames if contender in POOLED else self.loop_frames)

    def for_machine(self, bare: float) -> "Case":
        """Fewer pictures where the model is slower, so that all of them take as long."""
        share = min(1.0, bare / self.bare) if self.bare else 1.0
        least = {"frames": 64, "peer_frames": 32, "loop_frames": 8}
        return replace(self, **{name: max(few, round(share * getattr(self, name))) for name, few in least.items()})

    def draw(self, home: Path) -> Path:
        """Its pictures, and enough of them, which cases of the same size share."""
        size = {"height_px": self.height_px, "width_px": self.width_px}
        return draw(home / f"{self.height_px}x{self.width_px}", frames=self.frames, **size)


def main() -> None:
    """Run what was asked for and print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", default="", help=f"some of {','.join(CASES + FULL_ONLY)}; memory needs null")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--frames", type=int, help="pictures of 512×512 for all; 12 megapixels: a fifth")
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else [*CASES, *(FULL_ONLY if given.full else ())]
    home = Path(tempfile.mkdtemp(prefix="fsf-bench-"))
    found: dict[str, Any] = {"fsf": __version__, "machine": meter.machine()}
    peers = [name for name in given.peers.split(",") if name]
    # Drawing weighs at 12 megapixels; at 512×512 the short form has no time for the loop without it.
    small = [name for name in peers if given.full or name != "seed_ort_plain"]
    runs = {
        "p512": lambda: measure(p512, home, small),
        "int8_p512": lambda: int8(p512, home, found.get("p512")),
        "e512": lambda: measure(e512, home, small),
        "mp12": lambda: measure(mp12, home, peers),
        "video": lambda: bench_video.measure(home, letter="p", seconds=60, seed_frames=150),
        "mask_12mp": mask_12mp,
        "null": lambda: null(home, counts=(2_000, 20_000) if given.full else (1_000, 3_000)),
        "memory": lambda: memory(found["null"]),
    }
    p512, e512, mp12 = cases(full=given.full, frames=given.frames)
    try:
        for name in wanted:
            found[name] = runs[name]()
    finally:
        shutil.rmtree(home)
    print(json.dumps(found))


def cases(*, full: bool, frames: int | None) -> tuple[Case, Case, Case]:
    """P and E on small pictures, P on large ones: in the short form as many as show a rate behind every start."""
    # name: pictures for fsf, pools and loops, and the rate of the bare model with which they take some 12, 10 and 5 s;
    # what pools have decoded before their first result counts for nothing, so theirs must be many more than that.
    counts = {"p512": (400, 320, 100, 34.0), "e512": (800, 640, 160, 90.0), "mp12": (120, 32, 10, 34.0)}
    if frames or full:
        each = frames or 2000
        counts = {name: ((each // 5 if name == "mp12" else each,) * 3 + (None,)) for name in counts}
    return tuple(
        Case(
            name=name, letter=name[0] if name != "mp12" else "p",
            height_px=MEGAPIXELS_12[0] if name == "mp12" else 512, width_px=MEGAPIXELS_12[1] if name == "mp12" else 512,
            frames=most, peer_frames=pooled, loop_frames=loops, bare=bare,
        )
        for name, (most, pooled, loops, bare) in counts.items()
    )  # fmt: skip


def measure(case: Case, home: Path, peers: list[str]) -> dict[str, float]:
    """All contenders of one case."""
    weights, bundle = model(case.letter, home)
    pictures = case.draw(home)
    task = ["--model", str(bundle / "model.onnx"), "--weights", str(weights), "--net", f"fastsegformer-{case.letter}"]
    task += ["--pictures", str(pictures)]
    before = bare_rate(bundle / "model.onnx")  # before and after: neighbours of the machine come and go
    case = case.for_machine(before)
    manifest = listed(pictures, home / f"{case.name}.csv", case.frames)
    rates = {"fsf": ours(bundle, manifest, home / f"run-{case.name}")}
    bare = (before + bare_rate(bundle / "model.onnx")) / 2
    for name in peers:
        rates[name] = peer(name, task, case.frames_of(name), home / f"{name}-{case.name}")
    size = f"{case.width_px}×{case.height_px}"
    counts = f"JPEGs of {size}, {case.frames} for fsf, {case.peer_frames} for pools, {case.loop_frames} for loops"
    table(f"{case.name}: FastSegFormer-{case.letter.upper()}, {counts}", bare, rates)
    stages(bundle, pictures, min(case.frames, 24 if case.height_px < MEGAPIXELS_12[0] else 8), home)
    mine = rates["fsf"]
    return {
        "frames_per_s": round(mine.steady, 2),
        "efficiency": round(mine.steady / bare, 3),
        "efficiency_whole": round(mine.whole / bare, 3),
        **{f"vs_{name}": round(mine.steady / rates[name].steady, 2) for name in peers},
        **{
            f"vs_{name}_whole": round(mine.whole / rates[name].whole, 2)
            for name in peers
            if case.frames_of(name) == case.frames  # else fsf spreads its start over more
        },
    }


def int8(case: Case, home: Path, beside: dict[str, Any] | None) -> dict[str, float]:
    """The int8 form of P, against the seed's loop in float32 as it was measured for p512."""
    weights, bundle = model(case.letter, home)
    pictures = case.draw(home)
    before = bare_rate(bundle / "model.int8-plain.onnx")
    case = case.for_machine(before)
    manifest = listed(pictures, home / "int8.csv", case.frames)
    rates = {"fsf": ours(bundle, manifest, home / "run-int8", "--precision", "int8")}
    bare = (before + bare_rate(bundle / "model.int8-plain.onnx")) / 2
    if beside is None:
        task = ["--model", str(bundle / "model.onnx"), "--weights", str(weights), "--pictures", str(pictures)]
        rates["seed_ort"] = peer("seed_ort", task, case.loop_frames, home / "seed-int8")
        seed = rates["seed_ort"].steady
    else:
        seed = beside["frames_per_s"] / beside["vs_seed_ort"]
    table(f"int8_{case.name}: {case.frames} JPEGs, fsf in int8", bare, rates)
    steady = rates["fsf"].steady
    return {
        "frames_per_s": round(steady, 2),
        "efficiency": round(steady / bare, 3),
        "vs_seed_ort": round(steady / seed, 2),
    }


def mask_12mp() -> dict[str, float]:
    """The mask stage alone at 12 megapixels: softmax to class map and counts, against the tools' own."""
    cv2.setNumThreads(1)
    found = {name: bench_masks.bench_masks(name, scores, "4000x3000") for name, scores in bench_masks.fields().items()}
    print("\nmask_12mp: softmax, resize, argmax, counts of 4 classes at 4000×3000, one thread")
    for name, row in found.items():
        print(
            f"  {name:<16}{row['tools_ms']:8.1f} ms theirs {row['here_ms']:8.1f} ms here {row['speedup']:6.1f} times, "
            f"{row['pixels_that_differ']} pixels differ"
        )
    return {"speedup": found["smooth"]["speedup"], "speedup_speckled": found["speckled"]["speedup"]}


def null(home: Path, *, counts: tuple[int, int]) -> dict[str, Any]:
    """What the pipeline itself costs a frame: a model that answers at once, 512×512 JPEG bytes to committed Parquet.

    CPU of all processes of the job, Ray's included: that of a long run less that of a short one, so that no start is in
    it.
    """
    bundle = null_model(home)
    pictures = draw(home / "null-512", frames=40, height_px=512, width_px=512)
    cpu_s, peaks = [], []
    for count in counts:
        manifest = listed(pictures, home / f"null-{count}.csv", count)
        reading = meter.run(score_words(bundle, manifest, home / f"run-null-{count}"))
        cpu_s.append(reading.cpu_s[-1])
        peaks.append(reading.peak_mb)
    each_ms = 1e3 * (cpu_s[1] - cpu_s[0]) / (counts[1] - counts[0])
    print(f"\nnull: {counts[0]:,} and {counts[1]:,} JPEGs of 512×512 through a model that answers at once")
    print(f"  {each_ms:.2f} ms of CPU a frame; {cpu_s[0]:.0f} and {cpu_s[1]:.0f} s of CPU in all")
    return {
        "cpu_ms_per_frame": round(each_ms, 2),
        "start_cpu_s": round(cpu_s[0] - each_ms * counts[0] / 1e3, 1),
        "stages_ms": stages(bundle, manifest, 512, home),
        "peaks_mb": [round(peak) for peak in peaks],
        "frames": list(counts),
    }


def memory(beside: dict[str, Any]) -> dict[str, float]:
    """Peak memory of the long run of the null model over that of the short one."""
    (short, long), (few, many) = beside["peaks_mb"], beside["frames"]
    print(f"\nmemory: {short} MB at the peak of {few:,} frames, {long} MB of {many:,}")
    return {"growth": round(long / short, 3), "peak_mb": long, "frames": many}


def table(title: str, bare: float, rates: dict[str, Rate]) -> None:
    """What was measured, for people."""
    print(f"\n{title}; the bare model: {bare:.2f} frames/s")
    print(
        f"  {'':<16}{'frames/s':>10}{'of bare':>9}{'with start':>12}{'took s':>8}{'CPU s':>8}{'peak MB':>9}"
        f"{'bytes/frame':>13}"
    )
    for name, rate in rates.items():
        print(
            f"  {name:<16}{rate.steady:10.2f}{rate.steady / bare:9.2f}{rate.whole:12.2f}{rate.took_s:8.0f}"
            f"{rate.cpu_s:8.0f}{rate.peak_mb:9.0f}{rate.bytes_written:13,.0f}"
        )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
