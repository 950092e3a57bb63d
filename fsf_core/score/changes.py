"""The list and the run it belongs to, compared: rows that have changed, and a list recorded by its relative path."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from fsf_core import runs, storage
from fsf_core.errors import OutputError
from fsf_core.keys import DIGEST_BYTES, RowKeys, item_keys, row_keys
from fsf_core.manifest import Manifest, column_types, list_address


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


def require_same_values(fingerprint: dict[str, Any], manifest: Manifest, out: str) -> None:
    """Check that a run of an earlier version read the values of its list as they are read now.

    It inferred types of the columns of CSV and JSON, which are text now, and took empty columns of CSV for nulls.

    Raises:
        OutputError: it read other values; new rows would be mixed with them, or every item scored again.
    """
    if manifest.texts is None or not storage.exists(storage.join(out, "run.json")):
        return
    recorded, now = runs.read_fingerprint(out).get("columns", {}), fingerprint["columns"]
    if recorded.keys() != now.keys():
        return  # another list, which `require_same` refuses
    others = {name: kind for name, kind in recorded.items() if now[name] != kind}
    if not others and not _has_nulls(manifest, out):
        return
    found = f"reads {', '.join(f'{name} as {kind}' for name, kind in others.items())}" if others else "has nulls"
    option = column_types.option_of(others) if others else None
    do = f"pass --column-types {option} to resume it, or " if option else ""
    raise OutputError(
        f"{storage.redact(out)} is a run of an earlier version, or of other --column-types, which {found} where the "
        f"list is now read as text; {do}give a new --out, with --reuse {storage.redact(out)} to copy the masks"
    )


def _has_nulls(manifest: Manifest, out: str) -> bool:
    """Return whether a run holds nulls in columns of CSV, whose text is never null; one part tells."""
    assert manifest.texts
    names = [name for name in manifest.extra.names if name in manifest.texts.names]
    if not names or not manifest.texts.empty_is_null:
        return False
    for receipt in runs.load_ledger(out).receipts():
        if "masks" in receipt.files:
            masks = runs.read_part(out, receipt, "masks", names)
            return any(masks.column(name).null_count for name in names)
    return False


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
