"""Results below a folder that is listed are no items: runs, and what the job itself writes. Opens run.json only."""

import json
from collections.abc import Collection, Iterator, Sequence
from functools import partial

from fsf_core import storage
from fsf_core.errors import ItemError

RUN_DOCUMENT = "run.json"

RUN_ENTRIES = frozenset(("layout", "run_id", "fingerprint"))
"""Entries of that document in every run; other programs have files of this name too."""

MAX_DOCUMENT_BYTES = 64 << 20


class ResultFolders:
    """The folders of results below one folder.

    Attributes:
        found: those that were met, as URIs.
    """

    def __init__(self, folder: str, outputs: Collection[str]) -> None:
        """Remember what is listed and where the job writes.

        Args:
            folder: the folder.
            outputs: folders that the job writes, whether they exist or not.
        """
        self.found: list[str] = []
        self._folder = folder
        root = storage.canonical(folder)
        known = {storage.join(storage.canonical(output), "") for output in outputs}
        self._all_outputs = known
        below = storage.join(root, "")
        self._outputs = {output.removeprefix(below).rstrip("/") for output in known if output.startswith(below)}

    def skip(self, relative: str, names: Sequence[str]) -> bool:
        """Return whether a folder holds results, as storage.list_files asks."""
        open_document = partial(storage.open_binary, self._document(relative))
        return self._note(relative, is_run=RUN_DOCUMENT in names and _describes_run(open_document))

    def without_results(self, names: Sequence[str]) -> list[str]:
        """Return those of the files that are not in a folder of results.

        Args:
            names: paths of files below the folder, not necessarily all of them.
        """
        folders = sorted({above for name in names for above in _folders_above(name)})
        openers = storage.open_prefetched([*map(self._document, folders)], None)
        left_out: set[str] = set()
        for above, opener in zip(folders, openers, strict=True):
            if left_out.isdisjoint(_folders_above(above)) and self._note(above, is_run=_describes_run(opener)):
                left_out.add(above)
        return [name for name in names if left_out.isdisjoint(_folders_above(name))]

    def _document(self, relative: str) -> str:
        return storage.join(self._folder, *filter(None, [relative]), RUN_DOCUMENT)

    def _note(self, relative: str, *, is_run: bool) -> bool:
        if is_run or relative in self._outputs or self._leads_to_output(relative):
            self.found.append(storage.parent(self._document(relative)))
            return True
        return False

    def _leads_to_output(self, relative: str) -> bool:
        """Return whether a link led to a folder that the job writes."""
        if not self._all_outputs or not relative or not storage.is_local(self._folder):
            return False
        return storage.join(storage.canonical(storage.join(self._folder, relative)), "") in self._all_outputs


def _folders_above(name: str) -> Iterator[str]:
    """Yield the folders that hold a file or folder, the listed one ("") last; none for that one."""
    while name:
        name = name.rpartition("/")[0]
        yield name


def _describes_run(opener: storage.Opener) -> bool:
    """Return whether a file is the document of a run; not if it cannot be read."""
    try:
        with opener() as file:
            document = json.loads(file.read(MAX_DOCUMENT_BYTES))
    except (ItemError, OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.keys() >= RUN_ENTRIES
