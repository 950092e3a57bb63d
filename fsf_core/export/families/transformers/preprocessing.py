"""The image processor of a folder of transformers, as the keys of a document.

The processor is the one that AutoImageProcessor gives, so that defaults and old spellings are the library's own; what
it computes from drawn images is compared with what the document makes of them.
"""

# H×W pixels, C channels

import inspect
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import transformers
from numpy.typing import NDArray
from PIL import Image

from fsf_core.errors import InterruptedRunError
from fsf_core.export.families.transformers.folder import read_json
from fsf_core.export.foreign import FOREIGN, in_one_line
from fsf_core.export.input_keys import as_profile
from fsf_core.export.model_document import read_value
from fsf_core.model.preprocess import Profile, fit, input_hw, normalise
from fsf_core.options import Interpolation

_OWN_FILE, _WHOLE_FILE = "preprocessor_config.json", "processor_config.json"
_NESTED = "image_processor"
"""Key of the second, which holds what the first has otherwise."""
_CHECKED_HW = ((48, 64), (65, 51), (211, 137), (90, 300), (1500, 1100))
"""Sizes of the images that both are compared on; the last is one that is shrunk, where filters with antialiasing differ
from others."""
_EXACT, _ROUNDED = 0.01, 1.01
"""Levels of 0 to 255 by which a value may differ: by float rounding, and by one step of a filter's rounding."""
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers of filters."""
_NO_PIXELS = {
    "_processor_class",
    "_valid_processor_keys",
    "auto_map",
    "class_info_file",
    "crop_size",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_convert_annotations",
    "do_convert_rgb",
    "do_reduce_labels",
    "feature_extractor_type",
    "format",
    "ignore_index",
    "image_processor_type",
    "input_data_format",
    "keypoint_heatmap_downscale_factor",
    "keypoint_heatmap_sigma",
    "max_size",
    "metadata",
    "num_labels",
    "num_text",
    "pad_and_return_pixel_mask",
    "processor_class",
    "reduce_labels",
    "repo_path",
    "return_tensors",
    "transformers_version",
    "use_fast",
}
"""Keys of the file that change no pixel by themselves; crop_size does with do_center_crop, max_size through size."""
_STEPS = {
    "crop_size",
    "do_center_crop",
    "do_flip_channel_order",
    "do_normalize",
    "do_pad",
    "do_rescale",
    "do_resize",
    "do_split_image",
    "ensure_multiple_of",
    "image_mean",
    "image_std",
    "keep_aspect_ratio",
    "pad_size",
    "resample",
    "rescale_factor",
    "size",
    "size_divisor",
}
"""Keys that this module understands."""
_OWN_STEPS = {"do_center_crop", "do_flip_channel_order", "do_pad", "do_split_image"}
"""Steps that only some processors have."""
_LEVELS = ("channel_order", "scale", "mean", "std")
"""Keys of the normalisation. The others are of the geometry: one without the rest would be another geometry."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """What a folder contains about the model's input."""

    file: str
    """Name of the file that holds it."""
    document: Mapping[str, Any] = field(default_factory=dict)
    """Keys of `input`; without those of the resize, or without any, where they cannot be taken."""
    size: Any = None
    """The processor's own record of its size."""
    notes: tuple[str, ...] = ()
    why_not: str = ""
    """Why the document lacks what the file has."""


class _NotTakenError(Exception):
    """The processor does what no keys of a document can express."""

    def __init__(self, found: str, *keys: str) -> None:
        super().__init__(found)
        self.keys = keys
        """Those that are left to be asked for; all of the geometry without any."""


def read_preprocessing(path: Path, config: Mapping[str, Any]) -> Preprocessing:
    """Return what the folder contains; nothing where it has no file of an image processor."""
    file = _file_of(path)
    if file is None:
        return Preprocessing(file=_OWN_FILE)
    document: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    try:
        content = read_json(file)
        content = content[_NESTED] if file.name == _WHOLE_FILE else content
        processor = _load(content, config)
        _require_understood(processor, content)
        facts = facts_of(processor)
        document |= _levels(facts)
        document |= _sizes(facts) | _crop(facts)
        document |= {"interpolation": _interpolation(processor, facts)} if facts.get("do_resize") else {}
        rounding = _compared(processor, document)
    except InterruptedRunError:
        raise
    except _NotTakenError as error:
        kept = {key: value for key, value in document.items() if _is_kept(key, error.keys)}
        reason = f"{file.name} is not taken over whole: {error}"
        return Preprocessing(file=file.name, document=kept, size=facts.get("size"), why_not=reason)
    except FOREIGN as error:
        return Preprocessing(file=file.name, why_not=f"{file.name} cannot be read: {in_one_line(error)}")
    notes = (*_crop_note(document), *rounding)
    return Preprocessing(file=file.name, document=document, size=facts.get("size"), notes=notes)


def _file_of(path: Path) -> Path | None:
    """Return the file with the settings, in the order of the library: of a whole processor where they are in it."""
    whole, own = path / _WHOLE_FILE, path / _OWN_FILE
    try:
        is_nested = whole.is_file() and _NESTED in read_json(whole)
    except (OSError, ValueError):
        return whole  # reading it gives the reason
    return whole if is_nested else own if own.is_file() else None


