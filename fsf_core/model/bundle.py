"""A bundle as records, its identity, and their form in bundle.json. Reads and writes no file: see bundle_files.

bundle.json has the sha256 of every other file and of itself, so an altered bundle is refused.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_args

from fsf_core.errors import BundleError
from fsf_core.model.preprocess import Profile
from fsf_core.options import Corners, OutputGrid, OutputKind, OutputLayout, Precision, Resized

FORMAT_VERSION = 1
"""Version of bundle.json; a reader refuses those that it does not know."""

FREE_SIZE_VERSION = 2
"""Version of bundle.json where the size of the network's input depends on the image: readers of version 1 alone would
not know what to feed. All other bundles keep version 1, and stay readable for them."""

DOCUMENT = "bundle.json"
PARITY = "parity.json"
PLAIN = "plain"
"""Variant from float32 images to scores or class ids, as `output` says."""
FUSED = "fused"
"""Variant from uint8 frames to class maps and pixel counts."""

REPAIR = "restore it, or remove the folder and export the bundle again"

# No separators, drive letters or leading dot: a name cannot lead out of the bundle.
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleFile:
    """A file of the bundle other than bundle.json."""

    name: str
    """File name; never a path."""
    size_bytes: int
    sha256: str
    """Hexadecimal."""

    def __post_init__(self) -> None:
        if not _SAFE_NAME.fullmatch(self.name) or self.name == DOCUMENT:
            raise ValueError(f"found file name {self.name!r}; expected a plain name of a file inside the bundle")


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """What the model's output means, and the form in which the model as it was given has it.

    The plain variant has float32 NKHW whatever the form: of a binary output the probabilities of background and
    foreground, or their logits where these are resized; of a class map N1HW.
    """

    kind: OutputKind = "logits"
    layout: OutputLayout = "NKHW"
    dtype: str = "float32"
    """Name of the NumPy type."""
    resized: Resized = "probabilities"
    """What is resized to the image before the largest is taken; figures are always those of the probabilities."""
    grid: OutputGrid = "own"
    """Whether the plain variant enlarges the scores to the grid of its input."""
    corners: Corners = "half-pixel"
    """How every resize of the output places its samples."""
    threshold: float = 0.5
    """Probability from which on a pixel of a binary output is foreground."""

    def __post_init__(self) -> None:
        for value, choices in (
            (self.kind, OutputKind),
            (self.layout, OutputLayout),
            (self.resized, Resized),
            (self.grid, OutputGrid),
            (self.corners, Corners),
        ):
            if value not in get_args(choices):
                raise ValueError(f"found {value!r} of an output; expected one of {get_args(choices)}")
        if reason := self._contradiction():
            raise ValueError(reason)

    def _contradiction(self) -> str:
        """Return what cannot be of this kind, or ""."""
        if self.resized == "logits" and self.kind not in {"logits", "binary_logit"}:
            return f"an output of kind {self.kind} holds no logits that could be resized"
        if self.threshold != 0.5 and not self.is_binary:  # noqa: PLR2004 - the default
            return f"an output of kind {self.kind} has no threshold, which is one of binary kinds"
        if not 0 < self.threshold < 1:
            return f"the threshold is {self.threshold:g}, and probabilities are between 0 and 1"
        if self.corners == "aligned" and self.kind == "class_map":
            return "the class ids of a class map are not interpolated, so that no corners can be aligned"
        if self.corners == "asymmetric" and self.kind != "class_map":
            return f"an output of kind {self.kind} is interpolated, and asymmetric corners are those of a class map"
        return ""

    @property
    def is_binary(self) -> bool:
        """Return whether one channel, of the foreground, was given."""
        return self.kind in {"binary_logit", "binary_probability"}

    @property
    def holds_logits(self) -> bool:
        """Return whether the scores of the plain variant are logits, of which softmax makes probabilities."""
        return self.kind == "logits" or (self.kind == "binary_logit" and self.resized == "logits")

    @property
    def background_bias(self) -> float:
        """Return what added to the first channel of the resized scores puts the threshold where both are equal.

        Scores that are equal up to their last digits are foreground.
        """
        if self.threshold == 0.5:  # noqa: PLR2004 - no bias: channels are such that it is where both are equal
            return 0.0
        if self.holds_logits:
            return math.log(self.threshold / (1 - self.threshold))
        return 2 * self.threshold - 1 - 2.0**-23


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """Input and output of the plain variant."""

    input_name: str
    input_shape: tuple[int | None, int, int | None, int | None]
    """N, C, H, W of float32 images; None where any size is accepted. N is a number if every call takes exactly N."""
    output_name: str
    output_shape: tuple[int | None, int, int | None, int | None]
    """N, K, H, W of float32 scores; N, 1, H, W of class ids, as float32, where the output is a class map. H and W are
    None where they depend on the input's."""
    grid_stride: float | None = None
    """About how many pixels of the input a cell of the output spans, along a side; None where the output is fixed."""
    output: Output = field(default_factory=Output)
    """What the output means."""

    @property
    def has_free_size(self) -> bool:
        """Whether height and width of the input depend on the image."""
        return None in self.input_shape[2:]

    @property
    def grid_hw(self) -> tuple[int, int] | None:
        """Rows and columns of the output; None where they depend on the image."""
        rows, columns = self.output_shape[2:]
        return None if self.has_free_size or rows is None or columns is None else (rows, columns)

    def grid_of(self, input_hw: tuple[int, int]) -> tuple[int, int]:
        """Return about how many rows and columns the output has for an input of this size; exactly where fixed."""
        stride = self.grid_stride or 1.0
        rows, columns = self.output_shape[2:]
        return rows or math.ceil(input_hw[0] / stride), columns or math.ceil(input_hw[1] / stride)


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Provenance of the model; not needed for scoring."""

    network: str
    """Name or import path of the network, or `onnx` for an imported ONNX file."""
    network_options: Mapping[str, Any]
    weights_sha256: str
    """Digest of the checkpoint file; without one, of the weights or of the ONNX model."""
    exporter: str
    """Exporter that wrote the graph."""
    opset: int
    ir_version: int
    tools: Mapping[str, str]
    """Versions of the libraries used, by name."""
    request: Mapping[str, Any]
    """All that determined the result; an equal request is not exported again."""
    found: Mapping[str, Any] = field(default_factory=dict)
    """What the model's own files contain about its input, output and classes, and the names of these files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A verified bundle."""

    uri: str
    """The folder."""
    classes: tuple[str, ...]
    """Names in the order of the class ids."""
    palette: tuple[tuple[int, int, int], ...]
    """RGB of each class, 0..255."""
    profile: Profile
    """Preprocessing of an image into the network's input."""
    signature: Signature
    variants: Mapping[str, BundleFile]
    """Models by variant: `plain` always, `fused` where the profile allows it, and both in each exported precision."""
    parity: BundleFile
    """Report of the parity checks of export."""
    origin: Origin
    created_at: str = field(compare=False)
    """UTC, ISO 8601; not part of the identity."""

    def __post_init__(self) -> None:
        if not self.classes or not all(self.classes) or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"found class names {list(self.classes)}; expected at least one, none empty, no two equal")
        channels = self.signature.output_shape[1]
        if channels != (1 if self.output.kind == "class_map" else len(self.classes)):
            raise ValueError(f"found {len(self.classes)} class names for {channels} classes; expected one each")
        if len(self.palette) != len(self.classes) or any(
            len(colour) != 3 or min(colour) < 0 or max(colour) > 255  # noqa: PLR2004 - RGB, 8 bits each
            for colour in self.palette
        ):
            raise ValueError(f"found palette {list(self.palette)}; expected one RGB colour of 0..255 per class")
        if self.signature.has_free_size == self.profile.is_fixed:
            raise ValueError(
                f"found input {list(self.signature.input_shape)}, whose sides do not fit the preprocessing"
            )
        if PLAIN not in self.variants:
            raise ValueError(f"found variants {sorted(self.variants)}; expected {PLAIN!r} among them")

    @property
    def output(self) -> Output:
        """What the output of the plain variant means."""
        return self.signature.output

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def sha256(self) -> str:
        """Identity of the bundle: a digest of all that determines the result of scoring, and of nothing else.

        Export date, tool versions and parity report are left out; the digests of the models are in it.
        """
        content = {
            "classes": self.classes,
            "palette": self.palette,
            "profile": self.profile.to_json(),
            "signature": _signature_to_json(self.signature),
            "variants": {name: file.sha256 for name, file in self.variants.items()},
            **_output_to_json(self.output),
        }
        return hashlib.sha256(canonical_json(content)).hexdigest()


