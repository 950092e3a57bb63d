"""Reading many files in order, with the next remote ones prefetched."""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO, TypeVar

from fsf_core.storage import retry, s3, usage
from fsf_core.storage.access import Access
from fsf_core.storage.error_translation import as_fetch_error
from fsf_core.storage.filesystems import filesystem_of, with_retries_for
from fsf_core.storage.reading import FetchedFile, Opener, open_binary, read_bytes
from fsf_core.storage.uris import OBJECT_STORES, SPAN_PATTERN, container_of, is_local, scheme

PREFETCH_FILES, PREFETCH_BYTES = 16, 16 << 20
"""Most remote files in flight or waiting for their turn, and the largest size that is prefetched."""

T = TypeVar("T")


def open_prefetched(uris: Sequence[str], access: Access | None) -> Iterator[Opener]:
    """Yield an opener for every URI in order, while the next remote files are fetched.

    Args:
        uris: a file each.
        access: which of them may be opened, None for any; the opener of any other raises FetchError.
    """
    if len(uris) < 2 or all(is_local(container_of(uri)) for uri in uris):  # noqa: PLR2004 - a single file has no next
        yield from (partial(open_binary, uri, access) for uri in uris)
        return
    for uri, fetched in _prefetch(uris, partial(_fetch_if_small, access=access)):
        yield partial(_open_fetched, uri, fetched, access)


def read_prefetched(uris: Sequence[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield every URI in order with a call that returns all its bytes, while the next remote files are fetched.

    The call raises what read_bytes raises.
    """
    if all(map(is_local, uris)):
        yield from ((uri, partial(read_bytes, uri)) for uri in uris)
        return
    for uri, fetched in _prefetch(uris, read_bytes):
        yield uri, fetched.result


def _prefetch(uris: Sequence[str], fetch: Callable[[str], T]) -> Iterator[tuple[str, Future[T]]]:
    pool = ThreadPoolExecutor(PREFETCH_FILES)
    rest = iter(uris)
    waiting: deque[tuple[str, Future[T]]] = deque()
    try:
        while True:
            for uri in itertools.islice(rest, PREFETCH_FILES - len(waiting)):
                waiting.append((uri, pool.submit(fetch, uri)))
            if not waiting:
                return
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _fetch_if_small(uri: str, access: Access | None) -> FetchedFile | None:
    """Fetch a remote file; return None for a local one, or one of PREFETCH_BYTES or more."""
    if access is not None:
        access.require(uri)
    match = SPAN_PATTERN.fullmatch(uri)
    start, length, whole = (int(match[1]), int(match[2]), match[3]) if match else (0, PREFETCH_BYTES, uri)
    if not uri or is_local(whole) or not 0 < length <= PREFETCH_BYTES:
        return None
    with as_fetch_error(uri):
        try:
            if s3.is_s3(whole):
                max_bytes = None if match else PREFETCH_BYTES - 1
                data, info = s3.fetch(whole, start=start, length=length, max_bytes=max_bytes)
            else:
                data, info = _fetch_by_version(whole, access, start, start + length)
        except Exception as error:
            if retry.reason(error) == "range":  # an empty file has no valid range
                return None
            raise
    if data is None:
        return None
    usage.count(usage.READ_BYTES, len(data))
    return FetchedFile(data, info) if match or len(data) < PREFETCH_BYTES else None


def _fetch_by_version(uri: str, access: Access | None, start: int, end: int) -> tuple[bytes, dict[str, Any]]:
    """Read a range of a file in a store whose library hides the version that a response names, or on the web.

    The version is read first: if the file is replaced in between, its bytes are newer than the version, not older.
    """
    info = with_retries_for(uri, lambda: filesystem_of(uri).info(uri)) if scheme(uri) in OBJECT_STORES else {}
    data = with_retries_for(uri, lambda: filesystem_of(uri, access).cat_file(uri, start=start, end=end))
    return bytes(data), info


@contextlib.contextmanager
def _open_fetched(uri: str, fetched: Future[FetchedFile | None], access: Access | None) -> Iterator[BinaryIO]:
    whole = fetched.result()
    with open_binary(uri, access) if whole is None else whole as file:
        yield file
