"""What export hands to score: a folder with the model, what it expects and answers, and the proof that it is right.

Knows the files of a bundle and their digests. Knows no torch, no onnx, no onnxruntime; the model is bytes here.
Every file is covered by a sha256 in bundle.json, and bundle.json by its own: an altered bundle is refused.
"""

import contextlib
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fsf_core import storage
from fsf_core.errors import BundleError, FetchError, OutputError
from fsf_core.model.preprocess import Profile
from fsf_core.options import Precision

FORMAT_VERSION = 1
"""Version of bundle.json. A reader refuses what it does not know."""

DOCUMENT = "bundle.json"
PARITY = "parity.json"
PLAIN = "plain"
FUSED = "fused"

# A file of a bundle lies in the bundle: no separators, no drive letters, no leading dot.
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleFile:
    """One file beside bundle.json."""

    name: str
    """File name; never a path."""
    size_bytes: int
    sha256: str
    """Hexadecimal digest of the content."""

    def __post_init__(self) -> None:
        if not _SAFE_NAME.fullmatch(self.name) or self.name == DOCUMENT:
            raise ValueError(f"file name {self.name!r} is not a plain name of a file inside the bundle")


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """What goes into the plain network and what comes out."""

    input_name: str
    input_shape: tuple[int | None, int, int, int]
    """N, C, H, W of float32 pictures; None where any number goes."""
    output_name: str
    output_shape: tuple[int | None, int, int, int]
    """N, K, H, W of float32 logits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """How the model came to be. Scoring does not need it; people who ask do."""

    network: str
    """Name or import path of the network, or `onnx` for a file that existed already."""
    network_options: Mapping[str, Any]
    weights_sha256: str
    """Digest of the checkpoint file; of the weights themselves, or of the ONNX model, where there is no such file."""
    exporter: str
    """Which exporter wrote the graph."""
    opset: int
    ir_version: int
    tools: Mapping[str, str]
    """Versions of the programs that took part."""
    request: Mapping[str, Any]
    """All that decided the result; an equal request is not exported again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A bundle as it lies in its folder, digests verified."""

    uri: str
    """The folder."""
    classes: tuple[str, ...]
    """Names in the order of the class ids."""
    palette: tuple[tuple[int, int, int], ...]
    """RGB colour of each class."""
    profile: Profile
    """How a picture becomes the network's input."""
    signature: Signature
    variants: Mapping[str, BundleFile]
    """The model's forms: `plain` always, `fused` where the profile allows it, and both in each precision asked for."""
    parity: BundleFile
    """The report of the export gate."""
    origin: Origin
    created_at: str = field(compare=False)
    """UTC, ISO 8601; no part of the identity."""

    def __post_init__(self) -> None:
        if not self.classes or not all(self.classes) or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"class names are {list(self.classes)}; expected at least one, none empty, no two equal")
        if self.signature.output_shape[1] != len(self.classes):
            raise ValueError(f"{len(self.classes)} class names for {self.signature.output_shape[1]} classes")
        if len(self.palette) != len(self.classes) or any(
            len(colour) != 3 or min(colour) < 0 or max(colour) > 255  # noqa: PLR2004 - RGB, 8 bits each
            for colour in self.palette
        ):
            raise ValueError(f"the palette is {list(self.palette)}; expected one RGB colour of 0..255 per class")
        if PLAIN not in self.variants:
            raise ValueError(f"variants are {sorted(self.variants)}; expected {PLAIN!r} among them")

    @property
    def num_classes(self) -> int:
        """Classes told apart."""
        return len(self.classes)

    @property
    def sha256(self) -> str:
        """The identity: a digest of all that decides the result, and of nothing else.

        Export date, tool versions and the parity report are left out: the bytes of the models speak for themselves.
        """
        content = {
            "classes": self.classes,
            "palette": self.palette,
            "profile": self.profile.to_json(),
            "signature": _signature_to_json(self.signature),
            "variants": {name: file.sha256 for name, file in self.variants.items()},
        }
        return hashlib.sha256(_canonical(content)).hexdigest()


