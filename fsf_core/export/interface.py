"""What a model's input and output are: from options, a YAML document, a profile by name, and the model's own file.

Assumes nothing of a model that is not this project's: what is missing is asked for by name. Runs no model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_args

from fsf_core.config import ExportConfig, is_adopted
from fsf_core.errors import ConfigError
from fsf_core.export.model_document import option_of, read_document, read_value
from fsf_core.model.preprocess import PROFILES, Profile
from fsf_core.options import InputLayout, InputType, Interpolation, OutputKind, OutputLayout

DEFAULT_PROFILE = "fastsegformer"
"""Preprocessing of FastSegFormer's networks, and of no other model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInput:
    """What a model's own file fixes about its input; None where it accepts any."""

    name: str
    height_px: int | None
    width_px: int | None
    layout: InputLayout | None
    dtype: InputType


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What the options and the YAML document give of a model's input and output, by the keys of the document."""

    input: Mapping[str, Any]
    found: Mapping[str, Any] = field(default_factory=dict)
    """What the model's own files contain about its input; replaced by everything else."""
    kind: OutputKind | None = None
    layout: OutputLayout | None = None
    output_name: str | None = None


def with_found(given: Given, document: Mapping[str, Mapping[str, Any]], family: str) -> Given:
    """Return what is given, with what the model's own files contain below it.

    Raises:
        ConfigError: a value is of another type or out of range.
    """
    found = {
        section: {
            key: read_value(section, key, value, f"{key} of {section} in the files of this {family} model")
            for key, value in values.items()
        }
        for section, values in document.items()
    }
    output = found.get("output", {})
    return replace(
        given,
        found=found.get("input", {}),
        kind=given.kind or output.get("kind"),
        layout=given.layout or output.get("layout"),
        output_name=given.output_name or output.get("name"),
    )


def read_given(config: ExportConfig) -> Given:
    """Return what is given; options replace entries of the document.

    Raises:
        ConfigError: the document is no such document, or a value is of another type or out of range.
    """
    document = {} if config.model_config is None else read_document(config.model_config)
    options: dict[str, dict[str, Any]] = {
        "input": {
            "size": config.input_size,
            "resize": config.resize,
            "interpolation": config.interpolation,
            "channel_order": config.channel_order,
            "scale": config.scale,
            "mean": config.mean or None,
            "std": config.std or None,
            "padding": config.padding or None,
            "align": config.align,
            "layout": config.input_layout,
        },
        "output": {"kind": config.output_kind, "layout": config.output_layout, "name": config.output_name},
    }
    found: dict[str, dict[str, Any]] = {"input": {}, "output": {}}
    for section, values in found.items():
        for key, value in document.get(section, {}).items():
            values[key] = read_value(section, key, value, f"{key} of {section} in {config.model_config}")
        for key, value in options[section].items():
            if value is not None:
                values[key] = read_value(section, key, value, option_of(section, key))
    output = found["output"]
    return Given(
        input=found["input"], kind=output.get("kind"), layout=output.get("layout"), output_name=output.get("name")
    )


