"""Members of uncompressed tar archives, read in place by ranges: files, and what links lead to. Knows no manifest."""

import posixpath
import tarfile
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from fsf_core import storage
from fsf_core.errors import ManifestError

MAX_LINKS = 40
"""Most links on the way to one file, as on Linux."""

_COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))
"""First bytes of compressed files, and the program that unpacks them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file in an archive."""

    name: str
    uri: str

    @property
    def key(self) -> str:
        """The path up to the first dot of the name, which the files of one sample share (WebDataset)."""
        path = PurePosixPath(self.name)
        return str(path.with_name(path.name.split(".", 1)[0] or path.name))


def tar_members(uri: str, not_followed: Callable[[str], None] = lambda _: None) -> Iterator[Member]:
    """Yield the files of an uncompressed archive in order, and then those that its links lead to; reads headers only.

    Hidden files are left out, as in folders.

    Args:
        uri: the archive.
        not_followed: called with the name of a member that cannot be read in place: a link that leads out of the
            archive, nowhere, or back to a folder above it, and a sparse file.

    Raises:
        FetchError: it cannot be opened.
        ManifestError: it is compressed.
        OSError: it is not a tar archive, or is truncated.
    """
    with storage.open_binary(uri) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                links: list[tarfile.TarInfo] = []
                for entry in archive:
                    name = str(PurePosixPath(entry.name))
                    if entry.issym() or entry.islnk():
                        links.append(entry)
                    elif entry.issparse():
                        not_followed(name)
                    elif entry.isreg() and not is_hidden(name):
                        yield Member(name=name, uri=_uri(uri, entry, name))
                if links:
                    yield from _Links(uri, archive.getmembers(), links, not_followed).members()
        except tarfile.TarError as error:
            _refuse_compressed(uri)
            raise OSError(f"not an uncompressed tar archive, or a damaged one ({type(error).__name__})") from error


def is_hidden(name: str) -> bool:
    """Return whether a file, or a folder above it, has a name that begins with a dot."""
    return any(part.startswith(".") and part not in {".", ".."} for part in name.split("/"))


def _uri(archive: str, entry: tarfile.TarInfo, name: str) -> str:
    return storage.byte_range(archive, entry.offset_data, entry.size, name=name)


def _refuse_compressed(uri: str) -> None:
    with storage.open_binary(uri) as file:
        head = file.read(6)
    for magic, program in _COMPRESSED:
        if head.startswith(magic):
            raise ManifestError(
                f"{storage.redact(uri)} is not a readable .tar list: not an uncompressed tar archive, but one that is "
                f"compressed with {program}, and members are read in place; unpack it with {program} -d, and pass what "
                "that writes"
            )


class _Links:
    """Links of one archive: each leads to a file, or to a folder with everything below."""

    def __init__(
        self,
        uri: str,
        entries: Sequence[tarfile.TarInfo],
        links: Sequence[tarfile.TarInfo],
        not_followed: Callable[[str], None],
    ) -> None:
        self._uri, self._not_followed = uri, not_followed
        self._files = {_path(entry.name): entry for entry in entries if entry.isreg() and not entry.issparse()}
        self._targets: Mapping[str, str] = {_path(link.name): _target(link) for link in links}
        self._names = sorted([*self._files, *self._targets])

    def members(self) -> Iterator[Member]:
        """Yield what the links lead to, under the names of the links."""
        for name in self._targets:
            yield from self._follow(name, name, (posixpath.dirname(name),))

    def _follow(self, shown: str, link: str, above: tuple[str, ...]) -> Iterator[Member]:
        """Yield what one link leads to.

        Args:
            shown: its path, through the links that led to it.
            link: its path in the archive.
            above: the folders that hold it, through the links that led to it.
        """
        if is_hidden(shown):
            return
        target = self._resolve(link, MAX_LINKS)
        if target in self._files:
            yield Member(name=shown, uri=_uri(self._uri, self._files[target], shown))
            return
        inside = [] if target is None or any(_holds(target, folder) for folder in above) else self._below(target)
        if target is None or not inside:
            self._not_followed(shown)
            return
        start = len(target) + 1 if target else 0
        for name in inside:
            path = f"{shown}/{name[start:]}"
            if name in self._targets:
                yield from self._follow(path, name, (*above, target, posixpath.dirname(name)))
            elif not is_hidden(path):
                yield Member(name=path, uri=_uri(self._uri, self._files[name], path))

    def _resolve(self, path: str, links_left: int) -> str | None:
        """Return the path that a path leads to; None if it leaves the archive or takes too many links."""
        at = ""
        for part in path.split("/"):
            at = posixpath.normpath(posixpath.join(at, part))
            if at == ".." or at.startswith("../") or not links_left:
                return None
            at = "" if at == "." else at
            if at in self._targets:
                links_left -= 1
                resolved = self._resolve(self._targets[at], links_left)
                if resolved is None:
                    return None
                at = resolved
        return at

    def _below(self, folder: str) -> list[str]:
        """Return the files and links below a folder."""
        prefix = f"{folder}/" if folder else ""
        start = bisect_left(self._names, prefix)
        names = []
        for name in self._names[start:]:
            if not name.startswith(prefix):
                break
            names.append(name)
        return names


def _path(name: str) -> str:
    """Return the path of a member from the root of the archive."""
    return posixpath.normpath(name).lstrip("/")


def _target(link: tarfile.TarInfo) -> str:
    """Return where a link leads: a symbolic one counts from its folder, a hard one from the root of the archive."""
    if link.islnk():
        return _path(link.linkname)
    if link.linkname.startswith("/"):
        return ".."  # outside
    return posixpath.normpath(posixpath.join(posixpath.dirname(_path(link.name)), link.linkname))


def _holds(folder: str, other: str) -> bool:
    """Return whether a folder is another one, or above it."""
    return not folder or other == folder or other.startswith(f"{folder}/")
