"""One long video through `fsf score`, compared with the bare model and with the authors' loop over the same frames.

    python -m tests.bench.bench_video            one minute of 1080p
    python -m tests.bench.bench_video --full     ten minutes
    python -m tests.bench.bench_video --memory   peak memory: up to an hour of 640×360 scored, ten minutes rendered

The bare model runs on inputs in memory, one session per core. The authors' loop reads a frame with OpenCV, runs the
model, draws the classes and writes the frame with OpenCV, for --seed-frames frames. All contenders run in turn on the
same video. The last line is JSON.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from fsf_core.media import video
from tests.bench import meter
from tests.bench.competitors import bare_rate, peer_rate, score_command, timed_run
from tests.bench.inputs import model, null_model

RATE = 30
HEIGHT_PX, WIDTH_PX = 1080, 1920
DIFFERENT_FRAMES = 300
FULL_S, SHORT_S = 600, 60
MEMORY_HW = (360, 640)
MEMORY_S = {"score": (600, 3600), "render": (60, 600)}
"""Length of the short and the long video, in seconds; rendering is slower than scoring."""


def main() -> None:
    """Measure, and print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seconds", type=int, help="length of the video, instead of 60 or 600")
    parser.add_argument("--letter", default="p", help="which FastSegFormer: p or e")
    parser.add_argument("--seed-frames", type=int, default=150)
    parser.add_argument("--render", action="store_true", help="also render the video")
    parser.add_argument("--memory", action="store_true", help="measure only how memory grows with the length")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="fsf-bench-"))
    seconds = given.seconds or (FULL_S if given.full else SHORT_S)
    try:
        if given.memory:
            found = memory(home)
        else:
            found = measure(
                home, letter=given.letter, seconds=seconds, seed_frames=given.seed_frames, render=given.render
            )
    finally:
        shutil.rmtree(home)
    print(json.dumps({"machine": meter.machine(), **found}))


def measure(home: Path, *, letter: str, seconds: int, seed_frames: int, render: bool = False) -> dict[str, float]:
    """Run every contender on one 1080p video, and return the figures."""
    weights, bundle = model(letter, home)
    clip = home / "videos" / "clip.mp4"
    clip.parent.mkdir()
    write_video(clip, seconds=seconds)
    started = time.perf_counter()
    index = video.index_video(clip)
    found = {"frames": index.frames, "index_s": round(time.perf_counter() - started, 2)}
    found["decode_per_s"] = round(decode_rate(clip, index), 1)
    found["bare_per_s"] = bare = round(bare_rate(bundle / "model.onnx"), 2)
    task = ["--model", str(bundle / "model.onnx"), "--weights", str(weights), "--pictures", str(clip.parent)]
    seed = peer_rate("seed_video", task, seed_frames, home / "seed-video")
    found["seed_per_s"] = round(seed.steady, 2)
    done = timed_run(bundle, clip, home / "run-video", *(["--render", "blend"] if render else []))
    summary = done.summary
    whole = summary["frames"] / summary["scoring_seconds"]
    found |= {"fsf_per_s": round(done.steady, 2), "fsf_whole_per_s": round(whole, 2)}
    found |= {"efficiency": round(done.steady / bare, 3), "efficiency_whole": round(whole / bare, 3)}
    found["vs_seed_video"] = round(done.steady / seed.steady, 2)
    found["vs_seed_video_whole"] = round(whole / seed.whole, 2)
    found["peak_mb"] = round(done.reading.peak_mb)
    if render:
        found["rendered_per_s"] = round(summary["frames"] / (summary["seconds"] - summary["scoring_seconds"]), 1)
    print(f"\nvideo: FastSegFormer-{letter.upper()}, one video of {seconds} s, {WIDTH_PX}×{HEIGHT_PX}")
    for name, value in found.items():
        print(f"  {name:<24}{value:>10,}")
    return found


def memory(home: Path) -> dict[str, float]:
    """Return the peak memory of all processes while short and long videos are scored by the null model and rendered.

    Scoring and rendering are separate jobs: `fsf score`, then `fsf render`.
    """
    bundle, clip, out = null_model(home), home / "clip.mp4", home / "run"
    found: dict[str, float] = {}
    for seconds in sorted({*MEMORY_S["score"], *MEMORY_S["render"]}):
        write_video(clip, seconds=seconds, size_hw=MEMORY_HW)
        score = score_command(bundle, clip, out)
        jobs = {"score": score, "render": [*score[:3], "render", str(out)]}
        for name in jobs if seconds in MEMORY_S["render"] else ["score"]:
            reading = meter.run(jobs[name])
            found[f"{name}_{seconds}_s_peak_mb"] = round(reading.peak_mb)
            print(f"{name}, {seconds} s of video: {reading.peak_mb:.0f} MB in {reading.seconds:.0f} s", file=sys.stderr)
        summary = json.loads((out / "summary.json").read_text())
        assert summary["frames"] == seconds * RATE, "frames were lost"
        shutil.rmtree(out)
    for name, lengths in MEMORY_S.items():
        short, long = (found[f"{name}_{seconds}_s_peak_mb"] for seconds in lengths)
        found[f"{name}_growth"] = round(long / short, 3)
    return found


def write_video(path: Path, *, seconds: int, size_hw: tuple[int, int] = (HEIGHT_PX, WIDTH_PX)) -> None:
    """Write a video of a view that moves over a random field: ten seconds, encoded once and repeated by packets."""
    height_px, width_px = size_hw
    field = np.random.default_rng(0).integers(0, 256, (60, 100, 3)).astype(np.uint8)
    field = cv2.resize(field, (width_px + 480, height_px + 420), interpolation=cv2.INTER_CUBIC)
    piece = path.with_suffix(".piece.mp4")
    with av.open(str(piece), "w") as output:
        stream: Any = output.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuv420p"
        for number in range(DIFFERENT_FRAMES):
            top, left = int(200 + 200 * np.sin(number / 50)), int(200 + 200 * np.cos(number / 60))
            view = np.ascontiguousarray(field[top : top + height_px, left : left + width_px])
            frame = av.VideoFrame.from_ndarray(view, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    _repeat(piece, path, times=seconds * RATE // DIFFERENT_FRAMES)
    piece.unlink()


def _repeat(piece: Path, path: Path, *, times: int) -> None:
    with av.open(str(path), "w") as output:
        stream: Any = None
        shift = 0
        for _ in range(times):
            with av.open(str(piece)) as source:
                stream = stream or output.add_stream_from_template(source.streams.video[0])
                end = shift
                for packet in source.demux(video=0):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    end = max(end, packet.pts + (packet.duration or 0))
                    output.mux(packet)
                shift = end


def decode_rate(path: Path, index: video.VideoIndex) -> float:
    """Return the frames/s of decoding alone, on one thread."""
    started = time.perf_counter()
    span = range(min(DIFFERENT_FRAMES, index.frames))
    count = sum(1 for _ in video.decode_frames(path, index, span))
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
