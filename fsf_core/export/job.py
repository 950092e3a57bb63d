"""The export job from end to end: build, convert, fuse, verify, save. A miss at any step leaves nothing behind.

Knows the order of the steps; cheap checks come first. An equal request that lies in the folder already is not exported
again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fsf_core import storage
from fsf_core.errors import OutputError
from fsf_core.export.material import gather
from fsf_core.export.request import Request, differences, identity_of, sha256_of, tools_of
from fsf_core.model.bundle import DOCUMENT, Bundle, load_bundle, read_model, require_free, save_bundle
from fsf_core.model.preprocess import PROFILES


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What an export leaves."""

    bundle: Bundle
    reused: bool
    """Whether the folder held the bundle of this request already."""


def export(request: Request, *, out: str, show_graph: Callable[[str], object] | None = None) -> Exported:
    """Make a bundle, prove it, save it; or find that it lies there already.

    Args:
        request: what is to be exported.
        out: folder of the bundle: new, empty, or holding the bundle of the same request.
        show_graph: is given the graph as text, before the gate judges it.

    Raises:
        RunError: the weights do not fit, the graph cannot be written, the gate misses (ParityMissError, with the
            report), or the folder is taken. Nothing is left behind.
    """
    tools_of(request)  # first: the next step imports them
    material = gather(request)
    identity = identity_of(
        request,
        weights_sha256=material.weights_sha256,
        samples_sha256=[sha256_of(picture.image_HWC.tobytes()) for picture in material.samples],
    )
    standing = _existing_bundle(out, identity)
    if standing is not None:
        if show_graph is not None:
            show_graph(_stored_graph(standing))
        return Exported(bundle=standing, reused=True)

    from fsf_core.export.make import make

    made = make(request, material, identity, show_graph)
    bundle = save_bundle(
        out,
        classes=request.classes,
        palette=request.palette[: len(request.classes)],
        profile=PROFILES[request.profile],
        signature=made.signature,
        origin=made.origin,
        models=made.models,
        parity=made.report.to_json(),
    )
    return Exported(bundle=bundle, reused=False)


def _existing_bundle(out: str, identity: Mapping[str, Any]) -> Bundle | None:
    """The bundle of the same request, if it lies in the folder; another one is refused with what differs."""
    if not storage.exists(storage.join(out, DOCUMENT)):
        require_free(out)
        return None
    bundle = load_bundle(out)
    if differing := differences(identity, bundle.origin.request):
        raise OutputError(
            f"{out} holds the bundle of another request, which differs in {', '.join(differing)}; "
            "choose another --out, or remove that folder"
        )
    return bundle


def _stored_graph(bundle: Bundle) -> str:
    import onnx

    from fsf_core.export.graph import printable

    return printable(onnx.load_model_from_string(read_model(bundle)))
