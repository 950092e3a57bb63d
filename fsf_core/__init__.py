"""Offline batch semantic segmentation: export a checkpoint with proof, score images and videos, read the results.

    from fsf_core import ExportConfig, ScoreConfig, export, open_run, score

    export(ExportConfig(net="fastsegformer-p", checkpoint="weights.pth", classes=("background", "rot"), out="bundle"))
    summary = score(ScoreConfig(bundle="bundle", manifest="photos/", out="runs/today"))
    run = open_run("runs/today")
    run.class_stats().to_pandas()
    run.mask("img236.jpg")

Importing this package loads none of its dependencies; each name below is imported when it is first used.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fsf_core.errors import (
    BundleError,
    CheckpointError,
    ClusterError,
    ConfigError,
    DamagedPartError,
    DecodeError,
    FetchError,
    FSFError,
    GateError,
    InterruptedRunError,
    ItemError,
    ItemNotFoundError,
    LabelError,
    LeaseLostError,
    LimitError,
    ManifestError,
    MaskError,
    OutputError,
    ParityError,
    ProviderError,
    ResumableError,
    RunError,
    StorageError,
)

if TYPE_CHECKING:
    from fsf_core.config import ExportConfig, ScoreConfig
    from fsf_core.export.job import export
    from fsf_core.export.parity import ParityLimitError
    from fsf_core.runs.reader import RunReader, open_run
    from fsf_core.runs.reading import read_table
    from fsf_core.score.job import score

__version__ = "0.1.0"

__all__ = [
    "BundleError",
    "CheckpointError",
    "ClusterError",
    "ConfigError",
    "DamagedPartError",
    "DecodeError",
    "ExportConfig",
    "FSFError",
    "FetchError",
    "GateError",
    "InterruptedRunError",
    "ItemError",
    "ItemNotFoundError",
    "LabelError",
    "LeaseLostError",
    "LimitError",
    "ManifestError",
    "MaskError",
    "OutputError",
    "ParityError",
    "ParityLimitError",
    "ProviderError",
    "ResumableError",
    "RunError",
    "RunReader",
    "ScoreConfig",
    "StorageError",
    "__version__",
    "export",
    "open_run",
    "read_table",
    "score",
]

_LAZY = {
    "ExportConfig": "config",
    "ParityLimitError": "export.parity",
    "RunReader": "runs.reader",
    "ScoreConfig": "config",
    "export": "export.job",
    "open_run": "runs.reader",
    "read_table": "runs.reading",
    "score": "score.job",
}
"""Public name to the module that defines it."""


class _Package(ModuleType):
    """The type of this module, which keeps `score` and `export` functions.

    When a subpackage is first imported, the import system sets it as an attribute of its parent, which here would hide
    the function of the same name, depending on the order of imports. Submodules are imported as ever, by
    `from fsf_core.score import plan` or `import fsf_core.score.plan`; only the attribute path `fsf_core.score.plan`
    does not exist, because `fsf_core.score` is the function.
    """

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute, except a subpackage with the name of a public function."""
        if not (name in _LAZY and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, including those not imported yet."""
    return sorted({*globals(), *__all__})
