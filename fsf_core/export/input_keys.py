"""What the keys of a document's `input:` need of each other, and the profile that they make together.

Knows keys, their combinations and their names. Knows no options, no files and no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, get_args

from fsf_core.errors import ConfigError, did_you_mean
from fsf_core.model.preprocess import PROFILES, STRETCHED, Profile
from fsf_core.options import Align, FitMode, Interpolation, Rounding, ToMultiple

_MODES: Mapping[str, tuple[FitMode, ...]] = {
    "size": ("stretch", "letterbox", "closest-side"),
    "short_side": ("short-side",),
    "max_long_side": ("short-side",),
    "rounding": ("letterbox", "short-side"),
    "crop": ("stretch", "short-side", "own"),
}
"""Keys that have a meaning with some ways of resizing only."""

_NEEDS = {"uncovered": "crop", "to_multiple": "multiple_of"}
"""Keys that have a meaning beside another only."""

LABELS = {
    "size": "the size (height and width)",
    "resize": f"how images are resized ({', '.join(get_args(FitMode))})",
    "short_side": "the length of the shorter side",
    "rounding": "the rounding of the longer side",
    "uncovered": "what pixels outside of the crop get",
    "to_multiple": "how sides become multiples (pad or resize)",
    "channel_order": "the channel order (rgb or bgr)",
    "scale": "the scale (divisor of the levels 0 to 255)",
    "padding": "the levels of the padding",
    "align": "where the image is in its padding (centre or top-left)",
    "layout": "the layout (NCHW or NHWC)",
}
_CHOICES = {
    "size": "HEIGHTxWIDTH",
    "layout": "NCHW|NHWC",
    "dtype": "float32",
    "resize": "|".join(get_args(FitMode)),
    "short_side": "512|…",
    "max_long_side": "2048|…",
    "rounding": "|".join(get_args(Rounding)),
    "multiple_of": "32|…",
    "to_multiple": "|".join(get_args(ToMultiple)),
    "crop": "HEIGHTxWIDTH",
    "uncovered": f"{STRETCHED}|CLASS",
    "interpolation": "|".join(get_args(Interpolation)),
    "channel_order": "rgb|bgr",
    "scale": "255|1",
    "mean": "[0, 0, 0]|…",
    "std": "[1, 1, 1]|…",
    "padding": "[114, 114, 114]|…",
    "align": "|".join(get_args(Align)),
}
_ALWAYS_SHOWN = ("size", "layout", "dtype", "resize", "interpolation", "channel_order", "scale", "mean", "std")
"""Keys of the document that is proposed; `size` where the way of resizing has one."""


def has_meaning(key: str, mode: FitMode | None) -> bool:
    """Return whether a key has a meaning with this way of resizing."""
    return mode is None or mode in _MODES.get(key, (mode,))


def size_key(known: Mapping[str, Any]) -> str | None:
    """Return the key that holds the size of the model's input; None where it depends on the image."""
    if "crop" in known:
        return "crop"
    fixed = {"stretch"} if known.get("multiple_of", 1) > 1 else {"stretch", "letterbox"}
    return "size" if known.get("resize", "stretch") in fixed else None


