"""`fsf demo`: draw oranges, train a small model, export it, score, draw one result, and write the report.

Needs no download and no GPU. Writes data/ (images, labels, a video, one broken file), model.pth, bundle/, run/,
overlay.png and report.html to the folder. Existing files are used again, and the run is resumed.
"""

import shutil
from pathlib import Path

from fsf_core.cli.output import show
from fsf_core.config import ExportConfig, InspectConfig, ReportConfig, ScoreConfig
from fsf_core.errors import OutputError

CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")


def run(folder: str, *, steps: int) -> int:
    """Run every job in turn; returns the first exit code that is not 0.

    Args:
        folder: for the data, the model and the results.
        steps: training steps of the model.
    """
    from fsf_core.cli import export, inspect, report, score
    from fsf_core.demo.model import train
    from fsf_core.demo.oranges import write_demo

    home = Path(folder)
    data, weights, bundle, out = home / "data", home / "model.pth", home / "bundle", home / "run"
    manifest = data / "manifest.csv"
    if not manifest.exists():
        _announce("drawing oranges", manifest)
        write_demo(data)
    if not weights.exists():
        _announce("training a small model", weights)
        train(weights, steps=steps)
    _announce("exporting it, with its parity report", bundle)
    request = ExportConfig(net="fsf_core.demo.model:build", checkpoint=str(weights), classes=CLASSES, out=str(bundle))
    try:
        export.run(request)
    except OutputError:  # a bundle of an earlier version of this program; the folder belongs to the demo
        shutil.rmtree(bundle)
        shutil.rmtree(out, ignore_errors=True)
        export.run(request)
    _announce("scoring images and a video", out)
    code = score.run(ScoreConfig(bundle=str(bundle), manifest=str(manifest), out=str(out), provider="cpu"))
    if code:
        return code
    _announce("drawing one result", home / "overlay.png")
    first = next(iter(sorted((data / "pictures").glob("orange_*.jpg")))).stem
    inspect.run(str(out), first, InspectConfig(png=str(home / "overlay.png")))
    _announce("showing the run on one page, to be opened in a browser", home / "report.html")
    return report.run(str(out), ReportConfig(out=str(home / "report.html")))


def _announce(what: str, where: Path) -> None:
    show(f"\n== {what}: {where}", lines=True)