def variant_of(precision: Precision, *, fused: bool) -> str:
    """Return the name of the plain or fused variant in one precision."""
    variant = FUSED if fused else PLAIN
    return variant if precision == "fp32" else f"{precision}-{variant}"


def canonical_json(content: object) -> bytes:
    """Serialise to canonical JSON: equal content gives equal bytes, and so equal digests."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _signature_to_json(signature: Signature) -> dict[str, Any]:
    """Return a signature as in bundle.json."""
    return {
        "input_name": signature.input_name,
        "input_shape": signature.input_shape,
        "output_name": signature.output_name,
        "output_shape": signature.output_shape,
        **({} if signature.grid_stride is None else {"grid_stride": signature.grid_stride}),
    }


def _output_to_json(output: Output) -> dict[str, Any]:
    """Return an output as in bundle.json: nothing for float32 logits, so that bundles of them keep their identity.

    For the same reason the keys that came later are left out where they have their defaults.
    """
    if output == Output():
        return {}
    later = [entry for entry in fields(Output) if entry.name in {"resized", "grid", "corners", "threshold"}]
    chosen = {entry.name: getattr(output, entry.name) for entry in later}
    differing = {entry.name: chosen[entry.name] for entry in later if chosen[entry.name] != entry.default}
    return {"output": {"kind": output.kind, "layout": output.layout, "dtype": output.dtype, **differing}}


def _file_to_json(file: BundleFile) -> dict[str, Any]:
    """Return a file as in bundle.json."""
    return {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256}


def _origin_to_json(origin: Origin) -> dict[str, Any]:
    """Return an origin as in bundle.json."""
    return {
        "network": origin.network,
        "network_options": origin.network_options,
        "weights_sha256": origin.weights_sha256,
        "exporter": origin.exporter,
        "opset": origin.opset,
        "ir_version": origin.ir_version,
        "tools": origin.tools,
        "request": origin.request,
        **({"found": origin.found} if origin.found else {}),
    }


def to_document(bundle: Bundle) -> bytes:
    """Return the content of bundle.json. Its keys are names on disk; they never change."""
    content: dict[str, Any] = {
        "classes": bundle.classes,
        "palette": bundle.palette,
        "profile": bundle.profile.to_json(),
        "signature": _signature_to_json(bundle.signature),
        **_output_to_json(bundle.output),
        "variants": {name: _file_to_json(file) for name, file in bundle.variants.items()},
        "parity": _file_to_json(bundle.parity),
        "origin": _origin_to_json(bundle.origin),
        "created_at": bundle.created_at,
    }
    content |= {"format_version": _version_of(bundle), "sha256": bundle.sha256}
    content["document_sha256"] = hashlib.sha256(canonical_json(content)).hexdigest()
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def _version_of(bundle: Bundle) -> int:
    return FREE_SIZE_VERSION if bundle.signature.has_free_size else FORMAT_VERSION


def from_document(uri: str, data: bytes) -> Bundle:
    """Read the content of bundle.json; uri is the folder.

    Raises:
        BundleError: it is not the description of a bundle, was altered, is malformed or of an unknown version.
    """
    try:
        content = json.loads(data)
        recorded = content.pop("document_sha256")
        actual = hashlib.sha256(canonical_json(content)).hexdigest()
        version = content.pop("format_version")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{uri}/{DOCUMENT} is not the description of a bundle; export the bundle again") from error
    if version not in {FORMAT_VERSION, FREE_SIZE_VERSION}:
        raise BundleError(
            f"{uri} has format version {version!r}, this version of fsf reads {FORMAT_VERSION} and "
            f"{FREE_SIZE_VERSION}; "
            "export the bundle again, or use the version that wrote it"
        )
    if actual != recorded:
        raise BundleError(
            f"{uri}/{DOCUMENT} was altered: its sha256 is {actual[:12]}, expected {recorded!s:.12}; {REPAIR}"
        )
    identity = content.pop("sha256", None)
    try:
        bundle = _to_bundle(uri, content)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BundleError(f"{uri}/{DOCUMENT} is malformed: {error}; {REPAIR}") from error
    if version != _version_of(bundle):
        raise BundleError(
            f"{uri}/{DOCUMENT} is malformed: format version {version} is not that of its input's size; {REPAIR}"
        )
    if bundle.sha256 != identity:
        raise BundleError(
            f"{uri}/{DOCUMENT} names the identity {identity!s:.12}, its content has {bundle.sha256[:12]}; {REPAIR}"
        )
    return bundle


def _to_bundle(uri: str, content: dict[str, Any]) -> Bundle:
    """Turn parsed JSON into records; lists become tuples."""
    return Bundle(
        uri=uri,
        classes=tuple(content.pop("classes")),
        palette=tuple(tuple(colour) for colour in content.pop("palette")),
        profile=Profile.from_json(content.pop("profile")),
        signature=Signature(**_with_tuples(content.pop("signature")), output=Output(**content.pop("output", {}))),
        variants={name: BundleFile(**file) for name, file in content.pop("variants").items()},
        parity=BundleFile(**content.pop("parity")),
        origin=Origin(**content.pop("origin")),
        **content,
    )


def _with_tuples(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with tuples for lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
