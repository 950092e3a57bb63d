"""Items of a run whose frames are the pages of a TIFF: rows of masks without a time, of which there are several."""

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core.runs.folder import read_fingerprint
from fsf_core.runs.ledger import open_ledger


def paged_items(run_uri: str) -> frozenset[str]:
    """Return the items of several frames in a run whose pages were all scored; of others none.

    Videos are among them: their rows have times. An item that failed at its second page counts too.

    Raises:
        OutputError: there is no run, or a part is lost.
    """
    if read_fingerprint(run_uri).get("pages", "first") == "first":
        return frozenset()
    found = set[str]()
    for receipt in open_ledger(run_uri).receipts():
        units: pa.Table = receipt.units
        scored = pc.greater(units.column("frames"), 0)
        several = pc.or_(pc.greater(units.column("segments"), 1), pc.greater(units.column("last_frame"), 0))
        chosen = units.filter(pc.and_(scored, pc.or_(several, units.column("failed"))))
        found.update(chosen.column("item_id").to_pylist())
    return frozenset(found)
