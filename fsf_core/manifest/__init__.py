"""The list of items to score: read from a table, a text file, a folder or a glob, and checked.

Knows item ids, URIs and kinds. Opens no image.
"""

from fsf_core.manifest import column_types
from fsf_core.manifest.chosen import read_chosen
from fsf_core.manifest.left_out import LeftOut
from fsf_core.manifest.open import Manifest, list_address, open_manifest, unredacted_uris
from fsf_core.manifest.rows import LABEL_COLUMN
from fsf_core.manifest.selection import Selection
from fsf_core.manifest.suffixes import kind_by_name, videos_by_name

__all__ = [
    "LABEL_COLUMN",
    "LeftOut",
    "Manifest",
    "Selection",
    "column_types",
    "kind_by_name",
    "list_address",
    "open_manifest",
    "read_chosen",
    "unredacted_uris",
    "videos_by_name",
]