def _is_kept(key: str, lost: Sequence[str]) -> bool:
    return key not in lost if lost else key in _LEVELS


def _load(content: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """Return the library's image processor of these settings."""
    with tempfile.TemporaryDirectory(prefix="fsf-processor-") as folder:
        _write_copy(Path(folder), content, config)
        auto: Any = transformers.AutoImageProcessor
        return auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _write_copy(folder: Path, content: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Write the processor's file without what the library would fetch from its hub: OneFormer's list of texts."""
    kept = {key: value for key, value in content.items() if key not in {"class_info_file", "repo_path"}}
    (folder / _OWN_FILE).write_text(json.dumps(kept))
    (folder / "config.json").write_text(json.dumps({"model_type": config["model_type"]}))


def _require_understood(processor: Any, content: Mapping[str, Any]) -> None:
    """Refuse keys that may change pixels and that the processor ignores, or that this module does not know.

    Raises:
        _NotTakenError: there is one.
    """
    divisor = content.get("size_divisibility")
    known = (
        _NO_PIXELS | _STEPS | ({"size_divisibility"} if divisor == getattr(processor, "size_divisor", None) else set())
    )
    taken = _parameters(processor)
    unknown = {key for key, value in content.items() if value and key not in known}
    unknown |= {key for key in taken - known if getattr(processor, key, None)}
    ignored = {key for key, value in content.items() if value and key in _OWN_STEPS - taken}
    for keys, why in ((unknown, "unknown here"), (ignored, f"ignored by {type(processor).__name__} itself")):
        if keys:
            raise _NotTakenError(f"{', '.join(sorted(keys))} may change pixels, and is {why}")


def _parameters(processor: Any) -> set[str]:
    """Return what the processor's own steps take; what is not among it they ignore."""
    return set(inspect.signature(type(processor)._preprocess).parameters)  # noqa: SLF001 - no public name


def facts_of(processor: Any) -> dict[str, Any]:
    """Return the settings that the processor applies."""
    taken = _parameters(processor) & _STEPS
    return {key: value for key in taken if (value := getattr(processor, key, None)) is not None}


def _levels(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of the normalisation."""
    scale = 1 / facts["rescale_factor"] if facts.get("do_rescale") else 1.0
    scale = round(scale) if math.isclose(scale, round(scale), rel_tol=1e-6) else scale
    normalised = facts.get("do_normalize")
    mean, std = (facts["image_mean"], facts["image_std"]) if normalised else (0.0, 1.0)
    return {
        "channel_order": "bgr" if facts.get("do_flip_channel_order") else "rgb",
        "scale": scale,
        "mean": _three(mean),
        "std": _three(std),
    }


def _three(value: Any) -> list[float]:
    return [float(value)] * 3 if isinstance(value, int | float) else [float(part) for part in value]


def _sizes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of the resize.

    Raises:
        _NotTakenError: no keys can express it, or the padding behind it.
    """
    if reason := _why_padded_badly(facts):
        raise _NotTakenError(reason)
    if not facts.get("do_resize"):
        return {"resize": "own"}
    size = dict(facts["size"])
    rows, columns = size.get("height"), size.get("width")
    short, longest = size.get("shortest_edge"), size.get("longest_edge")
    if rows and columns:
        return _fixed_size(facts, rows, columns)
    if short and (longest or "size_divisor" not in facts):
        keys: dict[str, Any] = {"resize": "short-side", "short_side": short, "rounding": "truncate"}
        keys |= {"max_long_side": longest, "rounding": "detr"} if longest else {}
        step = facts.get("size_divisor") or 1
        return keys | ({"multiple_of": step, "to_multiple": "resize-up"} if step > 1 else {})
    raise _NotTakenError(f"images are resized to {size}, which is neither height and width nor shortest_edge")


def _fixed_size(facts: Mapping[str, Any], rows: int, columns: int) -> dict[str, Any]:
    """Return the keys of a resize to rows and columns, in multiples where the processor rounds to them."""
    if "keep_aspect_ratio" not in facts:
        step = facts.get("size_divisor") or 1
        return {"resize": "stretch", "size": f"{math.ceil(rows / step) * step}x{math.ceil(columns / step) * step}"}
    step = facts.get("ensure_multiple_of") or 1
    if facts["keep_aspect_ratio"]:
        keys = {"resize": "closest-side", "size": f"{rows}x{columns}"}
        return keys | ({"multiple_of": step, "to_multiple": "resize"} if step > 1 else {})
    return {"resize": "stretch", "size": f"{round(rows / step) * step}x{round(columns / step) * step}"}


def _crop(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of the crop, if it cuts or pads anything."""
    size = dict(facts.get("size") or {})
    crop = dict(facts.get("crop_size") or {})
    if not facts.get("do_center_crop") or not crop:
        return {}
    rows, columns = crop["height"], crop["width"]
    if facts.get("do_resize") and (size.get("height"), size.get("width")) == (rows, columns):
        return {}
    return {"crop": f"{rows}x{columns}", "uncovered": "stretch", "padding": [0, 0, 0], "align": "centre"}


def _crop_note(document: Mapping[str, Any]) -> tuple[str, ...]:
    if "crop" not in document:
        return ()
    note = (
        f"the processor crops images to their centre, {document['crop']}, and its post-processing stretches the scores "
        "of the crop over the whole image, so that masks are shifted; --uncovered CLASS puts them in their place"
    )
    return (note,)


def _why_padded_badly(facts: Mapping[str, Any]) -> str:
    """Return why the padding of the processor cannot be followed, or ""."""
    size, pad_size = dict(facts.get("size") or {}), dict(facts.get("pad_size") or {})
    sides = (size.get("height") or 0, size.get("width") or 0)
    is_fixed = bool(facts.get("do_resize")) and min(sides) > 0
    if facts.get("do_split_image"):
        return "the processor splits images into overlapping windows and joins their scores, which is not supported"
    padded = facts.get("do_pad") or ("do_pad" not in facts and pad_size)
    to_other_size = pad_size and not (is_fixed and (pad_size.get("height"), pad_size.get("width")) == sides)
    if padded and ("do_split_image" in facts or to_other_size):
        return "the processor pads images, and its semantic post-processing stretches the padding over the image too"
    step = facts.get("size_divisor") or 1
    if "keep_aspect_ratio" in facts and padded and not (is_fixed and all(side % step == 0 for side in sides)):
        return "the processor pads normalised images with 0, which is no level of an image"
    return ""


def _interpolation(processor: Any, facts: Mapping[str, Any]) -> str:
    """Return the filter of the processor's library."""
    resample = facts.get("resample")
    number = 2 if resample is None else getattr(resample, "value", resample)
    name = str(number) if isinstance(number, str) else _FILTERS[int(number)]
    torch_name = f"torchvision-{name}"
    own = processor.backend == "torchvision" and torch_name in get_args(Interpolation)
    return torch_name if own else f"pil-{name}"


def _compared(processor: Any, document: Mapping[str, Any]) -> tuple[str, ...]:
    """Compare what processor and document make of drawn images; returns a note where a filter rounds otherwise.

    Raises:
        _NotTakenError: they differ by more.
    """
    name = type(processor).__name__
    known = {key: read_value("input", key, value, key) for key, value in document.items()}
    profile = as_profile({"layout": "NCHW", "dtype": "float32", **known})
    worst, share = 0.0, 0.0
    for number, (rows, columns) in enumerate(_CHECKED_HW):
        plain_HWC = np.full((rows, columns, 3), (10 + number, 200, 90 - number), np.uint8)
        expected_CHW = _processed(processor, plain_HWC)
        if expected_CHW.shape[1:] != input_hw(rows, columns, profile):
            size = "x".join(map(str, expected_CHW.shape[1:]))
            found = f"{name} makes {size} of an image of {rows}x{columns}, which its settings do not explain"
            raise _NotTakenError(found)
        if _levels_apart(plain_HWC, expected_CHW, profile).max() > _ROUNDED:
            raise _NotTakenError(f"{name} normalises otherwise than its settings", *document)
        image_HWC = _drawn(rows, columns, seed=number)
        apart_CHW = _levels_apart(image_HWC, _processed(processor, image_HWC), profile)
        worst, share = max(worst, float(apart_CHW.max())), max(share, float((apart_CHW > _EXACT).mean()))
    if worst > _ROUNDED:
        found = f"the filter of {name} differs from {known['interpolation']} by up to {worst:.3g} of 255 levels"
        raise _NotTakenError(found, "interpolation")
    if worst <= _EXACT:
        return ()
    note = (
        f"{known['interpolation']} rounds otherwise than {name} of transformers {transformers.__version__}: up to "
        f"{share:.1%} of the values of drawn images differ, by at most one level"
    )
    return (note,)


def _processed(processor: Any, image_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    image = Image.fromarray(np.ascontiguousarray(image_HWC[..., ::-1]))
    return np.asarray(processor(images=image, return_tensors="np")["pixel_values"][0], np.float32)


def _levels_apart(
    image_HWC: NDArray[np.uint8], expected_CHW: NDArray[np.float32], profile: Profile
) -> NDArray[np.float32]:
    """Return by how much the values differ, as levels of 0 to 255."""
    found_CHW = normalise(fit(image_HWC, profile)[None], profile.levels())[0]
    step_C = np.asarray(profile.std, np.float32) * np.float32(profile.scale)
    return np.asarray(np.abs(found_CHW - expected_CHW) * step_C[:, None, None], np.float32)


def _drawn(rows: int, columns: int, *, seed: int) -> NDArray[np.uint8]:
    """Return a BGR image of smooth colours and hard edges."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 7, 3)).astype(np.uint8))
    image_HWC = np.array(coarse.resize((columns, rows), Image.Resampling.BICUBIC))
    image_HWC[rows // 3 : rows // 2, columns // 4 : columns // 2] = (250, 3, 128)
    return image_HWC