_REQUIRED = ("size", "resize", "interpolation", "channel_order", "scale", "mean", "std")
_LABELS = {
    "size": "the size (height and width)",
    "resize": "how images are resized (stretch or letterbox)",
    "channel_order": "the channel order (rgb or bgr)",
    "scale": "the scale (divisor of the levels 0 to 255)",
    "padding": "the padding of the letterbox",
    "layout": "the layout (NCHW or NHWC)",
}
_UINT8 = {"scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
"""What a uint8 input takes: the levels as they are."""


def profile_of(config: ExportConfig, given: Given, file: FileInput | None = None) -> Profile:
    """Return the preprocessing of a model.

    Args:
        config: names the model, and perhaps a profile.
        given: what is given beside the profile.
        file: what the file of an ONNX model fixes; None for a network.

    Raises:
        ConfigError: something is missing, or contradicts the file.
    """
    base = _base(config)
    own = _facts_of(file)
    known = {**given.found, **({} if base is None else _as_keys(base))}
    known |= {} if own.get("dtype") != "uint8" or base is not None else _UINT8
    known |= {key: value for key, value in own.items() if key != "size"}
    _require_no_contradiction(config, given, own)
    size = _size_of(own, given, known, config)
    known |= dict(given.input)
    known |= {"size": size} if size else {}
    required = [*_REQUIRED, "layout", *(["padding"] if known.get("resize") == "letterbox" else [])]
    missing = [key for key in required if key not in known]
    if missing:
        raise ConfigError(_question(config, known, missing))
    if known["dtype"] == "uint8" and any(known[key] != value for key, value in _UINT8.items()):
        found = ", ".join(f"{key} {_shown(known[key])}" for key in _UINT8)
        raise ConfigError(
            f"the input of {config.onnx} is uint8, which takes the levels 0 to 255 as they are, but found {found}; "
            "pass --scale 1 --mean 0 --std 1, or export the model with a float input"
        )
    return _as_profile(known)


def _base(config: ExportConfig) -> Profile | None:
    """Return the profile that is named, or that FastSegFormer's networks have; None if there is none.

    Raises:
        ConfigError: no profile has this name.
    """
    name = config.profile or (None if is_adopted(config) else DEFAULT_PROFILE)
    if name is not None and name not in PROFILES:
        raise ConfigError(f"profile {name!r} is unknown; choose one of {', '.join(PROFILES)}")
    return None if name is None else PROFILES[name]


def _facts_of(file: FileInput | None) -> dict[str, Any]:
    """Return what is fixed by the model itself; sides of the size are None where any is accepted."""
    if file is None:
        return {"layout": "NCHW", "dtype": "float32", "size": (None, None)}
    facts: dict[str, Any] = {"dtype": file.dtype, "size": (file.height_px, file.width_px)}
    return facts | ({"layout": file.layout} if file.layout else {})


def _require_no_contradiction(config: ExportConfig, given: Given, own: Mapping[str, Any]) -> None:
    """Compare what is given with what the model fixes.

    Raises:
        ConfigError: they differ.
    """
    for key in ("layout", "dtype"):
        if key in given.input and given.input[key] != own.get(key, given.input[key]):
            raise ConfigError(
                f"the {key} of the input is given as {given.input[key]}, but the input of {config.onnx or config.net} "
                f"is {own[key]}; leave it out"
            )


def _size_of(
    own: Mapping[str, Any],
    given: Given,
    known: Mapping[str, Any],
    config: ExportConfig,
) -> tuple[int, int] | None:
    """Return the size of the input, or None if a side is missing.

    Raises:
        ConfigError: the file has another size than what is given, or than the profile.
    """
    chosen = given.input.get("size") or known.get("size")
    fixed = own["size"]
    if chosen is None:
        return None if None in fixed else fixed
    if any(side not in {None, wanted} for side, wanted in zip(fixed, chosen, strict=True)):
        found = f"the input of {config.onnx} is fixed at {_shown(fixed)}"
        if "size" in given.input:
            raise ConfigError(f"{found}, but the size is given as {_shown(chosen)}; leave it out")
        rest = {"size": fixed, "layout": own.get("layout"), "dtype": own["dtype"]}
        raise ConfigError(
            f"{found}, but profile {config.profile!r} has {_shown(chosen)}; pass --input-size {_shown(fixed)} too if "
            f"only the size differs, or in place of the profile --model-config FILE.yaml with {_template(rest)}"
        )
    return chosen  # type: ignore[no-any-return] # of _size, or of a profile


def _question(config: ExportConfig, known: Mapping[str, Any], missing: list[str]) -> str:
    """Return what is missing, how to give it, and the YAML to fill in."""
    model = config.onnx or config.model or f"network {config.net!r}"
    names = [_LABELS.get(key, f"the {key}") for key in missing]
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    options = ", ".join(option_of("input", key) for key in missing)
    return (
        f"the preprocessing of {model} is not known: missing {'is' if len(names) == 1 else 'are'} {listed}; "
        f"pass {options}, or --model-config FILE.yaml with {_template(known)}, or --profile {DEFAULT_PROFILE} "
        f"if the model takes what FastSegFormer takes: {PROFILES[DEFAULT_PROFILE].describe()}"
    )


def _template(known: Mapping[str, Any]) -> str:
    """Return a YAML document on one line: what is known, and the choices for the rest."""
    blanks = {
        "size": "HEIGHTxWIDTH",
        "layout": "NCHW|NHWC",
        "dtype": "float32",
        "resize": "stretch|letterbox",
        "interpolation": "|".join(get_args(Interpolation)),
        "channel_order": "rgb|bgr",
        "scale": "255|1",
        "mean": "[0, 0, 0]|…",
        "std": "[1, 1, 1]|…",
    }
    if known.get("resize") == "letterbox":
        blanks["padding"] = "[114, 114, 114]|…"
    entries = [f"{key}: {_shown(known[key]) if known.get(key) else blank}" for key, blank in blanks.items()]
    return "{input: {" + ", ".join(entries) + "}}"


def _shown(value: Any) -> str:
    """Return a value as the document holds it."""
    if isinstance(value, tuple) and len(value) == 2:  # noqa: PLR2004 - a size
        return "x".join("free" if side is None else str(side) for side in value)
    if isinstance(value, tuple):
        return f"[{', '.join(f'{number:g}' for number in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _as_keys(profile: Profile) -> dict[str, Any]:
    """Return a profile by the keys of the document."""
    return {
        "size": (profile.height_px, profile.width_px),
        "resize": profile.mode,
        **{name: getattr(profile, name) for name in _SHARED},
    }


def _as_profile(known: Mapping[str, Any]) -> Profile:
    """Return the profile; if it is one that has a name, under that name."""
    height_px, width_px = known["size"]
    rest = {name: known[name] for name in _SHARED if name in known}
    custom = Profile(
        name="custom",
        height_px=height_px,
        width_px=width_px,
        mode=known["resize"],
        **{"honour_exif": True, **rest},
    )
    named = (profile.name for profile in PROFILES.values() if replace(custom, **_unfed(profile)) == profile)
    return replace(custom, name=next(named, custom.name))


def _unfed(profile: Profile) -> dict[str, Any]:
    """Return the fields in which a profile may differ and have its name: how the model as given is fed."""
    return {name: getattr(profile, name) for name in ("name", "layout", "dtype")}


_SHARED = tuple(entry.name for entry in fields(Profile) if entry.name not in {"name", "height_px", "width_px", "mode"})
"""Fields of a profile that are keys of the document under the same name."""
