"""Reading many files in order, the next remote ones fetched meanwhile."""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import BinaryIO

from fsf_core.storage import retry
from fsf_core.storage.error_translation import as_fetch_error
from fsf_core.storage.filesystems import filesystem_of, with_retries_for
from fsf_core.storage.reading import Fetched, Opening, open_binary, read_bytes
from fsf_core.storage.retry import Given
from fsf_core.storage.uris import OBJECT_STORES, SPAN, container_of, is_local, require_scheme, scheme

PREFETCH_FILES, PREFETCH_BYTES = 16, 16 << 20
"""Remote files in flight or waiting for their turn, and the size up to which one is fetched ahead."""


def open_prefetched(uris: Sequence[str], *, schemes: tuple[str, ...]) -> Iterator[Opening]:
    """For every URI in order, how to open it; the next remote files are fetched meanwhile.

    Args:
        uris: a file each.
        schemes: what may be opened; another scheme is a FetchError when its turn comes.
    """
    if len(uris) < 2 or all(is_local(container_of(uri)) for uri in uris):  # noqa: PLR2004 - nothing is ahead of a single file
        yield from (partial(_open_allowed, uri, schemes) for uri in uris)
        return
    for uri, fetched in _ahead(uris, partial(_whole_if_small, schemes=schemes)):
        yield partial(_opened, uri, fetched, schemes)


def read_prefetched(uris: Sequence[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every URI in order, and how to have all its bytes, as of read_bytes; the next remote ones come meanwhile."""
    if all(map(is_local, uris)):
        yield from ((uri, partial(read_bytes, uri)) for uri in uris)
        return
    for uri, fetched in _ahead(uris, read_bytes):
        yield uri, fetched.result


def _ahead(uris: Sequence[str], fetch: Callable[[str], Given]) -> Iterator[tuple[str, Future[Given]]]:
    pool = ThreadPoolExecutor(PREFETCH_FILES)
    rest = iter(uris)
    coming: deque[tuple[str, Future[Given]]] = deque()
    try:
        while True:
            for uri in itertools.islice(rest, PREFETCH_FILES - len(coming)):
                coming.append((uri, pool.submit(fetch, uri)))
            if not coming:
                return
            yield coming.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _open_allowed(uri: str, schemes: tuple[str, ...]) -> AbstractContextManager[BinaryIO]:
    require_scheme(uri, schemes)
    return open_binary(uri)


def _whole_if_small(uri: str, schemes: tuple[str, ...]) -> Fetched | None:
    """The bytes of a remote file; None where it is local, or larger than what is fetched ahead."""
    require_scheme(uri, schemes)
    match = SPAN.fullmatch(uri)
    start, length, whole = (int(match[1]), int(match[2]), match[3]) if match else (0, PREFETCH_BYTES, uri)
    if not uri or is_local(whole) or not 0 < length <= PREFETCH_BYTES:
        return None
    with as_fetch_error(uri):
        try:
            # First what the store says of it: replaced in between, the bytes are newer than their version, not older.
            facts = (
                with_retries_for(whole, lambda: filesystem_of(whole).info(whole))
                if scheme(whole) in OBJECT_STORES
                else {}
            )
            data = bytes(
                with_retries_for(whole, lambda: filesystem_of(whole).cat_file(whole, start=start, end=start + length))
            )
        except Exception as error:
            if retry.reason(error) == "range":  # of an empty file no range can be had
                return None
            raise
    return Fetched(data, facts) if match or len(data) < PREFETCH_BYTES else None


@contextlib.contextmanager
def _opened(uri: str, fetched: Future[Fetched | None], schemes: tuple[str, ...]) -> Iterator[BinaryIO]:
    whole = fetched.result()
    with _open_allowed(uri, schemes) if whole is None else whole as file:
        yield file
