"""The export job from end to end: read, build, convert, fuse, verify, save. An error at any step leaves nothing behind.

Knows the order of the steps; cheap checks come first. If the folder already holds the bundle of the same request,
nothing is exported.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fsf_core import storage
from fsf_core.class_names import names_in_metadata
from fsf_core.config import ExportConfig, library_of
from fsf_core.errors import ConfigError, OutputError
from fsf_core.export.families.found import FoundModel
from fsf_core.export.interface import Given, profile_of, read_given, with_found
from fsf_core.export.material import Material, load_family, load_named, read_material
from fsf_core.export.model_files import ModelFiles, open_model, open_onnx
from fsf_core.export.net_options import resolve_net_options
from fsf_core.export.request import differences, identity_of, palette_of, sha256_of, tools_of
from fsf_core.model.bundle import DOCUMENT, Bundle
from fsf_core.model.bundle_files import load_bundle, read_model, require_free, save_bundle

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """Result of an export."""

    bundle: Bundle
    reused: bool
    """Whether the folder held the bundle of this request already."""
    notes: tuple[str, ...] = ()
    """Sentences on choices that were made for the user, such as which weights of the checkpoint were taken."""


def export(config: ExportConfig, *, show_graph: Callable[[str], object] | None = None) -> Exported:
    """Export a bundle with its parity report, or return the one that is already there.

    Example:
        >>> config = ExportConfig(
        ...     net="fastsegformer-p", checkpoint="weights.pth", classes=("background", "rot"), out="bundles/oranges"
        ... )
        >>> export(config).bundle.sha256

    Args:
        config: the options of `fsf export`, under the same names.
        show_graph: called with the graph as text, before parity is checked.

    Raises:
        RunError: the weights do not fit, the graph cannot be written, a parity limit is violated (ParityLimitError,
            with the report), or the folder holds something else. Nothing is left behind.
    """
    tools_of(config)  # first: the next step imports them
    given = read_given(config)
    if config.net is not None and not library_of(config.net):
        profile_of(config, given)  # before the network is built
    palette_of(config)
    resolve_net_options(config.net, config.net_options())
    with _files_of_model(config) as model:
        if model is not None and model.is_onnx and config.onnx is None:
            config = dataclasses.replace(config, model=None, onnx=config.model)
        elif model is not None and model.family is not None and model.family.exporter is not None:
            config = dataclasses.replace(config, exporter=model.family.exporter)
        return _export(config, given, model, show_graph)


def _files_of_model(config: ExportConfig) -> contextlib.AbstractContextManager[ModelFiles | None]:
    if config.model is not None:
        return open_model(config.model)
    return contextlib.nullcontext() if config.onnx is None else open_onnx(config.onnx)


def _export(
    config: ExportConfig, given: Given, model: ModelFiles | None, show_graph: Callable[[str], object] | None
) -> Exported:
    """Export a model whose files are on this machine; see `export`."""
    out = storage.absolute(config.out)
    material = read_material(config, model)
    samples_sha256 = [sha256_of(sample.image_HWC.tobytes()) for sample in material.samples]
    identity = profile = None
    if config.model is None and not library_of(config.net):
        config, given = _with_found(config, given, material)
        profile = profile_of(config, given, material.file_input)
    identity = identity_of(
        config,
        profile=profile,
        given=given,
        weights_sha256=material.weights_sha256,
        samples_sha256=samples_sha256,
        model=None if profile else model,
    )
    existing = _existing_bundle(out, identity)
    if existing is not None:
        if show_graph is not None:
            show_graph(_stored_graph(existing))
        return Exported(bundle=existing, reused=True)
    if profile is None:
        material = load_named(config, material) if model is None else load_family(config, material, model)
        config, given = _with_found(config, given, material)
        profile = profile_of(config, given, material.file_input)
        exporter = None if material.found is None or not profile.is_fixed else material.found.exporter
        config = dataclasses.replace(config, exporter=exporter or config.exporter)

    from fsf_core.export.make import make_models

    made = make_models(config, material, profile, given, identity, show_graph)
    bundle = save_bundle(
        out,
        classes=made.classes,
        palette=palette_of(config, made.classes),
        profile=profile,
        signature=made.signature,
        origin=made.origin,
        models=made.models,
        parity=made.report.to_json(),
    )
    return Exported(bundle=bundle, reused=False, notes=made.notes)


def _with_found(config: ExportConfig, given: Given, material: Material) -> tuple[ExportConfig, Given]:
    """Return the request with what the model's own files contain, where nothing else is given."""
    found = material.found
    if found is not None:
        _report(found, storage.redact(str(config.model or config.onnx or config.net)))
        given = with_found(given, found.document, found.family, found.advice)
        config = dataclasses.replace(config, classes=config.classes or found.classes)
        if not config.palette and len(found.palette) >= len(config.classes):
            config = dataclasses.replace(config, palette=found.palette)
    return _with_class_names(config, material), given


def _report(found: FoundModel, source: str) -> None:
    """Log what the model's own files contain, by section."""
    shown = {
        name: ", ".join(f"{key}: {value}" for key, value in values.items()) for name, values in found.document.items()
    }
    if found.classes:
        shown["classes"] = ", ".join(found.classes)
    for name, values in shown.items():
        file = found.sources.get(name, source)
        log.info("event=model_read family=%s section=%s file=%s found=%r", found.family, name, file, values)


def _with_class_names(config: ExportConfig, material: Material) -> ExportConfig:
    """Return the request with the class names of the ONNX file's metadata, if none are given.

    Raises:
        ConfigError: there are none either.
    """
    if config.classes or config.net is not None:  # a library refuses to build a network without names
        return config
    onnx = material.onnx_model
    names = names_in_metadata({entry.key: entry.value for entry in onnx.metadata_props}) if onnx is not None else ()
    if not names:
        holder = f"the metadata of {config.onnx} holds" if config.onnx else f"the files of {config.model} hold"
        about = f" ({material.found.about_classes})" if material.found and material.found.about_classes else ""
        raise ConfigError(
            f"no class names are given, and {holder} none{about}, expected one for each class; "
            "pass --classes background,first,second"
        )
    log.info("event=class_names_read source=%s names=%r", storage.redact(str(config.onnx)), names)
    return dataclasses.replace(config, classes=names)


def _existing_bundle(out: str, identity: Mapping[str, Any]) -> Bundle | None:
    """Return the bundle of the same request from the folder, or None if the folder is free.

    Raises:
        OutputError: the folder holds the bundle of another request, or other files.
        StorageError: the folder cannot be written.
    """
    if not storage.exists(storage.join(out, DOCUMENT)):
        require_free(out)
        with storage.empty_folders_removed(out):
            storage.require_writable(out)
        return None
    bundle = load_bundle(out)
    if differing := differences(identity, bundle.origin.request):
        raise OutputError(
            f"{out} holds the bundle of another request, which differs in {', '.join(differing)}; "
            "choose another --out, or remove that folder"
        )
    return bundle


def _stored_graph(bundle: Bundle) -> str:
    """Return the graph of a bundle as text."""
    import onnx

    from fsf_core.export.graph import printable

    return printable(onnx.load_model_from_string(read_model(bundle)))
