"""The end of a run: the list of its files, its totals, the completion mark."""

from collections.abc import Mapping, Sequence
from typing import Any

from fsf_core import storage
from fsf_core.runs.folder import LAYOUT_VERSION, unpublish, write_document
from fsf_core.runs.reading import receipts


def publish(run_uri: str, summary: Mapping[str, Any], *, others: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write the list of committed files and the totals, then the completion mark.

    Args:
        run_uri: the run folder.
        summary: the totals.
        others: entries of files that were derived from the committed ones.
    """
    unpublish(run_uri)
    committed = [
        {"part": receipt.part, "table": table, **file}
        for receipt in receipts(run_uri)
        for table, file in receipt.files.items()
    ]
    write_document(storage.join(run_uri, "manifest.json"), {"layout": LAYOUT_VERSION, "files": [*committed, *others]})
    write_document(storage.join(run_uri, "summary.json"), summary)
    storage.write_bytes(storage.join(run_uri, "_SUCCESS"), b"", durable=True)
