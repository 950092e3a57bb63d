"""Class maps that the card makes, compared with scores that come back and masks made on CPUs, by size."""

import itertools
import shutil
import time
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa

from fsf_core import masks
from fsf_core.model import device_model
from fsf_core.stages.mask import mask
from tests.bench import stages
from tests.bench.gpu.inputs import linked, write_list
from tests.bench.gpu.setting import Letter, Setting

SIZES = {
    "512x512": ((512, 512), 256),
    "1080p": ((1080, 1920), 64),
    "4mp": ((1728, 2304), 32),
    "12mp": ((3000, 4000), 16),
}
"""Rows and columns, and frames of a measurement."""

FORMS = {"card": 1 << 40, "cpu": 0}
"""Where class maps are made, and the largest size that the card then makes."""


def run(setting: Setting, letter: Letter) -> dict[str, Any]:
    """Measure infer and mask stage on one thread, by size and form; in milliseconds per frame."""
    cv2.setNumThreads(1)
    masks.compile_kernels()
    home = setting.work / "forms"
    shutil.rmtree(home, ignore_errors=True)
    found: dict[str, Any] = {}
    infer = None
    for name, (size, count) in itertools.islice(SIZES.items(), 2 if setting.quick else None):
        manifest = _pictures(setting, home / name, size, setting.count(count, 8))
        spec = stages.specify(
            setting.bundle(letter), manifest, home / f"out-{name}", gpu=True, precision="fp32", batch_frames=32
        )
        infer = infer or stages.open_model(spec, setting.provider)
        decoded = pa.concat_tables(stages.decoded_tables(spec, manifest)).combine_chunks()
        found[name] = {}
        most = device_model.CARD_MAX_PIXELS
        for form, pixels in FORMS.items():
            device_model.CARD_MAX_PIXELS = pixels
            list(infer(decoded))
            started, cpu = time.perf_counter(), time.process_time()
            inferred = list(infer(decoded))
            infer_ms, infer_cpu_ms = (1e3 * s for s in (time.perf_counter() - started, time.process_time() - cpu))
            cpu = time.process_time()
            for table in inferred:
                mask(table, spec.mask)
            mask_cpu_ms = 1e3 * (time.process_time() - cpu)
            frames, size_bytes = decoded.num_rows, sum(table.nbytes for table in inferred)
            found[name][form] = {
                "infer_ms": round(infer_ms / frames, 3),
                "infer_cpu_ms": round(infer_cpu_ms / frames, 3),
                "mask_cpu_ms": round(mask_cpu_ms / frames, 3),
                "bytes": round(size_bytes / frames),
            }
        device_model.CARD_MAX_PIXELS = most
    shutil.rmtree(home)
    return found


def _pictures(setting: Setting, folder: Path, size: tuple[int, int], count: int) -> Path:
    """Return a manifest of pictures of one size."""
    distinct = folder / "distinct"
    distinct.mkdir(parents=True)
    for path in sorted((setting.inputs / "distinct-512").iterdir())[:4]:
        cv2.imwrite(str(distinct / path.name), cv2.resize(cv2.imread(str(path)), size[::-1]))
    return write_list(linked(distinct, folder / "all", count), folder / "list.csv", count)
