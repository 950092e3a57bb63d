"""The mask stage compared with the loop of FastSegFormer's tools and with other PNG encoders, on one thread.

Run `python -m tests.bench.bench_masks`; it takes half a minute and needs the export extra (the tools use torch for the
softmax). Competitors take turns, so that other load on the machine affects all alike. The last line is JSON.
"""

import io
import json
import resource
import time
import zlib
from functools import partial

import cv2
import numpy as np
import torch
from isal import isal_zlib
from PIL import Image

from fsf_core import masks
from fsf_core.masks import kernels, make_mask
from fsf_core.masks.kernels import deflate

GRID = 224
SIZES = {"512x512": (512, 512), "4000x3000": (3000, 4000)}
LOOPS = {
    "grid_winners": kernels,
    "draw": kernels,
    "_filter_rows": deflate,
    "_scan": deflate,
    "_code_lengths": deflate,
    "_emit": deflate,
}
"""The compiled loops between logits and PNG, in order, and where they are looked up."""


def fields():
    """Make scores of 4 classes: large smooth regions, and specks as from an untrained network."""
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((4, 10, 10)).astype(np.float32) * 4
    smooth = np.stack([cv2.resize(plane, (GRID, GRID), interpolation=cv2.INTER_CUBIC) for plane in coarse])
    smooth[0] += 4
    noise = rng.standard_normal((4, GRID, GRID)).astype(np.float32)
    speckled = np.stack([cv2.GaussianBlur(plane, (0, 0), 2) for plane in noise]) * 30
    return {"smooth": smooth, "speckled": speckled}


def border_share(scores_KHW):
    winner = scores_KHW.argmax(0)
    corners = np.stack([winner[:-1, :-1], winner[1:, :-1], winner[:-1, 1:], winner[1:, 1:]])
    return float((corners != corners[0]).any(0).mean())


def by_the_tools(scores_KHW, height, width):
    probabilities = torch.nn.functional.softmax(torch.from_numpy(scores_KHW).permute(1, 2, 0), dim=-1).numpy()
    resized = cv2.resize(probabilities, (width, height), interpolation=cv2.INTER_LINEAR)
    class_map = resized.argmax(axis=-1)
    counts = np.zeros(len(scores_KHW))
    for k in range(len(scores_KHW)):
        counts[k] = np.sum(class_map == k)
    return class_map, counts


def by_fsf(scores_KHW, height, width):
    return make_mask(scores_KHW, height_px=height, width_px=width, logits=True)


def medians_ms(competitors, rounds):
    """Return the median CPU time of each competitor; a round runs every competitor once."""
    times = {name: [] for name in competitors}
    for _ in range(rounds + 1):
        for name, competitor in competitors.items():
            start = time.process_time()
            competitor()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: float(np.median(taken[1:])) for name, taken in times.items()}  # the first round warms up


def bench_masks(name, scores_KHW, size):
    height, width = SIZES[size]
    theirs, _ = by_the_tools(scores_KHW, height, width)
    ours = by_fsf(scores_KHW, height, width)
    taken = medians_ms(
        {
            "tools": lambda: by_the_tools(scores_KHW, height, width),
            "softmax": lambda: masks.softmax(scores_KHW),
            "fsf": lambda: by_fsf(scores_KHW, height, width),
        },
        rounds=41 if height == 512 else 11,
    )
    return {
        "field": name,
        "border_share": round(border_share(scores_KHW), 3),
        "size": size,
        "tools_ms": round(taken["tools"], 2),
        "here_ms": round(taken["fsf"], 2),
        "of_it_softmax_ms": round(taken["softmax"], 2),
        "speedup": round(taken["tools"] / taken["fsf"], 1),
        "pixels_that_differ": int((theirs != ours.class_map_HW).sum()),
    }


def packed_rows(class_map_HW, bits):
    """Return the filtered rows, the input of every compressor."""
    return zlib.decompress(kernels.compress_rows(class_map_HW, bits))


def zlib_runs(rows):
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 8, zlib.Z_RLE)
    return packer.compress(rows) + packer.flush()


