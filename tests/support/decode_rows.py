"""The rows of a manifest as the job hands them to the decode stage."""

from collections.abc import Sequence

import pyarrow as pa

from fsf_core.manifest import Manifest


def decode_rows(manifest: Manifest, *, done_segments: Sequence[int] | None = None) -> pa.Table:
    """Return all rows of a manifest.

    Args:
        manifest: its items become the rows.
        done_segments: segments of every item that are committed.
    """
    rows = pa.concat_tables(manifest.batches())
    count = len(rows)
    rows = rows.append_column("row_digest", manifest.digests(rows))
    rows = rows.append_column("attempt", pa.array([1] * count, pa.int32()))
    return rows.append_column("done_segments", pa.array([done_segments] * count, pa.list_(pa.int32())))
