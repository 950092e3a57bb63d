"""The results of the GPU bench as a table of Markdown; what failed or was left out is named."""

from typing import Any

from tests.bench.gpu.setting import PRECISIONS, TITLES

BATCHES = (1, 8, 32, 64, 128, 256)

PEERS = {
    "seed_ort": "authors' loop, ONNX Runtime on the card",
    "seed_torch": "authors' loop, PyTorch on the card",
    "ray_docs": "Ray Data as documented, one GPU actor",
    "dataloader": "PyTorch batches on the card, DataLoader",
}

OTHERS = {
    "lasting-p-fp32": "P, 512×512, fp32, nothing decoded before the model was loaded",
    "12mp": "P, 4000×3000 JPEGs, fp32",
    "video": "E, 1080p video, fp32",
    "two-actors": "P, 512×512, fp32, two actors on the card",
}


def render(found: dict[str, Any]) -> str:
    """Return the tables of whatever was measured."""
    results = found["results"]
    parts = [
        _machine(results, found.get("commits", {})),
        _parity(results),
        _bare(results),
        _jobs(results),
        _peers(results),
        _forms(results),
        _kill(results),
    ]
    for kind, title in (("failed", "Failed"), ("left_out", "Left out for want of time")):
        if found[kind]:
            parts.append(f"{title}: {', '.join(found[kind])}.")
    return "\n\n".join(part for part in parts if part)


def _machine(results: dict[str, Any], commits: dict[str, str]) -> str:
    facts = results.get("environment")
    if not facts:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    later = "".join(f", {step} of {commit}" for step, commit in commits.items() if commit != facts["commit"])
    return (
        f"{facts['card'] or 'No card'}, driver {facts['driver'] or 'none'}, {facts['cores']} cores of {facts['cpu']}, "
        f"commit {facts['commit']}{later}; {versions}."
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]]) if rows else ""


def _parity(results: dict[str, Any]) -> str:
    """Return the table of class maps on the card against those of the CPU."""
    rows = []
    for letter, title in TITLES.items():
        step = results.get(f"parity-{letter}", {})
        for precision in (name for name in PRECISIONS if name in step):
            one = step[precision]
            off = ", ".join(one["columns_off"]) or "none"
            rows.append(
                [f"{title}, {precision}", f"{one['frames']}", f"{100 * one['equal_share']:.5f} %",
                 f"{one.get('differing', 0):,}", f"{one.get('not_near_ties', 0):,}", f"{one.get('mean_iou', 0):.4f}",
                 f"{one['columns']}", off]
            )  # fmt: skip
    header = ["against the CPU's plain path in fp32", "pictures", "pixels equal", "pixels that differ",
              "of these no near-ties", "mean IoU", "columns compared", "columns that differ"]  # fmt: skip
    return _table(header, rows)


def _bare(results: dict[str, Any]) -> str:
    """Return the table of the bare session by batch."""
    rows = []
    for letter, title in TITLES.items():
        step = results.get(f"bare-{letter}", {})
        for precision in (name for name in PRECISIONS if step.get(name)):
            rates = step[precision]
            for kind in ("device", "graph", "host"):
                cells = [rates.get(f"{batch} {kind}") for batch in BATCHES]
                if any(cell is not None for cell in cells):
                    rows.append([f"{title}, {precision}, {_KINDS[kind]}", *map(_rate, cells)])
    return _table(["bare session, frames/s at a batch of", *map(str, BATCHES)], rows)


_KINDS = {"device": "buffers on the card", "graph": "CUDA graph", "host": "arrays of the host"}


def _rate(value: Any) -> str:
    if isinstance(value, str):
        return "failed"
    return "" if value is None else f"{value:,.0f}"


def _jobs(results: dict[str, Any]) -> str:
    """Return the table of the job: rates, shares, costs."""
    named = {
        f"job-{letter}-{precision}": (f"{title}, 512×512, {precision}", letter, precision)
        for letter, title in TITLES.items()
        for precision in PRECISIONS
    } | {name: (title, title[0].lower(), "fp32") for name, title in OTHERS.items()}
    rows = []
    for name, (title, letter, precision) in named.items():
        one = results.get(name)
        if not one:
            continue
        bare, rate = best_bare(results, letter, precision), lasting_rate(results, one)
        limit = cores_limit(results, letter, "12mp" if name == "12mp" else "512") if name != "video" else None
        stages = " + ".join(f"{one['cpu_ms_by_stage'][stage]:.2f}" for stage in ("decode", "infer", "mask", "write"))
        rows.append(
            [title, _rate(_measured_rate(one)), _rate(cores_sustain(results, one)), _share(rate, bare),
             _share(rate, limit), stages, f"{one['cores_busy']:.1f}", _percent(one["card"]["busy_share"]),
             _rate(one["card_whole"]["peak_memory_mb"]), f"{one['first_commit_s']:.0f}"]
        )  # fmt: skip
    header = ["the job", "frames/s", "the cores sustain", "the less of the bare session",
              "of what the cores could give", "CPU ms a frame: decode + infer + mask + write", "cores busy",
              "card busy", "card's memory, MB", "s to the first part"]  # fmt: skip
    return _table(header, rows)


