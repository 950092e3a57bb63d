"""Lists written to a temporary folder and opened, shared by the tests of every format."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fsf_core.errors import ManifestError
from fsf_core.manifest import Manifest, Selection, column_types, open_manifest


@pytest.fixture
def open_list(tmp_path: Path) -> Callable[..., Manifest]:
    """Return a function that writes a list under a name and opens it."""

    def write(name: str, content: str | bytes, where: str | None = None, types: tuple[str, ...] = ()) -> Manifest:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return open_manifest(str(path), Selection(where=where), column_types=column_types.parse(types))

    return write


@pytest.fixture
def message_of(open_list: Callable[..., Manifest]) -> Callable[..., str]:
    """Return a function that writes a list that is refused, and returns the message: what was found, and what to do."""

    def write(*args: object, **options: object) -> str:
        with pytest.raises(ManifestError) as caught:
            open_list(*args, **options)
        assert re.search(r".+, expected .+; .+|.+; .+", str(caught.value)), str(caught.value)
        return str(caught.value)

    return write


@pytest.fixture
def rows_of() -> Callable[[Manifest], list[dict]]:
    """Return a function that returns the rows of a list: id, uri as absolute address, kind and the further columns."""

    def rows(manifest: Manifest) -> list[dict]:
        found = [row for batch in manifest.batches() for row in batch.to_pylist()]
        return [{"id": row["item_id"], "uri": row["uri"], **(row.get("extra") or {})} for row in found]

    return rows
