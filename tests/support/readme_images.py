"""The images of README.md, from a folder that `fsf demo` made.

    fsf demo demo && python -m tests.support.readme_images demo

Writes .github/images/: strip.webp (photograph, mask, overlay with legend), conveyor.gif (the rendered video), speed.svg
(the chart of tests/bench/figures.json) and report.webp (the page of `fsf report`, in both themes).
"""

# H×W pixels, C channels

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsf_core import open_run
from fsf_core.media import video
from tests.support import speed_chart
from tests.support.browser import chromium

IMAGES = Path(__file__).parents[2] / ".github" / "images"
ITEM = "orange_005"
"""Has every class of the demo."""
GAP_PX = 16
REPORT_PX = (1150, 1180)
GIF_WIDTH_PX, GIF_EVERY_NTH, GIF_FRAME_MS = 384, 2, 150
FRAME_COLOURS, CLASS_COLOURS = 112, 24
"""Palette entries for the whole frames, and for what the masks cover, which is too small to get its own otherwise."""
LEGEND_HW = (64, 152)
"""Corner of a frame that holds the legend, left unsmoothed."""

Pixels = NDArray[np.uint8]


def main() -> None:
    """Draw all images from the run of a demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    run = parser.parse_args().demo / "run"
    IMAGES.mkdir(parents=True, exist_ok=True)
    strip(run).save(IMAGES / "strip.webp", quality=88, method=6)
    frames = conveyor(run)
    frames[0].save(
        IMAGES / "conveyor.gif", save_all=True, append_images=frames[1:], duration=GIF_FRAME_MS, loop=0, optimize=True
    )
    report(run).save(IMAGES / "report.webp", quality=82, method=6)
    (IMAGES / "speed.svg").write_text(speed_chart.chart(speed_chart.read_figures()))
    for path in sorted(IMAGES.iterdir()):
        sys.stdout.write(f"{path.stat().st_size / 1000:6.0f} kB  {path}\n")


def strip(run: Path) -> Image.Image:
    """Return the photograph above its mask, and beside both the overlay; the gaps are transparent."""
    reader = open_run(str(run))
    [uri] = reader.masks(columns=["uri"], item_id=ITEM).column("uri").to_pylist()
    with tempfile.TemporaryDirectory() as folder:
        png = f"{folder}/overlay.png"
        _fsf("inspect", str(run), ITEM, "--png", png, "--legend", "--clear-background")
        overlay = Image.open(png).convert("RGB")
    width_px, height_px = overlay.size
    small = ((width_px - GAP_PX) // 2, (height_px - GAP_PX) // 2)
    photograph = Image.open(uri).convert("RGB").resize(small, Image.Resampling.LANCZOS)
    mask = Image.fromarray(np.uint8(reader.palette)[reader.mask(ITEM)]).resize(small, Image.Resampling.NEAREST)
    canvas = Image.new("RGBA", (small[0] + GAP_PX + width_px, height_px), (0, 0, 0, 0))
    canvas.paste(photograph, (0, 0))
    canvas.paste(mask, (0, height_px - small[1]))
    canvas.paste(overlay, (small[0] + GAP_PX, 0))
    return canvas


def report(run: Path) -> Image.Image:
    """Return the head of the report in light, and beside it a picture with its mask and its label in dark."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        _fsf("report", str(run), "--out", str(page))
        with chromium(Path(folder) / "profile") as window:
            window.resize(*REPORT_PX)
            window.prefer("light")
            window.open(page)
            window.screenshot(Path(folder) / "head.png")
            window.prefer("dark")
            window.run(
                "document.querySelector('#pictures').scrollIntoView(); "
                "document.querySelector('[data-key=random]').click(); setTimeout(() => done(1), 500)"
            )
            window.screenshot(Path(folder) / "pictures.png")
        parts = [Image.open(Path(folder) / name).convert("RGB") for name in ("head.png", "pictures.png")]
    canvas = Image.new("RGBA", (2 * REPORT_PX[0] + GAP_PX, REPORT_PX[1]), (0, 0, 0, 0))
    for part, left in zip(parts, (0, REPORT_PX[0] + GAP_PX), strict=True):
        canvas.paste(part, (left, 0))
    return canvas


def conveyor(run: Path) -> list[Image.Image]:
    """Return frames of the rendered video, smoothed and reduced to one palette, so that the GIF stays small."""
    _fsf("render", str(run), "conveyor", "--legend", "--clear-background")
    [path] = (run / "videos").glob("conveyor-*.mp4")
    with path.open("rb") as file:
        decoded = [frame.image_HWC[..., ::-1] for frame in video.decode_frames(file, video.index_video(file))]
    reader = open_run(str(run))
    frames = [_smooth(frame_HWC) for frame_HWC in decoded[::GIF_EVERY_NTH]]
    marked = [reader.mask("conveyor", frame=index) > 0 for index in range(0, len(decoded), GIF_EVERY_NTH)]
    height_px, width_px = LEGEND_HW
    covered = [frame_HWC[mask_HW] for frame_HWC, mask_HW in zip(frames, marked, strict=True)]
    covered.append(frames[0][:height_px, :width_px].reshape(-1, 3))
    sampled = [frame_HWC[::3, ::3].reshape(-1, 3) for frame_HWC in frames]
    palette = Image.new("P", (1, 1))
    palette.putpalette([*_palette(sampled, FRAME_COLOURS), *_palette(covered, CLASS_COLOURS)])
    size = (GIF_WIDTH_PX, GIF_WIDTH_PX * frames[0].shape[0] // frames[0].shape[1])
    return [
        Image.fromarray(cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA)).quantize(
            palette=palette, dither=Image.Dither.NONE
        )
        for frame_HWC in frames
    ]


def _smooth(image_HWC: Pixels) -> Pixels:
    """Return the frame without its grain, which GIF cannot compress; edges and the legend stay sharp."""
    smooth_HWC = cv2.bilateralFilter(np.ascontiguousarray(image_HWC), 9, 30, 6)
    height_px, width_px = LEGEND_HW
    smooth_HWC[:height_px, :width_px] = image_HWC[:height_px, :width_px]
    return np.asarray(smooth_HWC, np.uint8)


def _palette(pixels: list[Pixels], colours: int) -> list[int]:
    """Return the levels, RGB after RGB, of as many colours, chosen from lists of pixels."""
    image = Image.fromarray(np.concatenate(pixels)[None])
    return (image.quantize(colours, kmeans=2).getpalette() or [])[: 3 * colours]


def _fsf(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "fsf_core.cli", *arguments], check=True)


if __name__ == "__main__":
    main()
