"""From the inputs to verified models: convert, rewrite, fuse, other precisions, parity.

Knows torch and onnx; `job` imports it only if there is something to export.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from fsf_core.config import ExportConfig, is_adopted
from fsf_core.errors import BundleError, ConfigError
from fsf_core.export.adapters import feed, to_scores, with_plain_output
from fsf_core.export.compare import Original, Reference
from fsf_core.export.from_network import exact_function, from_network
from fsf_core.export.from_onnx import from_onnx, one_size_only, original_session
from fsf_core.export.fuse import fuse, why_not_fusible
from fsf_core.export.graph import model_bytes, opset_of, printable, signature_of
from fsf_core.export.input_keys import require_class
from fsf_core.export.input_sizes import example_hw
from fsf_core.export.interface import Given
from fsf_core.export.material import Material, build_network
from fsf_core.export.output_kind import read_output, with_background
from fsf_core.export.outputs import example_batch, single_output
from fsf_core.export.parity import ADOPTED, OTHER_PICTURES, PRECISION_LIMITS, ParityLimitError, ParityReport
from fsf_core.export.precision_parity import compare_precision
from fsf_core.export.precisions import to_fp16, to_int8
from fsf_core.export.request import DEFAULT_OUTPUT, opset_of_export
from fsf_core.export.rewrite import rewrite
from fsf_core.export.sample_images import SampleImage, drawn_images, odd_sized_images, unusual_images
from fsf_core.export.verify import verify
from fsf_core.model.bundle import FUSED, PLAIN, Origin, Output, Signature, variant_of
from fsf_core.model.preprocess import Profile, fit, input_hw, normalise
from fsf_core.model.session import Session
from fsf_core.options import Precision

_NO_CHECKPOINT = "exported with the weights that the network is built with: random ones, unless it loads its own"

IMAGES_OF_OUTPUT = 8
"""Drawn images whose outputs show what the output means; the user's are used too."""

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """Verified models, and what the bundle records of them."""

    models: Mapping[str, bytes]
    """Variant to the bytes of an ONNX file."""
    signature: Signature
    origin: Origin
    classes: tuple[str, ...]
    """Names in the order of the class ids."""
    report: ParityReport
    notes: tuple[str, ...]
    """Sentences on choices that were made for the user."""


def make_models(
    config: ExportConfig,
    material: Material,
    profile: Profile,
    given: Given,
    identity: Mapping[str, Any],
    show_graph: Callable[[str], object] | None,
) -> Made:
    """Make and verify every variant of the model.

    Raises:
        RunError: the weights do not fit, the graph cannot be written, or a parity limit is violated.
    """
    plain, reference, output, notes = _plain_model(config, material, profile, given)
    classes = with_background(config.classes, output)
    require_class(profile, classes)
    signature = _with_stride(dataclasses.replace(signature_of(plain), output=output), reference, profile)
    if profile.is_fixed:
        _require_output_grid(signature.output_shape, profile)
    unfused = why_not_fusible(profile, opset_of(plain))
    if unfused and not profile.is_fixed:
        log.info("event=no_fused_variant profile=%r reason=%r", profile.describe(), unfused)

    def verified(model: ModelProto) -> tuple[dict[str, bytes], ParityReport]:
        if show_graph is not None:
            show_graph(printable(model))
        models = _all_variants(model, config, material, profile, output, len(classes))
        return models, _verify_all(reference, models, profile, config, material, output, len(classes))

    models, report = _rewritten_if_equal(plain, verified)
    return Made(
        models=models,
        signature=signature,
        origin=_origin(config, material, plain, identity),
        classes=classes,
        report=report,
        notes=notes,
    )


def _rewritten_if_equal(
    plain: ModelProto, verified: Callable[[ModelProto], tuple[dict[str, bytes], ParityReport]]
) -> tuple[dict[str, bytes], ParityReport]:
    """Return the variants of the rewritten graph and their parity; of the graph as it is, where that is refused.

    The report tells which.

    Raises:
        RunError: of the graph as it is.
    """
    rewritten = None
    try:
        rewritten = rewrite(plain)
        if rewritten.rules:
            log.info("event=graph_rewritten rules=%s", rewritten.rules)
        models, report = verified(rewritten.model)
        return models, dataclasses.replace(report, rewrites=rewritten.rules)
    except (ConfigError, BundleError, ParityLimitError) as error:
        if rewritten is not None and not rewritten.rules:
            raise
        reason = str(error)
    log.warning("event=graph_not_rewritten rules=%s reason=%r", rewritten and rewritten.rules, reason)
    models, report = verified(plain)
    return models, dataclasses.replace(report, rewrites_refused=reason)


