"""The folder of a bundle, which export writes and scoring reads: loading, verifying and saving it.

Knows the files of a bundle and their digests. Knows no torch, no onnx, no onnxruntime; the model is bytes here.
"""

import contextlib
import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fsf_core import storage
from fsf_core.errors import BundleError, FetchError, OutputError
from fsf_core.model.bundle import (
    DOCUMENT,
    PARITY,
    PLAIN,
    REPAIR,
    Bundle,
    BundleFile,
    Origin,
    Signature,
    from_document,
    to_document,
)
from fsf_core.model.preprocess import Profile


def load_bundle(uri: str) -> Bundle:
    """Load a bundle and verify every file in it.

    Raises:
        BundleError: it is missing, incomplete, altered, malformed or of an unknown version.
    """
    bundle = from_document(uri, _read(uri, DOCUMENT))
    for file in [*bundle.variants.values(), bundle.parity]:
        _read_verified(uri, file)
    return bundle


def read_model(bundle: Bundle, variant: str = PLAIN) -> bytes:
    """Return the bytes of one variant, verified again: a session must run the model that export checked.

    Raises:
        BundleError: the bundle has no such variant, or the file was altered since.
    """
    if variant not in bundle.variants:
        raise BundleError(
            f"{bundle.uri} has the variants {', '.join(sorted(bundle.variants))}, expected {variant!r} among them; "
            "choose one that it has, or export the bundle again"
        )
    return _read_verified(bundle.uri, bundle.variants[variant])


def read_parity(bundle: Bundle) -> dict[str, Any]:
    """Return the report of the parity checks of export.

    Raises:
        BundleError: the file was altered.
    """
    report: dict[str, Any] = json.loads(_read_verified(bundle.uri, bundle.parity))
    return report


def save_bundle(
    uri: str,
    *,
    classes: tuple[str, ...],
    palette: tuple[tuple[int, int, int], ...],
    profile: Profile,
    signature: Signature,
    origin: Origin,
    models: Mapping[str, bytes],
    parity: str,
) -> Bundle:
    """Write a complete bundle, or leave nothing behind.

    Args:
        uri: the folder; it must be new or empty.
        classes: names in the order of the class ids.
        palette: RGB of each class, 0..255.
        profile: preprocessing of an image into the network's input.
        signature: input and output of the plain variant.
        origin: provenance of the model.
        models: ONNX files by variant.
        parity: report of the parity checks, as JSON.

    Raises:
        OutputError: the folder holds files already.
        StorageError: the store refuses, or the disk is full.
        ValueError: classes, palette and signature do not fit together.
    """
    contents = {("model.onnx" if name == PLAIN else f"model.{name}.onnx"): data for name, data in models.items()}
    variants = dict(zip(models, (_file_of(name, data) for name, data in contents.items()), strict=True))
    contents[PARITY] = parity.encode()
    bundle = Bundle(
        uri=uri,
        classes=classes,
        palette=palette,
        profile=profile,
        signature=signature,
        variants=variants,
        parity=_file_of(PARITY, contents[PARITY]),
        origin=origin,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    # bundle.json is written last: on stores without folder renames, a folder without it is no bundle.
    contents[DOCUMENT] = to_document(bundle)
    require_free(uri)
    with _published_at_once(uri) as draft:
        for name, data in contents.items():
            storage.write_bytes(storage.join(draft, name), data, durable=True)
    return bundle


def move_bundle(bundle: Bundle, uri: str) -> Bundle:
    """Move a bundle to a new folder of the same store; returns it there.

    Raises:
        StorageError: the store refuses, or the folder exists.
    """
    if storage.is_local(uri):
        storage.rename_folder(bundle.uri, uri)
    else:
        for name in [*(file.name for file in bundle.variants.values()), bundle.parity.name, DOCUMENT]:
            storage.move(storage.join(bundle.uri, name), storage.join(uri, name), root=uri)
    return replace(bundle, uri=uri)


def require_free(uri: str) -> None:
    """Raise unless a bundle can be written to the folder.

    Raises:
        OutputError: it is a file, or holds files already.
    """
    if not storage.exists(uri):
        return
    if not storage.is_folder(uri):
        raise OutputError(f"{uri} is a file, expected a new or empty folder; choose another --out")
    first = next(iter(storage.list_files(uri, hidden=True)), None)
    if first is not None:
        raise OutputError(
            f"{uri} already holds {first.relative}, expected a new or empty folder; choose another --out or empty it"
        )


@contextlib.contextmanager
def _published_at_once(uri: str) -> Iterator[str]:
    """Yield a folder to write to that becomes `uri` at the end, or is removed after an error."""
    if not storage.is_local(uri):
        try:
            yield uri
        except BaseException:
            storage.remove_folder(uri)
            raise
        return
    target = storage.local_path(storage.absolute(uri))
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    with storage.empty_folders_removed(str(target.parent)):
        try:
            yield str(draft)
            if target.is_dir():
                target.rmdir()  # fails unless empty; Windows does not rename onto a folder
            draft.rename(target)
        except OSError as error:
            raise OutputError(f"{uri} cannot become a bundle: {error}; choose another --out") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _file_of(name: str, data: bytes) -> BundleFile:
    """Return the record of a file."""
    return BundleFile(name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _read(uri: str, name: str) -> bytes:
    """Read a file of the bundle.

    Raises:
        BundleError: it is missing or cannot be read.
    """
    path = storage.join(uri, name)
    try:
        return storage.read_bytes(path)
    except FetchError as error:
        reason = error if storage.exists(path) else f"{name} does not exist"
        raise BundleError(
            f"{uri} is not a complete bundle: {reason}; expected a folder that fsf export wrote, check --bundle"
        ) from error


def _read_verified(uri: str, file: BundleFile) -> bytes:
    """Read a file and verify its digest.

    Raises:
        BundleError: it is missing or was altered.
    """
    data = _read(uri, file.name)
    actual = hashlib.sha256(data).hexdigest()
    if actual != file.sha256:
        raise BundleError(
            f"{uri}/{file.name} was altered: {len(data)} bytes with sha256 {actual[:12]}, "
            f"expected {file.size_bytes} bytes with {file.sha256[:12]}; {REPAIR}"
        )
    return data
