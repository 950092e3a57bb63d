"""How fast the whole job is, compared with the bare model and with programs that a user might run instead.

    python -m tests.bench.bench            the short form, under 10 minutes on 2 cores
    python -m tests.bench.bench --full     2,000 images of 512×512, and a video

All contenders run in turn on the same images, so compare figures within one table only. The last line is one JSON
object; ratios above 1 mean that fsf is faster. `efficiency` and `vs_*` compare frames/s while all workers return masks;
`*_whole` include the start of pools and actors and the writing, which dominate a short run. The bare model is the
bundle's, and runs before and after fsf; the mean counts. `efficiency_of_written` compares with the graph as it is
before export rewrites it.

The networks are the authors', with weights from a recipe: their cost is real, their masks are as rough as noise.
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
from tests.bench.competitors import Rate, bare_rate, job_rate, peer_rate, score_command, stage_costs
from tests.bench.inputs import MEGAPIXELS_12, draw, model, null_model, write_manifest, written_model

PEERS = ("seed_ort", "seed_ort_plain", "seed_torch", "ray_docs", "daft", "dataloader")
POOLED = ("ray_docs", "daft")
CASES = ("p512", "int8_p512", "e512", "mp12", "mask_12mp", "null", "memory")
FULL_ONLY = ("video",)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model on images of one size."""

    name: str
    letter: str
    """Variant of FastSegFormer: p or e."""
    height_px: int
    width_px: int
    frames: int
    """Images for fsf."""
    peer_frames: int
    """Images for peers that start pools of workers and record every batch."""
    loop_frames: int
    """Images for the loops, whose rate is constant from the first image on."""
    bare: float | None
    """Frames/s of the bare model on the machine for which the counts were chosen; None: they fit every machine."""

    def frames_of(self, contender: str) -> int:
        """Return the number of images for a contender."""
        return min(self.frames, self.peer_frames if contender in POOLED else self.loop_frames)

    def for_machine(self, bare: float) -> "Case":
        """Return the case with fewer images if the model is slower here, so that it takes as long."""
        share = min(1.0, bare / self.bare) if self.bare else 1.0
        minimum = {"frames": 64, "peer_frames": 32, "loop_frames": 8}
        return replace(self, **{name: max(few, round(share * getattr(self, name))) for name, few in minimum.items()})

    def draw(self, home: Path) -> Path:
        """Write the images, which cases of the same size share; returns their folder."""
        size = {"height_px": self.height_px, "width_px": self.width_px}
        return draw(home / f"{self.height_px}x{self.width_px}", frames=self.frames, **size)


