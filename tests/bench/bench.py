"""How fast the whole job is, beside the bare model and beside what a user might run instead.

    python -m tests.bench.bench            the short form, under 10 minutes on 2 cores
    python -m tests.bench.bench --full     2,000 pictures of 512×512

Everything runs one after another on the same pictures in one go, so compare within one table only. The last line is one
JSON object; ratios above 1 mean that fsf is faster. `efficiency` is the job's frames/s in steady state over the bare
model's; `efficiency_whole` counts the start of its actors too.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from fsf_core import __version__
from fsf_core.demo.oranges import draw_orange

ROOT = Path(__file__).parents[2]
CLASSES = "background,sunburn,ulcer,wind_scarring"
PEERS = ("seed_ort", "seed_ort_plain", "seed_torch", "ray_docs", "daft", "dataloader")
MEGAPIXELS_12 = (3000, 4000)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model on one kind of picture."""

    name: str
    letter: str
    """Which FastSegFormer."""
    height_px: int
    width_px: int
    frames: int


def main() -> None:
    """Run all cases and print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", default="p512,e512,mp12")
    parser.add_argument("--peers", default=",".join(PEERS))
    given = parser.parse_args()
    frames = 2000 if given.full else 400
    cases = [
        Case(name="p512", letter="p", height_px=512, width_px=512, frames=frames),
        Case(name="e512", letter="e", height_px=512, width_px=512, frames=frames),
        Case(name="mp12", letter="p", height_px=MEGAPIXELS_12[0], width_px=MEGAPIXELS_12[1], frames=frames // 10),
    ]
    found: dict[str, Any] = {"fsf": __version__, "machine": machine()}
    home = Path(tempfile.mkdtemp(prefix="fsf-bench-"))
    try:
        for case in cases:
            if case.name in given.only.split(","):
                found[case.name] = measure(case, home, given.peers.split(","))
    finally:
        shutil.rmtree(home)
    print(json.dumps(found))


def measure(case: Case, home: Path, peers: list[str]) -> dict[str, float]:
    """All contenders of one case."""
    weights, bundle = model(case.letter, home)
    pictures = draw(case, home / f"{case.height_px}x{case.width_px}")
    task = ["--model", str(bundle / "model.onnx"), "--weights", str(weights), "--net", f"fastsegformer-{case.letter}"]
    task += ["--pictures", str(pictures), "--frames", str(case.frames)]
    rates = {"bare": peer("bare", task, case, home)}
    rates["fsf"], rates["fsf_steady"] = ours(case, bundle, pictures, home)
    for name in peers:
        rates[name] = peer(name, task, case, home)
    table(case, rates)
    ratios = {f"vs_{name}": rates["fsf"] / rates[name] for name in peers}
    return {
        "frames_per_s": round(rates["fsf"], 2),
        "efficiency": round(rates["fsf_steady"] / rates["bare"], 3),
        "efficiency_whole": round(rates["fsf"] / rates["bare"], 3),
        **{name: round(ratio, 2) for name, ratio in ratios.items()},
    }


def ours(case: Case, bundle: Path, pictures: Path, home: Path) -> tuple[float, float]:
    """Frames/s of `fsf score` from the start of its actors on, and between its first and its last commit."""
    out = home / f"run-{case.name}"
    words = ["score", "--bundle", str(bundle), "--manifest", str(pictures), "--out", str(out), "--provider", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.fsf", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["items"]["failed"] == 0, "the bench's own pictures are sound"
    commits = sorted(
        (path.stat().st_mtime, json.loads(_facts(path))["frames"]) for path in (out / "receipts").glob("*.arrow")
    )
    steady = sum(frames for _, frames in commits[1:]) / max(1e-9, commits[-1][0] - commits[0][0])
    return summary["frames"] / summary["scoring_seconds"], steady


def _facts(receipt: Path) -> bytes:
    import pyarrow as pa

    facts: bytes = pa.ipc.open_file(receipt).schema.metadata[b"fsf_receipt"]
    return facts


def peer(name: str, task: list[str], case: Case, home: Path) -> float:
    """Frames/s of a contender in a process of its own."""
    out = home / f"{name}-{case.name}"
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.peers", name, *task, "--out", str(out)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    shutil.rmtree(out, ignore_errors=True)
    return case.frames / float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def model(letter: str, home: Path) -> tuple[Path, Path]:
    """Weights by recipe, and their bundle."""
    weights, bundle = home / f"{letter}.pth", home / f"bundle-{letter}"
    if not bundle.exists():
        import torch

        from fsf_core.export.build import load_network
        from tests import recipe

        shapes = load_network(f"fastsegformer-{letter}", num_classes=4).state_dict()
        state = recipe.state(letter, [(name, tuple(tensor.shape)) for name, tensor in shapes.items()])
        torch.save({name: torch.from_numpy(array) for name, array in state.items()}, weights)
        words = ["export", "--net", f"fastsegformer-{letter}", "--checkpoint", str(weights), "--classes", CLASSES]
        words += ["--exporter", "torchscript", "--out", str(bundle)]
        subprocess.run([sys.executable, "-m", "jobs.fsf", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return weights, bundle


def draw(case: Case, folder: Path) -> Path:
    """JPEGs of drawn oranges; a few pictures under many names, so that drawing does not take longer than measuring."""
    if not folder.exists():
        folder.mkdir(parents=True)
        different = min(case.frames, 40 if case.height_px < MEGAPIXELS_12[0] else 4)
        drawn = [
            cv2.imencode(".jpg", draw_orange(seed, height_px=case.height_px, width_px=case.width_px)[0])[1].tobytes()
            for seed in range(different)
        ]
        for number in range(case.frames):
            (folder / f"{number:05d}.jpg").write_bytes(drawn[number % different])
    return folder


def table(case: Case, rates: dict[str, float]) -> None:
    """What was measured, for people."""
    size = f"{case.width_px}×{case.height_px}"
    print(f"\n{case.name}: FastSegFormer-{case.letter.upper()}, {case.frames} JPEGs of {size}")
    for name, rate in rates.items():
        print(f"  {name:<16}{rate:8.2f} frames/s {rate / rates['bare']:8.2f} of the bare model")
    sys.stdout.flush()


def machine() -> str:
    """What it ran on."""
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
