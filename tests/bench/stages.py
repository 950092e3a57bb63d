"""CPU time of every stage, in one process on one thread, without Ray: the lower bound of a frame's cost.

`python -m tests.bench.stages --bundle B --manifest M --frames N --out DIR` prints milliseconds per frame, as JSON.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pyarrow as pa

from fsf_core import masks, storage
from fsf_core.manifest import open_manifest
from fsf_core.media import images
from fsf_core.model.bundle import variant_of
from fsf_core.model.bundle_files import load_bundle
from fsf_core.options import SCHEMES
from fsf_core.runs.staging import take_over
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import MaskSettings, mask
from fsf_core.stages.write import WriteSettings, write

LIMITS = images.ImageLimits(max_bytes=1 << 30, max_pixels=105_000_000)
BLOCK_ITEMS = 32

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--min-region-px", type=int, help="also find connected regions, from this number of pixels on")
    given = parser.parse_args()
    found = measure(given.bundle, given.manifest, given.frames, given.out, min_region_px=given.min_region_px)
    print(json.dumps(found))


def measure(
    bundle_uri: str, manifest_uri: str, frames: int, out: str, *, min_region_px: int | None = None
) -> dict[str, float]:
    cv2.setNumThreads(1)
    masks.compile_kernels()
    bundle = load_bundle(bundle_uri)
    manifest = open_manifest(manifest_uri)
    rows = pa.concat_tables(list(manifest.batches())).slice(0, frames)
    rows = rows.append_column("row_digest", manifest.digests(rows))
    rows = rows.append_column("attempt", pa.array([1] * len(rows), pa.int32()))
    rows = rows.append_column("done_segments", pa.array([[]] * len(rows), pa.list_(pa.int32())))
    decoding = DecodeSettings(
        profile=bundle.profile, limits=LIMITS, extra=manifest.extra, segment_frames=64, overlays=False,
        access=storage.Access(schemes=SCHEMES), labelled=manifest.has_labels,
    )  # fmt: skip
    infer = Infer(
        bundle_uri=bundle.uri, bundle_sha256=bundle.sha256, variant=variant_of("fp32", fused=False), provider="cpu",
        threads=1, batch_frames=4,
    )  # fmt: skip
    masking = MaskSettings(
        profile=bundle.profile, num_classes=bundle.num_classes, palette_K3=np.asarray(bundle.palette, np.uint8),
        grid_hw=bundle.signature.output_shape[2:], mask_size="original", limits=LIMITS, clear_background=False,
        min_region_px=min_region_px,
    )  # fmt: skip
    Path(out).mkdir(parents=True, exist_ok=True)
    writing = WriteSettings(
        staging=take_over(out, 1, adopt=False),
        run_id="bench",
        bundle_sha256=bundle.sha256,
        class_names=bundle.classes,
        extra=manifest.extra,
    )
    spent = Counter[str]()

    def timed(name: str, call: Callable[[], T]) -> T:
        before = time.process_time()
        result = call()
        spent[name] += time.process_time() - before
        return result

    for start in range(0, len(rows), BLOCK_ITEMS):
        block = rows.slice(start, BLOCK_ITEMS)
        decoded = timed("decode", lambda block=block: list(decode(block, decoding)))
        inferred = timed("infer", lambda decoded=decoded: [part for table in decoded for part in infer(table)])
        masked = timed("mask", lambda inferred=inferred: [mask(table, masking) for table in inferred])
        timed("write", lambda masked=masked: write(pa.concat_tables(masked), writing))
    return {name: round(1e3 * seconds / len(rows), 3) for name, seconds in spent.items()}


if __name__ == "__main__":
    main()