def variant_of(precision: Precision, *, fused: bool) -> str:
    """Name of one form of the model in one precision."""
    form = FUSED if fused else PLAIN
    return form if precision == "fp32" else f"{precision}-{form}"


def load_bundle(uri: str) -> Bundle:
    """Open a bundle and verify every file in it.

    Raises:
        BundleError: it is not there, incomplete, altered, malformed or of an unknown version.
    """
    bundle = _parse(uri, _read(uri, DOCUMENT))
    for file in [*bundle.variants.values(), bundle.parity]:
        _verified(uri, file)
    return bundle


def read_model(bundle: Bundle, variant: str = PLAIN) -> bytes:
    """The bytes of one form of the model, verified again: a session must never see others than those proved.

    Raises:
        BundleError: the bundle has no such form, or the file was altered since.
    """
    if variant not in bundle.variants:
        raise BundleError(
            f"{bundle.uri} holds the variants {', '.join(sorted(bundle.variants))}, asked for {variant!r}; "
            "export the bundle again, or choose one that it holds"
        )
    return _verified(bundle.uri, bundle.variants[variant])


def read_parity(bundle: Bundle) -> dict[str, Any]:
    """The report of the export gate.

    Raises:
        BundleError: the file was altered.
    """
    report: dict[str, Any] = json.loads(_verified(bundle.uri, bundle.parity))
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
    """Write a bundle whole, or leave nothing behind.

    Args:
        uri: the folder; it must not exist or be empty.
        classes: names in the order of the class ids.
        palette: RGB colour of each class.
        profile: how a picture becomes the network's input.
        signature: names and shapes of the plain network.
        origin: how the model came to be.
        models: variant to the bytes of an ONNX file.
        parity: the gate's report, JSON.

    Raises:
        OutputError: the folder is taken.
        StorageError: the store refuses, or the disk is full.
        ValueError: classes, palette and signature do not fit together.
    """
    contents = {("model.onnx" if name == PLAIN else f"model.{name}.onnx"): data for name, data in models.items()}
    variants = dict(zip(models, (_describe(name, data) for name, data in contents.items()), strict=True))
    contents[PARITY] = parity.encode()
    bundle = Bundle(
        uri=uri,
        classes=classes,
        palette=palette,
        profile=profile,
        signature=signature,
        variants=variants,
        parity=_describe(PARITY, contents[PARITY]),
        origin=origin,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    # bundle.json goes last: on stores that cannot rename a folder, what lacks it is no bundle.
    contents[DOCUMENT] = _render(bundle)
    require_free(uri)
    with _appearing_whole(uri) as draft:
        for name, data in contents.items():
            storage.write_bytes(storage.join(draft, name), data, durable=True)
    return bundle


def require_free(uri: str) -> None:
    """Refuse a folder that a bundle cannot be written to.

    Raises:
        OutputError: it is a file, or holds files already.
    """
    if not storage.exists(uri):
        return
    if not storage.is_folder(uri):
        raise OutputError(f"{uri} is a file, expected the name of a new folder; choose another --out")
    first = next(iter(storage.list_files(uri, hidden=True)), None)
    if first is not None:
        raise OutputError(
            f"{uri} already holds {first.relative}, expected an empty or new folder; choose another --out or empty it"
        )


@contextlib.contextmanager
def _appearing_whole(uri: str) -> Iterator[str]:
    """A folder to write to that becomes `uri` at the end, or vanishes."""
    if not storage.is_local(uri):
        try:
            yield uri
        except BaseException:
            storage.remove_folder(uri)
            raise
        return
    target = storage.local_path(storage.absolute(uri))
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield str(draft)
        if target.is_dir():
            target.rmdir()  # empty, or this fails; Windows does not rename onto a folder
        draft.rename(target)
    except OSError as error:
        raise OutputError(f"{uri} cannot become a bundle: {error}; choose another --out") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _describe(name: str, data: bytes) -> BundleFile:
    return BundleFile(name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _canonical(content: object) -> bytes:
    """One spelling for equal content, so that digests compare."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _signature_to_json(signature: Signature) -> dict[str, Any]:
    return {
        "input_name": signature.input_name,
        "input_shape": signature.input_shape,
        "output_name": signature.output_name,
        "output_shape": signature.output_shape,
    }


def _file_to_json(file: BundleFile) -> dict[str, Any]:
    return {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256}


def _origin_to_json(origin: Origin) -> dict[str, Any]:
    return {
        "network": origin.network,
        "network_options": origin.network_options,
        "weights_sha256": origin.weights_sha256,
        "exporter": origin.exporter,
        "opset": origin.opset,
        "ir_version": origin.ir_version,
        "tools": origin.tools,
        "request": origin.request,
    }


def _render(bundle: Bundle) -> bytes:
    """Return bundle.json. Its keys are names on disk: they stay, whatever the fields are called."""
    content: dict[str, Any] = {
        "classes": bundle.classes,
        "palette": bundle.palette,
        "profile": bundle.profile.to_json(),
        "signature": _signature_to_json(bundle.signature),
        "variants": {name: _file_to_json(file) for name, file in bundle.variants.items()},
        "parity": _file_to_json(bundle.parity),
        "origin": _origin_to_json(bundle.origin),
        "created_at": bundle.created_at,
    }
    content |= {"format_version": FORMAT_VERSION, "sha256": bundle.sha256}
    content["document_sha256"] = hashlib.sha256(_canonical(content)).hexdigest()
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def _parse(uri: str, data: bytes) -> Bundle:
    try:
        content = json.loads(data)
        stated = content.pop("document_sha256")
        found = hashlib.sha256(_canonical(content)).hexdigest()
        version = content.pop("format_version")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{uri}/{DOCUMENT} is not the description of a bundle; export the bundle again") from error
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{uri} has format version {version!r}, this program reads {FORMAT_VERSION}; "
            "export the bundle again, or use the version of fsf that wrote it"
        )
    if found != stated:
        raise BundleError(f"{uri}/{DOCUMENT} was altered (its digest is {found[:12]}, it states {stated!s:.12}); {_DO}")
    identity = content.pop("sha256", None)
    try:
        bundle = _assemble(uri, content)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BundleError(f"{uri}/{DOCUMENT} is malformed: {error}; {_DO}") from error
    if bundle.sha256 != identity:
        raise BundleError(f"{uri}/{DOCUMENT} states the identity {identity!s:.12}, it is {bundle.sha256[:12]}; {_DO}")
    return bundle


_DO = "restore it, or remove the folder and export the bundle again"


def _assemble(uri: str, content: dict[str, Any]) -> Bundle:
    """Turn JSON back into records; lists become tuples again."""
    return Bundle(
        uri=uri,
        classes=tuple(content.pop("classes")),
        palette=tuple(tuple(colour) for colour in content.pop("palette")),
        profile=Profile.from_json(content.pop("profile")),
        signature=Signature(**_tuples(content.pop("signature"))),
        variants={name: BundleFile(**file) for name, file in content.pop("variants").items()},
        parity=BundleFile(**content.pop("parity")),
        origin=Origin(**content.pop("origin")),
        **content,
    )


def _tuples(record: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}


def _read(uri: str, name: str) -> bytes:
    path = storage.join(uri, name)
    try:
        return storage.read_bytes(path)
    except FetchError as error:
        reason = error if storage.exists(path) else f"{name} does not exist"
        raise BundleError(
            f"{uri} is not a whole bundle: {reason}; expected the folder that fsf export writes, check --bundle"
        ) from error


def _verified(uri: str, file: BundleFile) -> bytes:
    data = _read(uri, file.name)
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise BundleError(
            f"{uri}/{file.name} was altered: {len(data)} bytes with sha256 {found[:12]}, "
            f"expected {file.size_bytes} bytes with {file.sha256[:12]}; {_DO}"
        )
    return data