def main() -> None:
    """Run the chosen cases, and print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", default="", help=f"some of {','.join(CASES + FULL_ONLY)}; memory needs null")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--frames", type=int, help="images of 512×512 for every contender; a fifth at 12 megapixels")
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else [*CASES, *(FULL_ONLY if given.full else ())]
    home = Path(tempfile.mkdtemp(prefix="fsf-bench-"))
    found: dict[str, Any] = {"fsf": __version__, "machine": meter.machine()}
    peers = [name for name in given.peers.split(",") if name]
    # The loop without overlays differs at 12 megapixels; at 512×512, only the long form has time for it.
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
    """Return the cases: P and E on small images, P on large ones; the short form has just enough for a steady rate."""
    # name: images for fsf, pools and loops, which take about 12, 10 and 5 s at this rate of the bare model. Images that
    # pools decode before their first result do not count, so pools need many more than that.
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
    """Run every contender of one case, and return the figures."""
    weights, bundle = model(case.letter, home)
    images = case.draw(home)
    task = ["--model", str(bundle / "model.onnx"), "--weights", str(weights), "--net", f"fastsegformer-{case.letter}"]
    task += ["--pictures", str(images)]
    before = bare_rate(bundle / "model.onnx")  # before and after, because other tenants of the machine come and go
    case = case.for_machine(before)
    manifest = write_manifest(images, home / f"{case.name}.csv", case.frames)
    rates = {"fsf": job_rate(bundle, manifest, home / f"run-{case.name}")}
    bare = (before + bare_rate(bundle / "model.onnx")) / 2
    written = bare_rate(written_model(case.letter, home))
    for name in peers:
        rates[name] = peer_rate(name, task, case.frames_of(name), home / f"{name}-{case.name}")
    size = f"{case.width_px}×{case.height_px}"
    counts = f"JPEGs of {size}, {case.frames} for fsf, {case.peer_frames} for pools, {case.loop_frames} for loops"
    table(f"{case.name}: FastSegFormer-{case.letter.upper()}, {counts}", bare, rates)
    share = rates["fsf"].steady / written
    print(f"  the graph as the exporter writes it, bare: {written:.2f} frames/s; fsf has {share:.2f} of that")
    stage_costs(bundle, images, min(case.frames, 24 if case.height_px < MEGAPIXELS_12[0] else 8), home)
    mine = rates["fsf"]
    return {
        "frames_per_s": round(mine.steady, 2),
        "efficiency": round(mine.steady / bare, 3),
        "efficiency_of_written": round(mine.steady / written, 3),
        "efficiency_whole": round(mine.whole / bare, 3),
        **{f"vs_{name}": round(mine.steady / rates[name].steady, 2) for name in peers},
        **{
            f"vs_{name}_whole": round(mine.whole / rates[name].whole, 2)
            for name in peers
            if case.frames_of(name) == case.frames  # else fsf spreads its start over more
        },
    }


def int8(case: Case, home: Path, beside: dict[str, Any] | None) -> dict[str, float]:
    """Compare int8 of P with the authors' loop in float32, as measured for p512."""
    weights, bundle = model(case.letter, home)
    images = case.draw(home)
    before = bare_rate(bundle / "model.int8-plain.onnx")
    case = case.for_machine(before)
    manifest = write_manifest(images, home / "int8.csv", case.frames)
    rates = {"fsf": job_rate(bundle, manifest, home / "run-int8", "--precision", "int8")}
    bare = (before + bare_rate(bundle / "model.int8-plain.onnx")) / 2
    if beside is None:
        task = ["--model", str(bundle / "model.onnx"), "--weights", str(weights), "--pictures", str(images)]
        rates["seed_ort"] = peer_rate("seed_ort", task, case.loop_frames, home / "seed-int8")
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
    """Compare the mask stage at 12 megapixels, softmax to class map and counts, with the authors' tools."""
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
    """Return the pipeline's own cost per frame, with the null model: from 512×512 JPEG bytes to committed Parquet.

    The CPU time of all processes, Ray's included: a long run minus a short one, which excludes the start.
    """
    bundle = null_model(home)
    images = draw(home / "null-512", frames=40, height_px=512, width_px=512)
    cpu_s, peaks = [], []
    for count in counts:
        manifest = write_manifest(images, home / f"null-{count}.csv", count)
        reading = meter.run(score_command(bundle, manifest, home / f"run-null-{count}"))
        cpu_s.append(reading.cpu_s[-1])
        peaks.append(reading.peak_mb)
    each_ms = 1e3 * (cpu_s[1] - cpu_s[0]) / (counts[1] - counts[0])
    print(f"\nnull: {counts[0]:,} and {counts[1]:,} JPEGs of 512×512 through the null model")
    print(f"  {each_ms:.2f} ms of CPU per frame; {cpu_s[0]:.0f} and {cpu_s[1]:.0f} s of CPU in all")
    return {
        "cpu_ms_per_frame": round(each_ms, 2),
        "start_cpu_s": round(cpu_s[0] - each_ms * counts[0] / 1e3, 1),
        "stages_ms": stage_costs(bundle, manifest, 512, home),
        "peaks_mb": [round(peak) for peak in peaks],
        "frames": list(counts),
    }


def memory(beside: dict[str, Any]) -> dict[str, float]:
    """Return the peak memory of the long run of the null model, and its ratio to that of the short one."""
    (short, long), (few, many) = beside["peaks_mb"], beside["frames"]
    print(f"\nmemory: {short} MB at the peak of {few:,} frames, {long} MB of {many:,}")
    return {"growth": round(long / short, 3), "peak_mb": long, "frames": many}


def table(title: str, bare: float, rates: dict[str, Rate]) -> None:
    """Print the rates of all contenders."""
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
