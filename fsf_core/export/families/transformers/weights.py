"""Load a model of transformers with its weights, every one of them from the folder.

The library fills what is missing with random numbers and only warns; here that is an error.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from fsf_core.errors import CheckpointError, ConfigError, InterruptedRunError
from fsf_core.export.families.transformers.folder import Task
from fsf_core.export.foreign import FOREIGN, in_one_line

_SHOWN = 4
"""Names of keys in a message."""


def load_model(path: Path, task: Task, source: str) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the model in float32 and evaluation mode, and notes on weights that were left out.

    Attention is the library's plain implementation, which both exporters can write; it computes the same.

    Raises:
        ConfigError: the library does not know the architecture.
        CheckpointError: weights are missing, damaged or of other shapes.
    """
    auto: Any = (
        transformers.AutoModelForSemanticSegmentation
        if task == "semantic"
        else transformers.AutoModelForUniversalSegmentation
    )
    try:
        with _offline(), torch.random.fork_rng(devices=[]):
            model, info = auto.from_pretrained(
                str(path),
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported, and refused below by name
                dtype=torch.float32,
                attn_implementation="eager",
            )
    except InterruptedRunError:
        raise
    except FOREIGN as error:
        raise _why(error, source) from error
    _require_all(info, source)
    unread = sorted(info["unexpected_keys"])
    notes = () if not unread else (f"weights that the model has no place for were left out: {_shown(unread)}",)
    return model.float().eval(), notes


def _require_all(info: dict[str, Any], source: str) -> None:
    """Refuse weights that the folder does not hold.

    Raises:
        CheckpointError: there are some.
    """
    mismatched = [entry[0] if isinstance(entry, tuple) else entry for entry in info["mismatched_keys"]]
    for keys, what in ((info["missing_keys"], "lacks"), (mismatched, "has other shapes of")):
        if keys:
            raise CheckpointError(
                f"--model {source} {what} {_shown(sorted(keys))}, which would get random values; expected every "
                "weight of the model; save it after the training, with the head"
            )


def _why(error: BaseException, source: str) -> ConfigError | CheckpointError:
    """Return the error for what the library could not load."""
    reason = in_one_line(error)
    if isinstance(error, ImportError):
        return ConfigError(
            f"--model {source} needs a library that is not installed: {reason}; expected it beside transformers; "
            "install it, such as pip install timm"
        )
    if isinstance(error, KeyError | ValueError) and "config" in reason.lower():
        return ConfigError(
            f"--model {source} is of an architecture that transformers {transformers.__version__} cannot segment with: "
            f"{reason}; expected one of AutoModelForSemanticSegmentation or AutoModelForUniversalSegmentation; upgrade "
            "transformers if it is newer"
        )
    return CheckpointError(
        f"--model {source} cannot be loaded: {reason}; expected whole files of save_pretrained; copy it again"
    )


def _shown(keys: Iterable[str]) -> str:
    names = list(keys)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep the library from asking its hub, and from drawing progress bars and tables."""
    import huggingface_hub.constants as hub  # it read the variable when it was imported

    library: Any = transformers.utils.logging
    before = hub.HF_HUB_OFFLINE, library.is_progress_bar_enabled(), library.get_verbosity()
    hub.HF_HUB_OFFLINE = True
    library.disable_progress_bar()
    library.set_verbosity_error()
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before[0]
        library.set_verbosity(before[2])
        if before[1]:
            library.enable_progress_bar()
