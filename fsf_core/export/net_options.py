"""Options that only one family of networks has, their values and defaults. Knows no torch and builds nothing."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

import yaml

from fsf_core.errors import ConfigError, did_you_mean
from fsf_core.options import PyramidKind

_BOOLEANS = {"true": True, "false": False}

_FASTSEGFORMER: Mapping[str, Mapping[str, Any]] = {
    "pyramid": {kind: kind for kind in get_args(PyramidKind)},
    "cnn_branch": _BOOLEANS,
}
"""Option to its values by their spelling; the first value is the default."""


def resolve_net_options(net: str | None, given: Mapping[str, object]) -> dict[str, Any]:
    """Return every option of a network with its value, or raise.

    Args:
        net: name of a network, package.module:callable, or None for an ONNX file.
        given: option to value, typed or as text. Those of a callable are read as YAML scalars; `build` checks their
            names against its signature.

    Raises:
        ConfigError: the network has no such option, or the option no such value.
    """
    if net is not None and ":" in net:
        return {name: yaml.safe_load(value) if isinstance(value, str) else value for name, value in given.items()}
    known = {} if net is None else _FASTSEGFORMER
    require_known(net or "an ONNX file", given, known)
    options = {name: next(iter(values.values())) for name, values in known.items()}
    for name, value in given.items():
        values, spelling = known[name], str(value).lower()
        if spelling not in values:
            expected = f"expected {' or '.join(values)}"
            raise ConfigError(f"net option {name} is {value!r}{did_you_mean(spelling, values)}, {expected}; correct it")
        options[name] = values[spelling]
    return options


def require_known(net: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that a network does not have.

    Raises:
        ConfigError: it names the options that the network has.
    """
    known = list(known)
    for name in given:
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise ConfigError(
                f"{net} has no option {name!r}{did_you_mean(name, known)}, expected {expected}; correct --net-option"
            )
