"""The list of what is to be scored: read from a table, a text file, a folder or a glob, and checked.

Knows item ids, URIs and kinds. Opens no picture.
"""

from fsf_core.manifest.json_table import JSON_BYTES
from fsf_core.manifest.open import Manifest, open_manifest, unredacted_uris
from fsf_core.manifest.partitions import Part
from fsf_core.manifest.rows import BATCH_ROWS, KINDS, ROWS, Each, Read, Reader
from fsf_core.manifest.selection import EVERYTHING, Selection
from fsf_core.manifest.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES, kind_by_name

__all__ = [
    "BATCH_ROWS",
    "EVERYTHING",
    "IMAGE_SUFFIXES",
    "JSON_BYTES",
    "KINDS",
    "ROWS",
    "VIDEO_SUFFIXES",
    "Each",
    "Manifest",
    "Part",
    "Read",
    "Reader",
    "Selection",
    "kind_by_name",
    "open_manifest",
    "unredacted_uris",
]