def without_lost_keys(known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys without those that a profile or a family brings for another key that is replaced."""
    lost = {key for key, other in _NEEDS.items() if other not in known and key not in given}
    return {key: value for key, value in known.items() if key not in lost}


def missing_keys(known: Mapping[str, Any]) -> list[str]:
    """Return the keys that have to be given beside those that are."""
    mode = known.get("resize")
    required = ["resize", "channel_order", "scale", "mean", "std", "layout"]
    if mode in {None, *_MODES["size"]}:
        required.insert(0, "size")
    if mode != "own" or _is_resized_to_multiples(known):
        required.insert(required.index("resize") + 1, "interpolation")
    if mode == "short-side":
        required += ["short_side"] if _is_resized_to_multiples(known) else ["short_side", "rounding"]
    if "crop" in known:
        required.append("uncovered")
    if "multiple_of" in known and mode not in {"stretch", "letterbox"} and "crop" not in known:
        required += ["to_multiple"]
        required += ["align"] if known.get("to_multiple") == "pad" else []
    if _may_pad(known) and known.get("padding_mode", "constant") == "constant":
        required.append("padding")
    return [key for key in required if key not in known]


def _is_resized_to_multiples(known: Mapping[str, Any]) -> bool:
    return "multiple_of" in known and known.get("to_multiple", "pad") != "pad"


def _may_pad(known: Mapping[str, Any]) -> bool:
    """Return whether some images have padding."""
    mode = known.get("resize")
    if "crop" in known:
        least = known.get("size", ()) if mode == "stretch" else (known.get("short_side", known["crop"][0]),) * 2
        beyond = any(side > limit for side, limit in zip(known["crop"], least, strict=False))
        return mode == "own" or "max_long_side" in known or beyond
    if _is_resized_to_multiples(known):
        return False
    return mode == "letterbox" or ("multiple_of" in known and "to_multiple" in known and mode != "stretch")


def require_combination(known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Compare the keys with each other.

    Args:
        known: all of them.
        given: those that neither a profile nor the model's file brings.

    Raises:
        ConfigError: one has no meaning beside the others, or contradicts them.
    """
    mode = known.get("resize")
    for key in given:
        if not has_meaning(key, mode):
            raise ConfigError(
                f"found {key} with resize {mode}, expected it with {' or '.join(_MODES[key])} alone; leave it out, or "
                "change resize"
            )
        if key in _NEEDS and _NEEDS[key] not in known:
            raise ConfigError(f"found {key} without {_NEEDS[key]}, expected both or neither; add it, or leave it out")
    if known.get("max_long_side", known.get("short_side", 0)) < known.get("short_side", 0):
        raise ConfigError(
            f"found max_long_side {known['max_long_side']} below short_side {known['short_side']}, expected the longer "
            "side to be allowed at least as much; correct them"
        )
    if known.get("rounding") == "detr" and mode == "letterbox":
        raise ConfigError(
            "found rounding detr with resize letterbox, expected it with short-side alone; choose another"
        )
    step = known.get("multiple_of", 1)
    key = "crop" if "crop" in known else "size"
    rectangle = mode == "letterbox" and not _is_resized_to_multiples(known)
    divided = key in known and (key == "crop" or mode == "stretch" or rectangle)
    if divided and any(side % step for side in known[key]):
        raise ConfigError(
            f"found {key} {shown_value(known[key])} with multiple_of {step}, expected both sides to be multiples; "
            "correct one of them"
        )


def require_class(profile: Profile, classes: Sequence[str]) -> None:
    """Compare the class of pixels outside of a crop with the names of the classes.

    Raises:
        ConfigError: no class has this name.
    """
    if profile.uncovered not in {STRETCHED, *classes}:
        raise ConfigError(
            f"uncovered is {profile.uncovered!r}{did_you_mean(profile.uncovered, classes)}, "
            f"expected {STRETCHED} or the name of a class; correct it"
        )


def as_keys(profile: Profile) -> dict[str, Any]:
    """Return a profile by the keys of the document."""
    shared = {key: getattr(profile, name) for key, name in _FIELDS.items()}
    absent = {key for key in _UNLESS_DEFAULT if shared[key] == getattr(PROFILES["fastsegformer"], _FIELDS[key])}
    keys = {key: value for key, value in shared.items() if key not in absent}
    keys["resize"] = profile.mode
    if has_meaning("size", profile.mode):
        keys["size"] = profile.resize_hw
    if profile.cropped:
        keys |= {"crop": (profile.height_px, profile.width_px), "uncovered": profile.uncovered}
    return keys


def as_profile(known: Mapping[str, Any]) -> Profile:
    """Return the profile of complete keys; if it is one that has a name, under that name."""
    mode = known["resize"]
    key = size_key(known)
    height_px, width_px = known[key] if key else (0, 0)
    own = {name: known[key] for key, name in _FIELDS.items() if key in known and has_meaning(key, mode)}
    if key:  # its size is a multiple already
        own = {name: value for name, value in own.items() if name not in {"multiple_of", "to_multiple"}}
    size = known["size"] if has_meaning("size", mode) else None
    custom = Profile(
        name="custom",
        height_px=height_px,
        width_px=width_px,
        mode=mode,
        target_hw=None if size == (height_px, width_px) else size,
        cropped=key == "crop",
        **{"honour_exif": True, "interpolation": "linear", **own},  # own without multiples is not resized
    )
    named = (profile.name for profile in PROFILES.values() if replace(custom, **_unfed(profile)) == profile)
    return replace(custom, name=next(named, custom.name))


def _unfed(profile: Profile) -> dict[str, Any]:
    """Return the fields in which a profile may differ and have its name: how the model as given is fed."""
    return {name: getattr(profile, name) for name in ("name", "layout", "dtype")}


_NO_KEYS = {"name", "height_px", "width_px", "mode", "target_hw", "cropped"}
_FIELDS = {entry.name.removesuffix("_px"): entry.name for entry in fields(Profile) if entry.name not in _NO_KEYS}
"""Keys of the document that are fields of a profile."""
_UNLESS_DEFAULT = ("short_side", "max_long_side", "multiple_of", "to_multiple", "uncovered")
"""Keys that a profile brings only where it has their step."""


def template(known: Mapping[str, Any]) -> str:
    """Return a YAML document on one line: what is known, and the choices for the rest."""
    entries = [f"{key}: {shown_value(known[key]) if known.get(key) else choices}" for key, choices in shown_keys(known)]
    return "{input: {" + ", ".join(entries) + "}}"


def shown_keys(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the keys of a document that is proposed, each with its choices."""
    mode = known.get("resize")
    wanted = {*_ALWAYS_SHOWN, *missing_keys(known), *(key for key in (*_UNLESS_DEFAULT, "crop") if key in known)}
    return [(key, choices) for key, choices in _CHOICES.items() if key in wanted and has_meaning(key, mode)]


def shown_value(value: Any) -> str:
    """Return a value as the document holds it."""
    if isinstance(value, tuple) and len(value) == 2:  # noqa: PLR2004 - a size
        return "x".join("free" if side is None else str(side) for side in value)
    if isinstance(value, tuple):
        return f"[{', '.join(f'{number:g}' for number in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
