"""What a model's input and output are: from options, a YAML document, a profile by name, and the model's own file.

Assumes nothing of a model that is not this project's: what is missing is asked for by name. Runs no model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fsf_core.config import ExportConfig, is_adopted
from fsf_core.errors import ConfigError
from fsf_core.export.families.found import FoundModel
from fsf_core.export.input_keys import (
    LABELS,
    as_keys,
    as_profile,
    has_meaning,
    missing_keys,
    require_combination,
    shown_value,
    size_key,
    template,
    without_lost_keys,
)
from fsf_core.export.model_document import option_of, read_document, read_value
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import PROFILES, Profile
from fsf_core.options import (
    Corners,
    InputLayout,
    InputType,
    OutputGrid,
    OutputKind,
    OutputLayout,
    Resized,
)

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
    takes_levels: bool = False
    """Whether it takes whole levels of 0 to 255 although its type is another."""


def input_of_network(found: FoundModel) -> FileInput:
    """Return what is fixed about the input of a network that was read from its own files."""
    height_px, width_px = found.input_hw
    return FileInput(
        name="input",
        height_px=height_px,
        width_px=width_px,
        layout="NCHW",
        dtype="float32",
        takes_levels=found.takes_levels,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What the options and the YAML document give of a model's input and output, by the keys of the document."""

    input: Mapping[str, Any]
    found: Mapping[str, Any] = field(default_factory=dict)
    """What the model's own files contain about its input; replaced by everything else."""
    kind: OutputKind | None = None
    layout: OutputLayout | None = None
    output_name: str | None = None
    advice: str = ""
    """What fits the model, for the question about what is missing."""
    resized: Resized | None = None
    grid: OutputGrid | None = None
    corners: Corners | None = None
    threshold: float | None = None

    @property
    def says_output(self) -> bool:
        """Return whether anything but the name of the output is given."""
        return any(value is not None for value in (self.kind, self.layout, *self.treatment.values()))

    @property
    def treatment(self) -> dict[str, Any]:
        """Return what is given of how scores become class maps, as fields of Output; defaults are left out."""
        chosen = {name: getattr(self, name) for name in ("resized", "grid", "corners", "threshold")}
        return {name: value for name, value in chosen.items() if value not in {None, getattr(Output(), name)}}