def _all_variants(
    plain: ModelProto, config: ExportConfig, material: Material, profile: Profile, output: Output, num_classes: int
) -> dict[str, bytes]:
    """Return the plain and, where there is one, the fused variant in every precision."""
    models: dict[str, bytes] = {}
    for precision, model in _in_every_precision(plain, config, material, profile):
        models[variant_of(precision, fused=False)] = model_bytes(model)
        if not why_not_fusible(profile, opset_of(model)):
            fused = fuse(model, profile, output=output, num_classes=num_classes)
            models[variant_of(precision, fused=True)] = model_bytes(fused)
    return models


def _plain_model(
    config: ExportConfig, material: Material, profile: Profile, given: Given
) -> tuple[ModelProto, Reference, Output, tuple[str, ...]]:
    """Return the float32 model, the original that it must equal, what its output means, and notes on choices."""
    if material.onnx_model is not None:
        converted = from_onnx(material.onnx_model, profile)
        session = original_session(material.onnx_model, converted)
        original = _session_function(session, profile)
        plain, output = _with_output(converted, original, config, material, profile, given)
        return plain, _as_scores(original, output), output, _notes(material)
    if material.weights is None and material.found is None:
        log.warning("event=no_checkpoint network=%s reason=%r", config.net, _NO_CHECKPOINT)
    built = material.built or build_network(config, material.weights, material.weights_name)
    images = example_batch(profile, images=(material.found and material.found.batch) or 2)
    one = single_output(built.network, images, wanted=given.output_name)
    notes = (*_notes(material), *(note for note in (built.note, one.note) if note))
    converted, original = from_network(
        one.network,
        profile,
        found=material.found,
        opset=opset_of_export(config),
        exporter=config.exporter,
        input_name=config.input_name,
        output_name=given.output_name or DEFAULT_OUTPUT,
    )
    exact = exact_function(one.network, None if material.found is None else material.found.batch)
    if not is_adopted(config) and not given.says_output:
        return converted, Original(original, exact=exact), Output(), notes
    plain, output = _with_output(converted, original, config, material, profile, given)
    reference = Original(_as_scores(original, output), exact=_as_scores(exact, output))
    return plain, reference, output, notes


def _notes(material: Material) -> tuple[str, ...]:
    return () if material.found is None else material.found.notes


def _with_output(
    converted: ModelProto,
    original: Callable[[NDArray[np.float32]], NDArray[Any]],
    config: ExportConfig,
    material: Material,
    profile: Profile,
    given: Given,
) -> tuple[ModelProto, Output]:
    """Return the model with the output of the plain variant, and what it means: read from some images."""
    images = [*drawn_images()[:IMAGES_OF_OUTPUT], *material.samples]
    inputs = (normalise(fit(sample.image_HWC, profile)[None], profile.levels()) for sample in images)
    raws = ((original(input_1CHW), input_1CHW.shape[2:]) for input_1CHW in inputs)
    output, reason = read_output(raws, given, names=len(config.classes))
    if reason and output.kind != "logits":
        log.info("event=output_recognised kind=%s layout=%s reason=%r", output.kind, output.layout, reason)
    plain = converted if output == Output() else with_plain_output(converted, output)
    return plain, output


def _as_scores(original: Callable[[NDArray[np.float32]], NDArray[Any]], output: Output) -> Reference:
    """Return an original with the output of the plain variant."""
    return lambda batch_NCHW: to_scores(original(batch_NCHW), output, batch_NCHW.shape[2:])


def _in_every_precision(
    plain: ModelProto, config: ExportConfig, material: Material, profile: Profile
) -> Iterator[tuple[Precision, ModelProto]]:
    """Yield the float32 model, and its conversion to each extra precision."""
    yield "fp32", plain
    if not config.precisions:
        return
    frames = [fit(sample.image_HWC, profile) for sample in material.samples or drawn_images()]
    inputs_1CHW = [normalise(frame_HWC[None], profile.levels()) for frame_HWC in frames]
    if "fp16" in config.precisions:
        yield "fp16", to_fp16(plain, inputs_1CHW)
    if "int8" in config.precisions:
        yield "int8", to_int8(plain, inputs_1CHW)


def _of_other_sizes(reference: Reference, profile: Profile) -> tuple[SampleImage, ...]:
    """Return drawn images of small and narrow sizes that the original takes, where the input depends on the image."""
    if profile.is_fixed:
        return ()
    taken = []
    for sample in odd_sized_images():
        rows, columns = input_hw(*sample.size_hw, profile)
        try:
            reference(np.zeros((1, 3, rows, columns), np.float32))
        except ConfigError as error:
            log.warning("event=size_not_taken input=%dx%d reason=%r", rows, columns, str(error))
        else:
            taken.append(sample)
    return tuple(taken)


