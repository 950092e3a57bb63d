"""What decides the content of a bundle: options, digests and versions, and what makes two requests the same.

Reads no weights and runs no exporter.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import fsf_core
from fsf_core.config import Colours, ExportConfig, library_of, parse_colours
from fsf_core.errors import ConfigError
from fsf_core.export.families.named import DISTRIBUTIONS
from fsf_core.export.interface import Given
from fsf_core.export.model_files import ModelFiles
from fsf_core.export.net_options import resolve_net_options
from fsf_core.masks import voc_colours
from fsf_core.model.preprocess import Profile
from fsf_core.model.session import runtime_version
from fsf_core.options import Exporter

RECIPE_VERSION = 3
"""Version of the way from a request to a bundle. Raise it by one with every change after which the same request gives
other model files or another parity report; bundles of older recipes are then exported again. A test compares the files.
"""

OPSETS: Mapping[Exporter, int] = {"dynamo": 20, "torchscript": 17}
"""Default opset of each exporter: below 20 dynamo decomposes Gelu (slower), 17 is the most widely read of torchscript.
"""


DEFAULT_OUTPUT = "output"
"""Name of the output of an exported graph."""


def palette_of(config: ExportConfig, classes: tuple[str, ...] = ()) -> Colours:
    """Return one RGB colour per class: those given, extra ones left out, or PASCAL VOC's.

    Args:
        config: the request.
        classes: names of the bundle, where a background was added to the one that the request has.

    Raises:
        ConfigError: there are fewer colours than classes, or one is not six hexadecimal digits.
    """
    count = len(classes or config.classes)
    given = parse_colours(config.palette)
    if given and len(config.classes) < len(classes) and len(given) < len(classes):
        given = (*voc_colours(1), *given)
    colours = given or voc_colours(count)
    if len(colours) < count:
        raise ConfigError(f"{len(colours)} colours for {count} classes; give one colour per class")
    return colours[:count]


def opset_of_export(config: ExportConfig) -> int:
    """Return the opset that an exported network is to have."""
    return config.opset or OPSETS[config.exporter]


def identity_of(
    config: ExportConfig,
    *,
    profile: Profile | None,
    given: Given,
    weights_sha256: str,
    samples_sha256: Sequence[str],
    model: ModelFiles | None = None,
) -> dict[str, Any]:
    """Return everything that decides what the bundle holds and how it is checked, as JSON holds it.

    Args:
        config: the request.
        profile: preprocessing of the model; None where the model's files decide it, which have to be read first.
        given: what was given about its output; nothing gives the keys of bundles that were exported before.
        weights_sha256: digest of the weights.
        samples_sha256: digests of the user's images.
        model: the model of a family.
    """
    family = None if model is None else model.family
    output = {name: value for name, value in (("kind", given.kind), ("layout", given.layout)) if value}
    output |= given.treatment
    graph = [config.exporter, opset_of_export(config), config.input_name, config.output_name or DEFAULT_OUTPUT]
    content: dict[str, Any] = {
        "network": config.net or (family.name if family else "onnx"),
        "options": resolve_net_options(config.net, config.net_options()),
        "weights": weights_sha256,
        "graph": [] if config.onnx else graph,
        "classes": config.classes,
        "palette": config.palette if profile is None else palette_of(config),
        "profile": {"name": config.profile, **given.input} if profile is None else profile.to_json(),
        **({"output": output} if output else {}),
        "samples": samples_sha256,
        "precisions": sorted(config.precisions),
        "recipe": RECIPE_VERSION,
        "network_code": "" if library_of(config.net) else _network_code_sha256(config.net or ""),
        "tools": tools_of(config, family.libraries if family else DISTRIBUTIONS.get(library_of(config.net) or "", ())),
        **({"files": model.sha256} if model else {}),
    }
    if config.weight_options():  # absent from bundles that were exported before there were any
        content["weight_options"] = [config.weights_key, sorted(config.allow_missing), sorted(config.allow_unexpected)]
    identity: dict[str, Any] = json.loads(json.dumps(content))
    return identity


def tools_of(config: ExportConfig, libraries: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of the libraries that the request needs.

    Args:
        config: the request.
        libraries: those of the model's family; one that is not installed is left out, as reading the model refuses it.

    Raises:
        ConfigError: one is not installed.
    """
    names = ["onnx"] if config.onnx is not None else ["onnx", "torch", "onnxscript"]
    try:
        versions = {name: importlib.metadata.version(name) for name in names}
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(f"export needs {error.name}, which is not installed; pip install 'fsf[export]'") from error
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {"fsf": fsf_core.__version__, "onnxruntime": runtime_version(), **versions}


def differences(identity: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs between a request and the one that a bundle was exported for, sorted.

    Bundles exported before the recipe had a version hold a digest of all export code instead. Their recipe is version
    1; whether the code of a network given by import path has changed is unknown, so such a bundle differs.

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
    """Return the digest of the package of an import path, or "" for a named network.

    Of fsf_core only the folder of the module counts: scoring code exports no model.
    """
    if ":" not in net:
        return ""
    module = net.partition(":")[0]
    package = module.rpartition(".")[0] if module.startswith("fsf_core.") else module.partition(".")[0]
    return sha256_of(*(sha256_of(path.read_bytes()).encode() for path in sorted(set(_package_files(package)))))


def _package_files(name: str) -> Iterable[Path]:
    """Return the Python files of a package, or of the folder of a single module."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # load_network raises a better message
        return []
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if folders:
        return [path for folder in folders for path in folder.rglob("*.py")]
    return [] if spec.origin is None else sorted(Path(spec.origin).parent.glob("*.py"))


def sha256_of(*parts: bytes) -> str:
    """Return the digest of the concatenated parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
