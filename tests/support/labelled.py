"""Labels in every form that is read, and runs over labelled lists without Ray and without a model.

Knows the stages. The class scores of a frame are random numbers that follow from its item and number.
"""

import io
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
from PIL import Image

from fsf_core import masks, runs, storage
from fsf_core.manifest import open_manifest
from fsf_core.media import images
from fsf_core.model import preprocess
from fsf_core.options import SCHEMES
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.mask import MaskSettings, mask
from fsf_core.stages.write import WriteSettings, write
from tests.support import ledger
from tests.support.decode_rows import decode_rows

CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")
PALETTE = masks.voc_palette(len(CLASSES))
GRID = (7, 9)


def label(height_px, width_px, *, seed=0, ignored=0.1, classes=4):
    """Return a label of blocks, some of them 255."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, classes, (-(-height_px // 5), -(-width_px // 5))).astype(np.uint8)
    small[rng.random(small.shape) < ignored] = 255
    return np.ascontiguousarray(np.repeat(np.repeat(small, 5, 0), 5, 1)[:height_px, :width_px])


def encode(label_HW, form="grey"):
    """Return a label as a PNG: of grey levels, a palette, or painted."""
    if form == "grey":
        return cv2.imencode(".png", label_HW)[1].tobytes()
    if form == "palette":
        image = Image.fromarray(label_HW, "P")
        image.putpalette(masks.voc_palette(256).tobytes())
        sink = io.BytesIO()
        image.save(sink, "PNG")
        return sink.getvalue()
    colours = np.full((256, 3), 224, np.uint8)
    colours[:] = (224, 224, 192)  # VOC's colour of what is ignored
    colours[: len(CLASSES)] = PALETTE
    painted = colours[label_HW]
    if form == "rgba":
        painted = np.dstack([painted, np.full(label_HW.shape, 255, np.uint8)])
    sink = io.BytesIO()
    Image.fromarray(painted).save(sink, "PNG")
    return sink.getvalue()


def label_video(labels, *, codec="ffv1", pixels="gray", container="matroska", options=None, form="gray"):
    """Return labels as a video; `form` is the format of the arrays."""
    sink = io.BytesIO()
    with av.open(sink, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = labels[0].shape[:2]
        stream.pix_fmt = pixels
        for number, each in enumerate(labels):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(each), format=form).reformat(format=pixels)
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return sink.getvalue()


def rows_of(manifest, *, done_segments=None, **changes):
    """Return the rows of a manifest as the decode stage takes them, its settings, and the manifest."""
    found = open_manifest(str(manifest))
    settings = {
        "profile": preprocess.PROFILES["fastsegformer"],
        "limits": images.ImageLimits(),
        "extra": found.extra,
        "segment_frames": 8,
        "overlays": False,
        "access": storage.Access(schemes=SCHEMES),
        "labelled": found.has_labels,
    }
    return decode_rows(found, done_segments=done_segments), DecodeSettings(**{**settings, **changes}), found


def decoded(manifest, **changes):
    """Return the units of a manifest, as the decode stage makes them."""
    rows, settings, _ = rows_of(manifest, **changes)
    return pa.concat_tables(decode(rows, settings))


def masked(units, *, palette=PALETTE):
    """Return units as the mask stage returns them, for random scores."""
    rows = units.select(["item_id", "frames"]).to_pylist()
    scores = [_scores(row["item_id"], [frame["frame_index"] for frame in row["frames"]]) for row in rows]
    outputs = pa.array([each.tobytes() for each in scores], pa.large_binary())
    settings = MaskSettings(
        profile=preprocess.PROFILES["fastsegformer"],
        num_classes=len(palette),
        palette_K3=palette,
        grid_hw=GRID,
        mask_size="original",
        limits=images.ImageLimits(),
        clear_background=False,
    )
    return mask(units.drop_columns(["inputs"]).append_column("outputs", outputs), settings)


def scored(manifest, out, **changes):
    """Score a manifest into a run of one part per table that decoding yields; returns its reader."""
    units, found = decoded(manifest, **changes), open_manifest(str(manifest))
    facts = {"classes": CLASSES, "palette": PALETTE.tolist(), "tables": ["confusion"]}
    attempt = ledger.begin(str(out), fingerprint=facts)
    settings = WriteSettings(
        staging=attempt.staging, run_id="r", bundle_sha256="ab", class_names=CLASSES, extra=found.extra
    )
    write(masked(units), settings)
    return runs.open_run(str(out))


def _scores(item_id, frames):
    shape = (len(CLASSES), *GRID)
    rngs = [np.random.default_rng([zlib.crc32(item_id.encode()), frame]) for frame in frames]
    return np.stack([rng.normal(0, 3, shape).astype(np.float32) for rng in rngs]) if rngs else np.empty(0, np.float32)


def pixels_of(run, item_id):
    """Return the table confusion of an item as a matrix, label × predicted."""
    found = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for row in run.confusion(item_id=item_id).to_pylist():
        assert row["pixels"] > 0
        assert row["shared_boundary_px"] <= min(row["label_boundary_px"], row["predicted_boundary_px"])
        found[row["label_class_id"], row["predicted_class_id"]] += row["pixels"]
    return found


def expected_pixels(run, item_id, labels):
    """Count labels against the masks of a run, by NumPy alone.

    Args:
        run: the run.
        item_id: of an image or video.
        labels: by frame index.
    """
    size = len(CLASSES)
    found = np.zeros((size, size), np.int64)
    for frame, label_HW in labels.items():
        counted = label_HW < size
        pairs = label_HW[counted].astype(int) * size + run.mask(item_id, frame)[counted]
        found += np.bincount(pairs, minlength=size * size).reshape(size, size)
    return found


def write_list(folder: Path, rows, *, name="list.csv"):
    """Write a CSV list of (id, uri, label_uri)."""
    lines = ["id,uri,label_uri", *(",".join(row) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name
