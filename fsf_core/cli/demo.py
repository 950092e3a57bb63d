"""All of it in one command: draw oranges, train a small model, export, score, look.

    fsf demo demo

Needs no download and no GPU. Writes data/ (pictures, labels, a video, one broken file), model.pth, bundle/, run/ and
overlay.png into the folder. What is there already is used again; the run is resumed.
"""

import shutil
from pathlib import Path

from fsf_core.config import ExportConfig, InspectConfig, ScoreConfig
from fsf_core.errors import OutputError

CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")


def run(folder: str, *, steps: int) -> int:
    """Run every job in turn; returns the first exit code that is not 0."""
    from fsf_core.cli import export, inspect, score
    from fsf_core.demo.model import train
    from fsf_core.demo.oranges import write_demo

    home = Path(folder)
    data, weights, bundle, out = home / "data", home / "model.pth", home / "bundle", home / "run"
    manifest = data / "manifest.csv"
    if not manifest.exists():
        _say("drawing oranges", manifest)
        write_demo(data)
    if not weights.exists():
        _say("training a small model", weights)
        train(weights, steps=steps)
    _say("exporting it, with proof", bundle)
    request = ExportConfig(net="fsf_core.demo.model:build", checkpoint=str(weights), classes=CLASSES, out=str(bundle))
    try:
        export.run(request)
    except OutputError:  # the bundle of an earlier version of this program; the folder is the demo's own
        shutil.rmtree(bundle)
        shutil.rmtree(out, ignore_errors=True)
        export.run(request)
    _say("scoring pictures and video", out)
    code = score.run(ScoreConfig(bundle=str(bundle), manifest=str(manifest), out=str(out), provider="cpu"))
    if code:
        return code
    _say("looking at one picture", home / "overlay.png")
    first = next(iter(sorted((data / "pictures").glob("orange_*.jpg")))).stem
    return inspect.run(str(out), first, InspectConfig(png=str(home / "overlay.png")))


def _say(what: str, where: Path) -> None:
    print(f"\n== {what}: {where}", flush=True)
