"""`fsf demo`: draw oranges, export a model that was trained on such, score, measure, and show the results.

Needs no download and no GPU. Writes data/ (images and a video with labels, one broken file), model.safetensors,
bundle/, run/ with a rendered video, metrics.json, overlay.png and report.html to the folder. Existing files are used
again, and the run is resumed.
"""

import shutil
from pathlib import Path

from fsf_core.cli.output import print_json, show
from fsf_core.config import EvaluateConfig, ExportConfig, InspectConfig, ReportConfig, ScoreConfig
from fsf_core.errors import OutputError

CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")


def run(folder: str) -> int:
    """Run every job in turn; returns the first exit code that is not 0.

    Args:
        folder: for the data, the model and the results.
    """
    from fsf_core.cli import evaluate, export, inspect, report, score
    from fsf_core.demo import WEIGHTS

    home = Path(folder)
    data, weights, bundle, out = home / "data", home / "model.safetensors", home / "bundle", home / "run"
    manifest = _draw(data, out)
    shutil.copyfile(WEIGHTS, weights)
    _announce("exporting FastSegFormer-E, which was trained on other drawings, with its parity report", bundle)
    request = ExportConfig(net="fastsegformer-e", checkpoint=str(weights), classes=CLASSES, out=str(bundle))
    try:
        export.run(request)
    except OutputError:  # a bundle of an earlier version of this program; the folder belongs to the demo
        shutil.rmtree(bundle)
        shutil.rmtree(out, ignore_errors=True)
        export.run(request)
    _announce("scoring images and a video, and rendering the video with its masks", out)
    job = ScoreConfig(
        bundle=str(bundle), manifest=str(manifest), out=str(out), provider="cpu", render="blend", legend=True,
        clear_background=True,
    )  # fmt: skip
    if code := score.run(job):
        return code
    _announce("comparing masks with labels", home / "metrics.json")
    if code := evaluate.run(str(out), None, EvaluateConfig(out=str(home / "metrics.json"))):
        return code
    _announce("drawing one result", home / "overlay.png")
    drawn = InspectConfig(png=str(home / "overlay.png"), legend=True, clear_background=True)
    inspect.run(str(out), "orange_005", drawn)
    _announce("showing the run on one page", home / "report.html")
    if code := report.run(str(out), ReportConfig(out=str(home / "report.html"))):
        return code
    _conclude(home, out)
    return 0


def _draw(data: Path, out: Path) -> Path:
    """Draw what the folder lacks; returns the manifest."""
    from fsf_core.demo.oranges import write_demo

    manifest = data / "manifest.csv"
    if not manifest.exists() or not (data / "labels" / "conveyor").exists():  # earlier versions labelled no video
        _announce("drawing oranges", manifest)
        shutil.rmtree(out, ignore_errors=True)  # of another manifest
        write_demo(data)
    return manifest


def _conclude(home: Path, out: Path) -> None:
    """Print the figures, and what to open."""
    from fsf_core.runs import open_run

    summary = open_run(str(out)).summary or {}
    items, metrics = summary["items"], summary["metrics"]
    [video] = (out / "videos").glob("*.mp4")
    opened = {
        "report": home / "report.html",
        "video": video,
        "overlay": home / "overlay.png",
        "masks": out / "masks",
    }
    figures = f"mIoU {metrics['miou']:.4f} over {metrics['items']} labelled items"
    scored = f"{items['scored']} of {items['total']} items scored, {items['failed']} failed: one is broken on purpose"
    show(f"\n{figures}; {scored}. Open:", lines=True)
    what = {
        "report": "the report, in a browser",
        "video": "the video with its masks",
        "overlay": "a picture with its classes",
        "masks": "masks as Parquet; beside them figures by class, failures and confusions",
    }
    show("\n".join(f"  {path}  {what[name]}" for name, path in opened.items()), lines=True)
    print_json({name: str(path) for name, path in opened.items()} | {"miou": metrics["miou"], "items": items})


def _announce(what: str, where: Path) -> None:
    show(f"\n== {what}: {where}", lines=True)