def with_found(given: Given, document: Mapping[str, Mapping[str, Any]], family: str, advice: str = "") -> Given:
    """Return what is given, with what the model's own files contain below it, and advice for what they leave open.

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
    output = {"output_name" if key == "name" else key: value for key, value in output.items()}
    lacking = {name: value for name, value in output.items() if getattr(given, name) is None}
    return replace(given, found=found.get("input", {}), advice=advice, **lacking)


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
            "short_side": config.short_side,
            "max_long_side": config.max_long_side,
            "rounding": config.rounding,
            "multiple_of": config.multiple_of,
            "to_multiple": config.to_multiple,
            "crop": config.crop,
            "uncovered": config.uncovered,
            "interpolation": config.interpolation,
            "channel_order": config.channel_order,
            "scale": config.scale,
            "mean": config.mean or None,
            "std": config.std or None,
            "padding": config.padding or None,
            "padding_mode": config.padding_mode,
            "align": config.align,
            "layout": config.input_layout,
        },
        "output": {
            "kind": config.output_kind,
            "layout": config.output_layout,
            "name": config.output_name,
            "resized": config.resized,
            "grid": config.output_grid,
            "corners": config.corners,
            "threshold": config.threshold,
        },
    }
    found: dict[str, dict[str, Any]] = {"input": {}, "output": {}}
    for section, values in found.items():
        for key, value in document.get(section, {}).items():
            values[key] = read_value(section, key, value, f"{key} of {section} in {config.model_config}")
        for key, value in options[section].items():
            if value is not None:
                values[key] = read_value(section, key, value, option_of(section, key))
    output = found["output"]
    return Given(input=found["input"], output_name=output.pop("name", None), **output)


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
    known = known_input(config, given, file)
    if missing := missing_keys(known):
        raise ConfigError(_question(config, known, missing, given.advice))
    takes_levels = known["dtype"] == "uint8" or (file is not None and file.takes_levels)
    if takes_levels and any(known[key] != value for key, value in _UINT8.items()):
        found = ", ".join(f"{key} {shown_value(known[key])}" for key in _UINT8)
        raise ConfigError(
            f"the input of {config.onnx or config.model} is uint8, which takes the levels 0 to 255 as they are, but "
            f"found {found}; pass --scale 1 --mean 0 --std 1, or export the model with a float input"
        )
    return as_profile(known)


def known_input(config: ExportConfig, given: Given, file: FileInput | None = None) -> dict[str, Any]:
    """Return what is known of a model's input, by the keys of the document; see `profile_of`.

    Raises:
        ConfigError: something contradicts the file, or something else.
    """
    base = _base(config)
    own = _facts_of(file)
    known = {**given.found, **({} if base is None else as_keys(base))}
    known |= {} if own.get("dtype") != "uint8" or base is not None else _UINT8
    known |= {key: value for key, value in own.items() if key != "size"}
    _require_no_contradiction(config, given, own)
    mode = given.input.get("resize", known.get("resize"))
    inherited = {key: value for key, value in known.items() if has_meaning(key, mode)}
    known = without_lost_keys(inherited | dict(given.input), given.input)
    known |= _size_of(own, given, known, config)
    require_combination(known, given.input)
    return known


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
    own: Mapping[str, Any], given: Given, known: Mapping[str, Any], config: ExportConfig
) -> dict[str, tuple[int, int]]:
    """Return the size of the input under its key, or nothing if a side is missing or depends on the image.

    Raises:
        ConfigError: the file has another size than what is given, or than the profile.
    """
    fixed = own["size"]
    key = size_key(known)
    if key is None and known["resize"] == "short-side" and None not in fixed:
        key = "crop"  # no other way leads from such a resize to one size
    found = f"the input of {config.onnx or config.model} is fixed at {shown_value(fixed)}"
    if key is None:
        if any(side is not None for side in fixed):
            raise ConfigError(
                f"{found}, but resize {known['resize']} gives inputs whose size depends on the image; export the model "
                "again with free height and width, or bring images to its size with --resize stretch or --crop"
            )
        return {}
    chosen = known.get(key)
    if chosen is None:
        return {} if None in fixed else {key: fixed}
    if any(side not in {None, wanted} for side, wanted in zip(fixed, chosen, strict=True)):
        if key in given.input:
            raise ConfigError(f"{found}, but the {key} is given as {shown_value(chosen)}; leave it out")
        rest = {"size": fixed, "layout": own.get("layout"), "dtype": own["dtype"]}
        others = f"profile {config.profile!r} has" if config.profile else "the model's own files have"
        raise ConfigError(
            f"{found}, but {others} {shown_value(chosen)}; pass {option_of('input', key)} "
            f"{shown_value(fixed)} too if only the size differs, or --model-config FILE.yaml in their place, with "
            f"{template(rest)}"
        )
    return {key: chosen}


def _question(config: ExportConfig, known: Mapping[str, Any], missing: list[str], advice: str) -> str:
    """Return what is missing, what fits the model, how to give it, and the YAML to fill in."""
    model = config.onnx or config.model or f"network {config.net!r}"
    names = [LABELS.get(key, f"the {key}") for key in missing]
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    options = ", ".join(option_of("input", key) for key in missing)
    fitting = f"{advice}; " if advice else ""
    return (
        f"the preprocessing of {model} is not known: missing {'is' if len(names) == 1 else 'are'} {listed}; "
        f"{fitting}pass {options}, or --model-config FILE.yaml with {template(known)}, or --profile {DEFAULT_PROFILE} "
        f"if the model takes what FastSegFormer takes: {PROFILES[DEFAULT_PROFILE].describe()}"
    )