def best_bare(results: dict[str, Any], letter: str, precision: str) -> float | None:
    """Return the best rate of the bare session with the same network; the demo's is E."""
    step = results.get(f"bare-{'e' if letter == 'demo' else letter}", {})
    rate: float | None = step.get("best", {}).get(precision, {}).get("frames_per_s")
    return rate


def lasting_rate(results: dict[str, Any], one: dict[str, Any]) -> float:
    """Return the less of the frames/s of a job and those that the cores sustain.

    A short job is faster than what lasts: while the model is loaded, pictures are decoded ahead.
    """
    sustained = cores_sustain(results, one)
    return _measured_rate(one) if sustained is None else min(_measured_rate(one), sustained)


def _measured_rate(one: dict[str, Any]) -> float:
    """Return the frames/s of a job; of one that decodes nothing ahead, those while it decoded."""
    return float(one.get("frames_per_s_lasting", one["frames_per_s"]))


def cores_sustain(results: dict[str, Any], one: dict[str, Any]) -> float | None:
    """Return the frames/s that all cores sustain at the CPU time that a job took for a frame, if they are known."""
    cores = results.get("environment", {}).get("cores")
    return 1e3 * float(cores) / frame_cpu_ms(one) if cores else None


def frame_cpu_ms(one: dict[str, Any]) -> float:
    """Return the CPU milliseconds per frame of a job: of its stages, the driver, and the raylet and GCS if measured."""
    return float(sum(one["cpu_ms_by_stage"].values()) + one["driver_cpu_ms"] + one.get("ray_cpu_ms", 0.0))


def cores_limit(results: dict[str, Any], letter: str, size: str) -> float | None:
    """Return the frames/s of all cores if they did nothing but decode, mask and write."""
    costs = results.get("cores", {}).get("demo" if letter == "demo" else "p", {})
    rate: float | None = costs.get(size, {}).get("frames_per_s_of_cores")
    return rate


def _share(rate: float, whole: float | None) -> str:
    return f"{rate / whole:.2f}" if whole else ""


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _peers(results: dict[str, Any]) -> str:
    """Return the table of the programs that a user might run instead."""
    one = results.get("lasting-p-fp32") or results.get("job-p-fp32")
    job = lasting_rate(results, one) if one else None
    rows = []
    for name, title in PEERS.items():
        found = results.get(f"peer-{name}", {})
        if rate := found.get("steady"):
            rows.append([title, f"{rate:,.1f}", f"{job / rate:.1f}" if job else ""])
        elif found:
            rows.append([title, f"{found['missing']} is missing", ""])
    return _table(["P, 512×512, fp32", "frames/s", "the job is faster by"], rows)


def _forms(results: dict[str, Any]) -> str:
    """Return the table of class maps made on the card and on CPUs."""
    names = {"card": "class maps from the card", "cpu": "scores back, masks on CPUs"}
    rows = [
        [f"{size}, {names[form]}", *(f"{one[key]:.2f}" for key in ("infer_ms", "infer_cpu_ms", "mask_cpu_ms")),
         f"{one['bytes']:,}"]
        for size, forms in results.get("forms", {}).items()
        for form, one in forms.items()
    ]  # fmt: skip
    return _table(["ms a frame", "infer", "CPU of infer", "CPU of mask", "bytes between them"], rows)


def _kill(results: dict[str, Any]) -> str:
    one = results.get("killed")
    if not one:
        return ""
    return (
        f"The process of the model was killed in the middle of {one['frames']:,} pictures (exit codes "
        f"{one['exit_codes']}): {one['masks_rows_that_differ']} rows of masks and "
        f"{one['class_stats_rows_that_differ']} of class_stats differ from those of an undisturbed run, "
        f"{one['pixels_that_differ']} pixels."
    )
