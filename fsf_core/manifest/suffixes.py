"""What the suffix of a file's name suggests. A hint for planning; the content decides."""

from pathlib import PurePosixPath

from fsf_core import storage

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".jp2", ".ppm", ".pgm",
    ".pbm", ".pnm", ".avif", ".heic", ".heif", ".jxl",
))
VIDEO_SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp",
    ".ogv",
))
# fmt: on
TABLE_SUFFIXES = frozenset((".parquet", ".pq"))
"""Tables that may share a folder."""


def kind_by_name(uri: str) -> str | None:
    """Return image or video where the name suggests it, otherwise None."""
    suffix = suffix_of(uri)
    return "image" if suffix in IMAGE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else None


def suffix_of(uri: str) -> str:
    """Return the suffix of a file's name in lower case, without the query of a web address."""
    return PurePosixPath(storage.without_query(uri)).suffix.lower()
