"""Measure the models of the zoo: `python -m tests.support.zoo.measure [NAME …]` writes measured.json.

Each is exported by its command, compared with its family's own code on pictures of several sizes, and timed. The page
of the families is generated from the file (`python -m tests.support.docs`). Models that are not named keep their row.
"""

import datetime as dt
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fsf_core.cli.app import app
from fsf_core.config import ExportConfig
from fsf_core.export.job import export
from fsf_core.model.bundle import PLAIN, Bundle
from fsf_core.model.bundle_files import read_model, read_parity
from fsf_core.model.preprocess import fit, normalise
from fsf_core.model.session import Session
from tests.support.zoo.entry import NEAR_TIE, SIZES, Entry
from tests.support.zoo.scoring import class_maps, drawn_picture

MEASURED = Path(__file__).with_name("measured.json")
_TIMED_CALLS = 10


def export_by_command(words: list[str], out: Path) -> Bundle:
    """Export as the command does, in this process."""
    _, bound, _ = app["export"].parse_args([*words, "--out", str(out)])
    config = bound.arguments["config"]
    assert isinstance(config, ExportConfig)
    return export(config).bundle


def worst_difference(entry: Entry, folder: Path, bundle: Bundle, scratch: Path) -> float:
    """Return the largest share of pixels, over pictures and variants, that differ outside of near-ties."""
    worst = 0.0
    for height_px, width_px in SIZES:
        image_HWC = drawn_picture(height_px, width_px)
        cv2.imwrite(str(scratch / "picture.png"), image_HWC)
        expected = entry.reference(folder, image_HWC)
        assert len(np.unique(expected.class_map_HW)) > 1, "a map of one class compares nothing"
        for class_map_HW in class_maps(bundle, scratch / "picture.png").values():
            differs_HW = class_map_HW != expected.class_map_HW
            if expected.margin_HW is not None:
                differs_HW &= expected.margin_HW > NEAR_TIE
            worst = max(worst, float(differs_HW.mean()))
    return worst


def measure(entry: Entry) -> dict[str, Any]:
    """Return the row of a model."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = scratch / "model"
        folder.mkdir()
        words = entry.make(folder)
        bundle = export_by_command(words, scratch / "bundle")
        frame_HWC = fit(drawn_picture(240, 320), bundle.profile)
        batch_NCHW = normalise(frame_HWC[None], bundle.profile.levels())
        session = Session(read_model(bundle, PLAIN), threads=1)
        session.run(batch_NCHW)
        started_s = time.process_time()
        for _ in range(_TIMED_CALLS):
            session.run(batch_NCHW)
        frame_ms = round((time.process_time() - started_s) * 1000 / _TIMED_CALLS, 1)
        return {
            "family": entry.family,
            "command": " ".join(["fsf export", *words]).replace(str(folder), "MODEL"),
            "preprocessing": bundle.profile.describe(),
            "output": bundle.output.kind,
            "input": "x".join(map(str, batch_NCHW.shape[2:])),
            "parity": min(picture["agreeing_share"] for picture in read_parity(bundle)["pictures"]),
            "equal": 1 - worst_difference(entry, folder, bundle, scratch),
            "frame_ms": frame_ms,
        }


def main(names: list[str]) -> None:
    """Measure the named models, or all."""
    from tests.support.zoo.catalogue import ENTRIES

    document = json.loads(MEASURED.read_text()) if MEASURED.exists() else {"models": {}}
    known = {entry.name for entry in ENTRIES}
    rows = {name: row for name, row in document["models"].items() if name in known}
    for entry in ENTRIES:
        if not names or entry.name in names:
            rows[entry.name] = measure(entry)
            sys.stdout.write(f"{entry.name}: {rows[entry.name]}\n")
    machine = f"one thread of {_processor()}, {dt.datetime.now(dt.UTC):%Y-%m-%d}"
    ordered = {entry.name: rows[entry.name] for entry in ENTRIES if entry.name in rows}
    MEASURED.write_text(json.dumps({"machine": machine, "models": ordered}, indent=1) + "\n")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())


if __name__ == "__main__":
    main(sys.argv[1:])
