"""The summary of a run: its counts, what its masks and labels say, what it was made of. Knows no Ray.

jobs/README.md describes the keys of summary.json; they are names on disk and never change.
"""

import contextlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from fsf_core import __version__, runs, storage
from fsf_core.errors import OutputError, ResumableError
from fsf_core.keys import Keys
from fsf_core.manifest import Manifest
from fsf_core.model.bundle import Bundle

DISTRIBUTIONS = {"ray": ("ray",), "onnxruntime": ("onnxruntime-gpu", "onnxruntime")}
"""Libraries whose versions are recorded, and the distributions that bring each."""


def count(
    ledger: runs.Ledger, manifest: Manifest, keys: Iterable[Keys], names: Sequence[str], tables: Iterable[str]
) -> dict[str, Any]:
    """Return what the tables of a reconciled run hold.

    Args:
        ledger: of the run.
        manifest: its items.
        keys: keys of these, batch by batch.
        names: of the classes.
        tables: names of the tables that the run has.

    Raises:
        ResumableError: an item of the manifest has no result and no failure; the run is not published.
    """
    totals = runs.count_totals(ledger, keys)
    if totals.missing_items:
        raise ResumableError(
            f"{totals.missing_items} of {manifest.items} items have neither a result nor a failure; start the same "
            "command again, and report this if it stays"
        )
    pixels = np.zeros(len(names), np.int64)
    pixels[: len(totals.pixels)] = totals.pixels
    reasons = runs.failure_reasons(ledger)
    kinds = dict.fromkeys(reason["error_type"] for reason in reasons)
    return {
        "items": {
            "total": manifest.items,
            "scored": manifest.items - totals.failed_items,
            "failed": totals.failed_items,
            "not_in_manifest": totals.foreign_items,
        },
        "files_left_out": manifest.left_out,
        "left_out": [{"reason": one.reason, "count": one.count, "first": [*one.first]} for one in manifest.omissions],
        "frames": totals.frames,
        "failures": {
            kind: sum(reason["units"] for reason in reasons if reason["error_type"] == kind) for kind in kinds
        },
        "failure_reasons": reasons,
        "classes": [
            {"id": k, "name": name, "pixels": int(pixels[k]), "ratio": float(pixels[k] / max(1, pixels.sum()))}
            for k, name in enumerate(names)
        ],
        "figures": dict(totals.statistics),
        "regions": _regions(ledger, names) if "regions" in tables else None,
        "lineage": {"manifest_items_sha256": totals.items_sha256},
    }


def _regions(ledger: runs.Ledger, names: Sequence[str]) -> dict[str, Any]:
    """Return the regions of the table regions, by class."""
    counts, pixels, largest = (np.zeros(len(names), np.int64) for _ in range(3))
    for batch in runs.read_ledger(ledger).iter_batches("regions", columns=["class_id", "pixels"], batch_rows=1 << 16):
        ids, sizes = (batch.column(name).to_numpy() for name in ("class_id", "pixels"))
        np.add.at(counts, ids, 1)
        np.add.at(pixels, ids, sizes)
        np.maximum.at(largest, ids, sizes)
    return {
        "count": int(counts.sum()),
        "classes": [
            {
                "id": k,
                "name": name,
                "count": int(counts[k]) if k else None,  # class 0 has no regions
                "pixels": int(pixels[k]) if k else None,
                "largest_px": int(largest[k]) if k else None,
            }
            for k, name in enumerate(names)
        ],
    }


def lineage(
    *,
    bundle: Bundle,
    home: str,
    manifest: Manifest,
    precision: str,
    provider: str | None,
    gpus: Sequence[Mapping[str, Any]],
    night: str,
) -> dict[str, Any]:
    """Return what a run was made of.

    Args:
        bundle: the model.
        home: folder where it stays.
        manifest: the items.
        precision: of the model that ran.
        provider: that ran it in the latest start that scored something; None if none is known.
        gpus: on which it ran then, with drivers, libraries and batches; none on CPUs.
        night: path of the run below its series; empty for none.
    """
    return {
        "bundle": storage.redact(home),
        "bundle_sha256": bundle.sha256,
        "checkpoint_sha256": bundle.origin.weights_sha256,
        "net": bundle.origin.network,
        "precision": precision,
        "provider": provider,
        "gpus": [*gpus],
        "manifest": storage.redact(manifest.uri),
        "night": night or None,
        "versions": {"fsf": __version__, "python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str | None]:
    return {name: _version(distributions) for name, distributions in DISTRIBUTIONS.items()}


def _version(distributions: Sequence[str]) -> str | None:
    """Return the version of the first distribution that is installed."""
    for distribution in distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    return None


def earlier_summary(out: str) -> Mapping[str, Any]:
    """Return the summary that a run was published with before; nothing if it was not."""
    with contextlib.suppress(OutputError):
        return runs.read_summary(out)
    return {}