def _session_function(session: Session, profile: Profile) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """Return a model as it was given as a function of NumPy arrays.

    Raises:
        ConfigError: the function does, where the size of the input depends on the image and the model does not take it.
    """

    def outputs(batch_NCHW: NDArray[np.float32]) -> NDArray[Any]:
        try:
            return session.run(feed(batch_NCHW, profile))
        except RuntimeError as error:
            if profile.is_fixed:
                raise
            raise one_size_only(error) from error

    return outputs


def _with_stride(signature: Signature, reference: Reference, profile: Profile) -> Signature:
    """Return a signature with how many pixels of the input a cell of the output spans, if its size follows the input's.

    Raises:
        ConfigError: padding is to be cropped from scores that are not on a grid of the input's size.
    """
    if profile.is_fixed:
        return signature
    example = example_hw(profile)
    grid = reference(np.zeros((1, 3, *example), np.float32)).shape[2:]
    if profile.needs_input_grid and grid != example:
        raise _coarse_grid(grid, example, profile)
    if None not in signature.output_shape[2:]:
        return signature
    stride = min(side / cells for side, cells in zip(example, grid, strict=True))
    return dataclasses.replace(signature, grid_stride=stride)


def _verify_all(
    reference: Reference,
    models: Mapping[str, bytes],
    profile: Profile,
    config: ExportConfig,
    material: Material,
    output: Output,
    num_classes: int,
) -> ParityReport:
    """Verify the float32 variants, then those of each extra precision."""
    images = (*drawn_images(), *material.samples)
    try:
        report = verify(
            reference,
            Session(models[PLAIN], keep_memory=False),
            Session(models[FUSED], keep_memory=False) if FUSED in models else None,
            profile=profile,
            num_classes=num_classes,
            images=(*images, *unusual_images(), *_of_other_sizes(reference, profile)),
            output=output,
        )
    except ParityLimitError as error:
        if material.onnx_model is None or error.finding:
            raise
        raise ParityLimitError(error.report, advice=ADOPTED) from error
    precisions = tuple(
        compare_precision(
            reference,
            Session(models[variant], keep_memory=False),
            variant=variant,
            limits=PRECISION_LIMITS[precision],
            profile=profile,
            num_classes=num_classes,
            images=images,
            output=output,
        )
        for precision in config.precisions
        for variant in (variant_of(precision, fused=False), variant_of(precision, fused=True))
        if variant in models
    )
    violations = tuple(parity.violation for parity in precisions if parity.violation)
    report = dataclasses.replace(report, precisions=precisions, violations=violations, passed=not violations)
    if violations:
        raise ParityLimitError(report, advice=OTHER_PICTURES)
    return report


def _require_output_grid(logits_NKHW: tuple[int | None, ...], profile: Profile) -> None:
    """Refuse an output grid that the padding of a letterbox cannot be cropped from.

    Raises:
        ConfigError: the profile is a letterbox, and the grid is not the input's.
    """
    grid = logits_NKHW[2:]
    if profile.needs_input_grid and grid != (profile.height_px, profile.width_px):
        raise _coarse_grid(grid, (profile.height_px, profile.width_px), profile)


def _coarse_grid(grid: tuple[int | None, ...], input_hw: tuple[int, int], profile: Profile) -> ConfigError:
    """Return the error of scores from which padding cannot be cropped."""
    return ConfigError(
        f"the network's output grid is {grid[0]}x{grid[1]}, and profile {profile.name!r} pads its input of "
        f"{input_hw[0]}x{input_hw[1]}: the padding can be cropped only from an equal grid; pass "
        "--output-grid input, which enlarges the scores to it first"
    )


def _origin(config: ExportConfig, material: Material, plain: ModelProto, identity: Mapping[str, Any]) -> Origin:
    return Origin(
        network=identity["network"],
        network_options=identity["options"],
        weights_sha256=material.weights_sha256,
        exporter="" if material.onnx_model is not None else config.exporter,
        opset=opset_of(plain),
        ir_version=plain.ir_version,
        tools=identity["tools"],
        request=identity,
        found=_found(material),
    )


def _found(material: Material) -> dict[str, Any]:
    """Return what the model's own files contain, as bundle.json records it."""
    found = material.found
    if found is None:
        return {}
    content = {"family": found.family, **found.document, "classes": found.classes, "files": found.sources}
    recorded: dict[str, Any] = json.loads(json.dumps(content))
    return recorded
