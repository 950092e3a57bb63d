"""Step d: programs that a user might run instead (tests/bench/peers.py), with their model on the card."""

import importlib.util
import shutil
from dataclasses import asdict
from typing import Any

from tests.bench.competitors import peer_rate
from tests.bench.gpu.inputs import linked
from tests.bench.gpu.setting import Setting

FRAMES = {"seed_ort": (800, 12), "seed_torch": (800, 6), "ray_docs": (2000, 64), "dataloader": (2000, 16)}
"""Pictures, and those of a rehearsal. A loop has the same rate from its first picture on."""


NEEDS = {"seed_ort": "torch", "seed_torch": "torch", "ray_docs": "ray", "dataloader": "torch"}
"""The authors' tools make their softmax with torch."""


def run(setting: Setting, name: str) -> dict[str, Any]:
    """Run one over the pictures of 512×512 with P in float32; returns its rate, or which library is missing."""
    if importlib.util.find_spec(NEEDS[name]) is None:
        return {"missing": NEEDS[name]}
    count = setting.count(*FRAMES[name])
    pictures = linked(setting.inputs / "distinct-512", setting.work / "pictures-512", max(count, setting.frames))
    letter = "e" if setting.quick else "p"
    task = ["--model", str(setting.bundle("p") / "model.onnx"), "--weights", str(setting.inputs / f"{letter}.pth")]
    task += ["--net", f"fastsegformer-{letter}", "--pictures", str(pictures), "--device", setting.provider]
    out = setting.work / f"peer-{name}"
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(out.with_name(f"{out.name}-times"), ignore_errors=True)
    rate = peer_rate(name, task, count, out)
    return {"frames": count} | {key: round(value, 2) for key, value in asdict(rate).items()}
