"""Why a local file is missing, where its address shows the cause: what to do instead of `correct the address`."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from fsf_core.storage.uris import local_path

_DRIVE = re.compile(r"(?:^|/)(?:[A-Za-z]:[\\/]|\\\\)")


def hint_for_missing(uri: str) -> str:
    """Return what to do about a local file that does not exist, or "" where its address shows no cause."""
    path = str(local_path(uri))
    if _DRIVE.search(path):
        return "it is a path of Windows: write it as this machine names the file, with / between folders"
    for other, difference in _variants(path):
        if other != path and Path(other).exists():
            return f"there is a file whose name differs {difference}: list it as the disk has it"
    if "\\" in path:
        return "it has backslashes, which are part of a name here: write / between folders"
    if Path(path).name.startswith("#"):
        return "its name begins with #: lists have no comments, every line is a path"
    return ""


def _variants(path: str) -> Iterator[tuple[str, str]]:
    folder, _, name = path.rpartition("/")
    for form in ("NFC", "NFD"):
        difference = f"in its Unicode form (it is in {form} there)"
        yield unicodedata.normalize(form, path), difference
        yield f"{folder}/{unicodedata.normalize(form, name)}", difference
    yield path.replace("\\", "/"), "in / for \\"
    yield re.sub(r"[ \t]*(/|$)[ \t]*", r"\1", path), "in blanks at its ends"
    yield unquote(path), "in %-signs, which are part of a name in a plain path"
