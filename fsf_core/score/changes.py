"""The list and the run it belongs to, compared: rows that have changed, and a list recorded by its relative path."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from fsf_core import runs, storage
from fsf_core.keys import DIGEST_BYTES, RowKeys, item_keys, row_keys
from fsf_core.manifest import Manifest, list_address


def row_keys_of(manifest: Manifest) -> Iterator[RowKeys]:
    """Yield the row keys of the items of a manifest, batch by batch."""
    for batch in manifest.batches():
        yield _row_keys(manifest, batch)


def as_recorded(fingerprint: dict[str, Any], manifest: Manifest, out: str) -> dict[str, Any]:
    """Return a fingerprint in the form in which the run recorded it, if both are of one list.

    Older versions recorded the address of the list as it was written. A relative one is taken for the same only if the
    items that were scored have the same addresses in this list.
    """
    written = runs.read_fingerprint(out).get("manifest") if storage.exists(storage.join(out, "run.json")) else None
    if written in {None, fingerprint["manifest"]} or list_address(written) != fingerprint["manifest"]:
        return fingerprint
    if written != storage.absolute(written) and not _has_same_addresses(manifest, out):
        return fingerprint
    return fingerprint | {"manifest": written}


def _has_same_addresses(manifest: Manifest, out: str) -> bool:
    """Return whether every scored item that the manifest lists was read from the address that it lists."""
    ledger = runs.load_ledger(out)
    scored = [np.empty(0, "S24")]
    for receipt in ledger.receipts():
        masks = runs.read_part(out, receipt, "masks", ["item_id", "uri"]) if "masks" in receipt.files else None
        if masks is not None:
            scored.append(np.unique(_row_keys(manifest, masks)))
    committed = runs.Completed(rows=np.unique(np.concatenate(scored)), segments={}, begun_rows=scored[0], lost={})
    addresses = (_row_keys(manifest, batch.select(["item_id", "uri"])) for batch in manifest.batches())
    return not len(runs.find_changes(committed, addresses if len(committed.rows) else ()).superseded)


def _row_keys(manifest: Manifest, rows: pa.Table) -> RowKeys:
    digests = np.asarray(manifest.digests(rows).to_pylist(), f"S{DIGEST_BYTES}")
    return row_keys(item_keys(rows.column("item_id").to_pylist()), digests)