def by_pillow(class_map_HW, palette_K3):
    image = Image.frombytes("P", class_map_HW.shape[::-1], class_map_HW.tobytes())
    image.putpalette(palette_K3.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def bench_png(name, scores_KHW, size):
    palette = masks.voc_palette(len(scores_KHW))
    class_map = by_fsf(scores_KHW, *SIZES[size]).class_map_HW
    two_bits = packed_rows(class_map, 2)
    competitors = {
        "fsf": partial(masks.encode_png, class_map, palette),
        "Pillow P level 1": partial(by_pillow, class_map, palette),
        "cv2 default, grey": lambda: cv2.imencode(".png", class_map)[1],
        # Of these only the stream is timed, not packing and filtering.
        "isal 1, only deflate": lambda: isal_zlib.compress(two_bits, 1),
        "zlib 6, only deflate": lambda: zlib.compress(two_bits, 6),
        "zlib Z_RLE, only deflate": partial(zlib_runs, two_bits),
    }
    taken = medians_ms(competitors, rounds=15 if size == "512x512" else 5)
    rows = []
    for encoder, encode in competitors.items():
        row = {"field": name, "size": size, "encoder": encoder, "ms": round(taken[encoder], 2), "bytes": len(encode())}
        rows.append(row)
    return rows


def bench_steps(name, scores_KHW, size):
    """Return what each compiled loop of the mask stage takes, and the whole stage: milliseconds of CPU, by median."""
    height, width = SIZES[size]
    palette = masks.voc_palette(len(scores_KHW))
    spent = {loop: [] for loop in LOOPS} | {"all": []}
    loops = {loop: getattr(module, loop) for loop, module in LOOPS.items()}

    def timed(name, loop):
        def call(*given):
            before = time.process_time()
            result = loop(*given)
            spent[name].append(1e3 * (time.process_time() - before))
            return result

        return call

    def stage():
        masks.encode_png(make_mask(scores_KHW, height_px=height, width_px=width, logits=True).class_map_HW, palette)

    try:
        for loop, module in LOOPS.items():
            setattr(module, loop, timed(loop, loops[loop]))
        for _ in range(41 if height == 512 else 11):
            timed("all", stage)()
    finally:
        for loop, module in LOOPS.items():
            setattr(module, loop, loops[loop])
    medians = {loop.strip("_"): round(float(np.median(taken[1:])), 3) for loop, taken in spent.items()}
    return {"field": name, "size": size, **medians}


def bench_large():
    rng = np.random.default_rng(0)
    smooth = fields()["smooth"]
    many = np.stack([cv2.resize(c, (128, 128)) for c in rng.standard_normal((150, 8, 8)).astype(np.float32)]) * 4
    thousand = thousand_classes()
    found = medians_ms(
        {
            "4 classes, 10000x10000": lambda: by_fsf(smooth, 10000, 10000),
            "150 classes, 512x512": lambda: by_fsf(many, 512, 512),
            "150 classes, 512x512, cv2.resize of planes and argmax": lambda: np.stack(
                [cv2.resize(plane, (512, 512)) for plane in masks.softmax(many)]
            ).argmax(0),
            "1000 classes, 4000x3000": lambda: by_fsf(thousand, 3000, 4000),
        },
        rounds=3,
    )
    return {name: round(ms, 1) for name, ms in found.items()}


def thousand_classes():
    rng = np.random.default_rng(0)
    return np.stack([cv2.resize(c, (GRID, GRID)) for c in rng.standard_normal((1000, 14, 14)).astype(np.float32)]) * 6


def bench_largest():
    """Time 1,000 classes at 100 megapixels, whose resized planes would take 400 GB; runs first, for the peak memory."""
    scores = thousand_classes()
    before_mb = peak_mb()
    start = time.perf_counter()
    class_map = by_fsf(scores, 10000, 10000).class_map_HW
    seconds = time.perf_counter() - start
    return {"s": round(seconds, 2), "mb": round(peak_mb() - before_mb), "of_it_class_map_mb": class_map.nbytes >> 20}


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    masks.compile_kernels()
    largest = bench_largest()
    mask_rows = [bench_masks(name, scores, size) for name, scores in fields().items() for size in SIZES]
    png_rows = [row for name, scores in fields().items() for size in SIZES for row in bench_png(name, scores, size)]
    step_rows = [bench_steps(name, scores, size) for name, scores in fields().items() for size in SIZES]
    large = bench_large()
    for rows in (mask_rows, step_rows, png_rows):
        print(" | ".join(rows[0]))
        for row in rows:
            print(" | ".join(str(value) for value in row.values()))
        print()
    for name, ms in large.items():
        print(f"{name}: {ms} ms")
    print(f"1000 classes, 10000x10000, softmax to statistics: {largest['s']} s and {largest['mb']} MB")
    print(json.dumps({"masks": mask_rows, "steps": step_rows, "png": png_rows, "large_ms": large, "largest": largest}))


if __name__ == "__main__":
    main()
