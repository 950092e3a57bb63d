"""What is to be exported, and what makes two requests the same.

Knows options, digests and versions. Reads no weights and runs no exporter.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import fsf_core
from fsf_core.errors import ConfigError
from fsf_core.model.preprocess import PROFILES
from fsf_core.model.session import runtime_version
from fsf_core.options import Exporter, PyramidKind, SmallPrecision

RECIPE_VERSION = 1
"""Version of the way from a request to a bundle. Raise it by one with every change after which the same request gives
other model files or another proof; bundles of older recipes are then exported again. A test compares the files."""

OPSETS: Mapping[Exporter, int] = {"dynamo": 20, "torchscript": 17}
"""What each exporter writes well: dynamo below 20 takes Gelu apart (slower), 17 is torchscript's most widely read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is to be exported."""

    classes: tuple[str, ...]
    """Names in the order of the class ids."""
    palette: tuple[tuple[int, int, int], ...]
    """RGB colour of each class; more than needed are left out."""
    net: str | None = None
    """Name of a network, or package.module:callable."""
    checkpoint: str | None = None
    """Path or URI of its weights; a network by import path may bring its own."""
    onnx: str | None = None
    """Path or URI of a model that exists already, instead of net and checkpoint."""
    profile: str = "fastsegformer"
    """Name of the preprocessing."""
    pyramid: PyramidKind = "multiscale"
    """Context module of a named network."""
    cnn_branch: bool = True
    """Whether a named network has its image branch."""
    exporter: Exporter = "dynamo"
    """Which of torch's exporters writes the graph."""
    opset: int | None = None
    """Version of the ONNX operators; None for what the exporter writes well. An ONNX file keeps its own."""
    input_name: str = "input"
    """Name of the graph's input; an ONNX file keeps its own."""
    output_name: str = "output"
    """Name of the graph's output; picks one where an ONNX file has several, and is ignored where it has one."""
    samples: str | None = None
    """Folder of pictures for the gate, beside the drawn ones, and for int8 to be calibrated on instead of them."""
    precisions: tuple[SmallPrecision, ...] = ()
    """What the bundle is to hold beside float32."""

    def __post_init__(self) -> None:
        self._require_one_model()
        if self.profile not in PROFILES:
            raise ConfigError(f"profile {self.profile!r} is unknown; choose one of {', '.join(PROFILES)}")
        if len(self.classes) < 2 or not all(self.classes) or len(set(self.classes)) != len(self.classes):  # noqa: PLR2004 - argmax over one class says nothing
            raise ConfigError(
                f"classes are {list(self.classes)}, expected at least two names, none empty, no two equal; "
                "pass --classes background,first,second"
            )
        if not set(self.precisions) <= set(get_args(SmallPrecision)):
            raise ConfigError(
                f"--precisions is {','.join(self.precisions)}, expected names out of "
                f"{','.join(get_args(SmallPrecision))}; fp32 is always there"
            )
        if len(self.palette) < len(self.classes):
            raise ConfigError(f"{len(self.palette)} colours for {len(self.classes)} classes; give one colour a class")

    @property
    def written_opset(self) -> int:
        """The opset that an exported network is to have."""
        return self.opset or OPSETS[self.exporter]

    def _require_one_model(self) -> None:
        if self.onnx is not None and (self.net is not None or self.checkpoint is not None):
            raise ConfigError("--onnx comes with --net or --checkpoint; pass the file alone, or the other two")
        if self.onnx is None and self.net is None:
            raise ConfigError("no model is named; pass --net and --checkpoint, or --onnx")
        if self.net is not None and ":" not in self.net and self.checkpoint is None:
            raise ConfigError(f"network {self.net!r} comes without weights; pass --checkpoint")


def identity_of(request: Request, *, weights_sha256: str, samples_sha256: Sequence[str]) -> dict[str, Any]:
    """All that decides what the bundle holds and how it is proved, as JSON holds it.

    Args:
        request: what is asked for.
        weights_sha256: digest of the weights that it points at.
        samples_sha256: digests of the pictures that it points at.
    """
    named = request.net is not None and ":" not in request.net
    content = {
        "network": request.net or "onnx",
        "options": {"pyramid": request.pyramid, "cnn_branch": request.cnn_branch} if named else {},
        "weights": weights_sha256,
        "graph": []
        if request.onnx
        else [request.exporter, request.written_opset, request.input_name, request.output_name],
        "classes": request.classes,
        "palette": request.palette[: len(request.classes)],
        "profile": PROFILES[request.profile].to_json(),
        "samples": samples_sha256,
        "precisions": sorted(request.precisions),
        "recipe": RECIPE_VERSION,
        "network_code": _network_code_sha256(request.net or ""),
        "tools": tools_of(request),
    }
    identity: dict[str, Any] = json.loads(json.dumps(content))
    return identity


def tools_of(request: Request) -> dict[str, str]:
    """Versions of the programs that the request needs.

    Raises:
        ConfigError: one is not installed.
    """
    names = ["onnx"] if request.onnx is not None else ["onnx", "torch", "onnxscript"]
    try:
        versions = {name: importlib.metadata.version(name) for name in names}
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(f"export needs {error.name}, which is not installed; pip install 'fsf[export]'") from error
    return {"fsf": fsf_core.__version__, "onnxruntime": runtime_version(), **versions}


def differences(identity: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs between a request and the one that a bundle was made for, sorted.

    Bundles made before the recipe had a version hold a digest of all export code in its place. Their recipe was the
    first, but the code of a network given by import path cannot be told from it, so that such a bundle differs.

    Args:
        identity: of `identity_of`.
        found: the `request` of a bundle's origin.
    """
    if "code" in found:
        found = {name: value for name, value in found.items() if name != "code"} | {"recipe": 1}
        if not identity["network_code"]:
            found = {**found, "network_code": ""}
    return sorted(name for name in identity.keys() | found.keys() if identity.get(name) != found.get(name))


@cache  # a process runs the code that it loaded, whatever happens to the files meanwhile
def _network_code_sha256(net: str) -> str:
    """Return the digest of the package that an import path points into, or "" for a network of this project.

    Of fsf_core itself only the folder that is pointed into counts: scoring code makes no model.
    """
    if ":" not in net:
        return ""
    module = net.partition(":")[0]
    package = module.rpartition(".")[0] if module.startswith("fsf_core.") else module.partition(".")[0]
    return sha256_of(*(sha256_of(path.read_bytes()).encode() for path in sorted(set(_package_files(package)))))


def _package_files(name: str) -> Iterable[Path]:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # load_network says it better
        return []
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if folders:
        return [path for folder in folders for path in folder.rglob("*.py")]
    return [] if spec.origin is None else sorted(Path(spec.origin).parent.glob("*.py"))


def sha256_of(*parts: bytes) -> str:
    """Digest of the parts one after another."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
