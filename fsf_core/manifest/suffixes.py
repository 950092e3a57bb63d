"""What the suffix of a file's name suggests. A hint for planning; the content decides."""

import re
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core import storage

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff",
    ".gif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jpm", ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".avif",
    ".avifs", ".heic", ".heif", ".hif", ".jxl",
))
VIDEO_SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3gpp", ".3g2", ".f4v", ".mkv", ".mk3d", ".webm", ".avi", ".divx", ".ts",
    ".m2t", ".mts", ".m2ts", ".tp", ".trp", ".mpg", ".mpeg", ".mpe", ".m2p", ".vob", ".m1v", ".m2v", ".mpv", ".wmv",
    ".asf", ".flv", ".ogv", ".ogm", ".mxf", ".gxf", ".wtv", ".dv", ".ivf", ".y4m", ".nut", ".h264", ".264", ".avc",
    ".h265", ".265", ".hevc",
))
# fmt: on
COMPRESSED = re.compile(r"(?i)\.(tar\.(gz|bz2|xz|zst|lz4|z|br)|tgz|tbz2?|txz|tzst|gz|zip|7z|rar)$")
"""Archives whose members cannot be read in place."""
TABLE_SUFFIXES = frozenset((".parquet", ".pq"))
"""Tables that may share a folder."""


def kind_by_name(uri: str) -> str | None:
    """Return image or video where the name suggests it, otherwise None."""
    suffix = suffix_of(uri)
    return "image" if suffix in IMAGE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else None


def videos_by_name(uris: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Return for each address whether kind_by_name calls it a video; long lists of images take little time."""
    suffixes = "|".join(suffix[1:] for suffix in VIDEO_SUFFIXES)
    possible = pc.match_substring_regex(uris, rf"\.({suffixes})", ignore_case=True).to_numpy()
    found = np.zeros(len(uris), bool)
    for row in np.flatnonzero(possible):
        found[row] = kind_by_name(uris[row].as_py()) == "video"
    return found


def suffix_of(uri: str) -> str:
    """Return the suffix of a file's name in lower case, without the query of a web address."""
    return PurePosixPath(storage.without_query(uri)).suffix.lower()
