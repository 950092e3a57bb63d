"""The end of a run: the list of its files, its totals, the mark of completion."""

from collections.abc import Mapping, Sequence
from typing import Any

from fsf_core import storage
from fsf_core.runs.folder import LAYOUT_VERSION, unpublish, write_json
from fsf_core.runs.reading import receipts


def publish(
    run_uri: str, summary: Mapping[str, Any], *, success: bool, others: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write the list of committed files and the totals, then the mark of completion.

    Args:
        run_uri: the run folder.
        summary: the totals.
        success: whether the run is complete.
        others: files that were made of the committed ones, as the list names them.
    """
    unpublish(run_uri)
    listed = [{"part": r.part, "table": table, **facts} for r in receipts(run_uri) for table, facts in r.files.items()]
    write_json(storage.join(run_uri, "manifest.json"), {"layout": LAYOUT_VERSION, "files": [*listed, *others]})
    write_json(storage.join(run_uri, "summary.json"), summary)
    if success:
        storage.write_bytes(storage.join(run_uri, "_SUCCESS"), b"", durable=True)
