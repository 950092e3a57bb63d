"""Import the library of a family, or refuse with the extra that installs it.

torchvision's compiled operators do not load beside a torch of another build, and torchvision then fails as a whole,
with all that import it. Segmentation networks and their preprocessing need none of these operators.
"""

import importlib
import importlib.util
import logging
import sys
from functools import cache
from types import ModuleType

from fsf_core.errors import ConfigError, InterruptedRunError
from fsf_core.export.foreign import FOREIGN, in_one_line

log = logging.getLogger("fsf")

_REGISTRATIONS = "torchvision._meta_registrations"
"""The module that fails where torchvision's compiled operators are absent; it only describes them to compilers."""


def load(name: str, extra: str) -> ModuleType:
    """Import a library of a family.

    Args:
        name: module, dotted.
        extra: of this project, which installs it.

    Raises:
        ConfigError: it is not installed, or fails when it is imported.
    """
    top = name.partition(".")[0]
    if importlib.util.find_spec(top) is None:
        raise ConfigError(
            f"this model is read by the library {top}, which is not installed; pip install 'fsf[{extra}]'"
        )
    _make_torchvision_importable()
    try:
        return importlib.import_module(name)
    except InterruptedRunError:
        raise
    except FOREIGN as error:
        raise ConfigError(
            f"importing {name} failed with {in_one_line(error)}; expected a version that works with the torch that "
            f"is installed; pip install --upgrade 'fsf[{extra}]'"
        ) from error


@cache
def _make_torchvision_importable() -> None:
    """Let torchvision be imported where its compiled operators do not load."""
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            return
        for module in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        sys.modules[_REGISTRATIONS] = ModuleType(_REGISTRATIONS)
        reason = "its compiled operators do not load beside this torch, and are not needed"
        log.info("event=torchvision_without_operators reason=%r", reason)
    except InterruptedRunError:
        raise
    except FOREIGN:
        return  # importing the family's library gives the reason
