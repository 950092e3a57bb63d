"""The YAML document of a model: `input:` and `output:`, every key with the values that it takes.

Knows names and types. Knows no options and no model.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import yaml

from fsf_core import storage
from fsf_core.errors import ConfigError, FetchError, did_you_mean
from fsf_core.options import (
    Align,
    ChannelOrder,
    Corners,
    FitMode,
    InputLayout,
    InputType,
    Interpolation,
    OutputGrid,
    OutputKind,
    OutputLayout,
    PaddingMode,
    Resized,
    Rounding,
    ToMultiple,
)

CHANNELS = 3
_LONGEST_SIDE_PX = 99_999
"""Upper limit of a side, as the five digits of a size hold it."""


def read_document(path: str) -> dict[str, dict[str, Any]]:
    """Read the YAML document.

    Raises:
        ConfigError: it cannot be read, is no mapping of `input` and `output` to mappings, or has another key.
    """
    try:
        content = yaml.safe_load(storage.read_bytes(storage.absolute(path)))
    except (FetchError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split()) or "it is nested too deeply"
        raise ConfigError(f"--model-config {path} cannot be read: {reason}; expected a YAML file") from error
    if not isinstance(content, dict) or not all(isinstance(value, dict) for value in content.values()):
        raise ConfigError(
            f"--model-config {path} holds a {type(content).__name__} without sections, expected "
            "`input:` and `output:` with one key: value per line below each; correct it"
        )
    for section, values in content.items():
        if section not in KEYS:
            raise ConfigError(
                f"--model-config {path} has {section!r}{did_you_mean(str(section), KEYS)}, expected the sections "
                f"{' and '.join(KEYS)}; correct it"
            )
        for key in values:
            if key not in KEYS[section]:
                known = KEYS[section]
                raise ConfigError(
                    f"--model-config {path} has {key!r} below {section}{did_you_mean(str(key), known)}, expected keys "
                    f"out of {', '.join(known)}; correct it"
                )
    return content


@dataclass(frozen=True, slots=True)
class _Key:
    """A key of the document: how its value is read, and what is expected, as text."""

    read: Callable[[Any], Any]
    """Raises ValueError or TypeError for what is not expected."""
    expected: str
    option: str | None = None
    """Name of its option where that differs from the key."""


def _size(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]{1,5})\s*[xX×]\s*([0-9]{1,5})\s*", value)
        value = [int(match[1]), int(match[2])] if match else []
    height_px, width_px = value
    if not all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in (height_px, width_px)):
        raise ValueError
    return height_px, width_px


def _pixels(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    if not 1 <= value <= _LONGEST_SIDE_PX:
        raise ValueError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _above_0(value: Any) -> float:
    number = _number(value)
    if number <= 0:
        raise ValueError
    return number


def _share(value: Any) -> float:
    number = _number(value)
    if not 0 < number < 1:
        raise ValueError
    return number


def _each(read: Callable[[Any], float]) -> Callable[[Any], tuple[float, ...]]:
    def numbers(value: Any) -> tuple[float, ...]:
        """Return one number per channel; a single one is for all."""
        found = list(value) if isinstance(value, list | tuple) else [value]
        found *= CHANNELS if len(found) == 1 else 1
        if len(found) != CHANNELS:
            raise ValueError
        return tuple(map(read, found))

    return numbers


def _level(value: Any) -> int:
    if not 0 <= _number(value) <= 255 or value != int(value):  # noqa: PLR2004 - levels of 8 bits
        raise ValueError
    return int(value)


def _one_of(choices: Any) -> _Key:
    names = get_args(choices)

    def choice(value: Any) -> Any:
        if value not in names:
            raise ValueError
        return value

    return _Key(choice, f"one of {', '.join(names)}")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


_INPUT_KEYS = {
    "size": _Key(_size, "HEIGHTxWIDTH in pixels, such as 512x1024: every image is brought to one size", "--input-size"),
    "resize": _one_of(FitMode),
    "short_side": _Key(_pixels, "a whole number of pixels, 1 or more"),
    "max_long_side": _Key(_pixels, "a whole number of pixels, 1 or more"),
    "rounding": _one_of(Rounding),
    "multiple_of": _Key(_pixels, "a whole number of pixels, such as 32"),
    "to_multiple": _one_of(ToMultiple),
    "crop": _Key(_size, "HEIGHTxWIDTH in pixels, such as 224x224"),
    "uncovered": _Key(_text, "the name of a class, or stretch"),
    "interpolation": _one_of(Interpolation),
    "channel_order": _one_of(ChannelOrder),
    "scale": _Key(_above_0, "a number above 0"),
    "mean": _Key(_each(_number), "one number, or three: one per channel"),
    "std": _Key(_each(_above_0), "one number above 0, or three: one per channel"),
    "padding": _Key(_each(_level), "one level of 0 to 255, or three: one per channel"),
    "padding_mode": _one_of(PaddingMode),
    "align": _one_of(Align),
    "honour_exif": _Key(_flag, "true or false"),
    "layout": replace(_one_of(InputLayout), option="--input-layout"),
    "dtype": _one_of(InputType),
}
_OUTPUT_KEYS = {
    "kind": replace(_one_of(OutputKind), option="--output-kind"),
    "layout": replace(_one_of(OutputLayout), option="--output-layout"),
    "name": _Key(_text, "the name of an output", "--output-name"),
    "resized": _one_of(Resized),
    "grid": replace(_one_of(OutputGrid), option="--output-grid"),
    "corners": _one_of(Corners),
    "threshold": _Key(_share, "a probability between 0 and 1"),
}
KEYS: Mapping[str, Mapping[str, _Key]] = {"input": _INPUT_KEYS, "output": _OUTPUT_KEYS}


def read_value(section: str, key: str, value: Any, where: str) -> Any:
    """Return a value as its key holds it.

    Raises:
        ConfigError: it is of another type, or out of range.
    """
    try:
        return KEYS[section][key].read(value)
    except (TypeError, ValueError) as error:
        found = f"{value!r:.80}"
        raise ConfigError(f"{where} is {found}, expected {KEYS[section][key].expected}; correct it") from error


def option_of(section: str, key: str) -> str:
    """Return the option that replaces a key."""
    return KEYS[section][key].option or f"--{key.replace('_', '-')}"
