"""Whether a bundle can score pictures in windows, and with which overlap."""

from fsf_core.config import ScoreConfig
from fsf_core.errors import ConfigError
from fsf_core.model import preprocess
from fsf_core.model.bundle import Bundle


def window_overlap(config: ScoreConfig, bundle: Bundle) -> int | None:
    """Return the pixels that neighbouring windows share at least; None for a job without --tile.

    Raises:
        ConfigError: the bundle's input is no window of a picture, its output cannot be blended, or the overlap is more
            than half a window.
    """
    if not config.tile:
        return None
    profile = bundle.profile
    if not _takes_windows(profile):
        raise ConfigError(
            f"--tile needs a model whose input has one size and is the image itself at that size, found preprocessing "
            f"of {profile.describe()}; leave --tile out, or export the model with a stretch to its input's size"
        )
    if bundle.output.kind == "class_map":
        raise ConfigError(
            "--tile needs a model of scores, found one that outputs a class map, whose windows cannot be blended; "
            "leave --tile out, or export the model without its last argmax"
        )
    side_px = min(profile.height_px, profile.width_px)
    overlap_px = side_px // 4 if config.overlap is None else config.overlap
    if overlap_px > side_px // 2:
        raise ConfigError(
            f"--overlap is {overlap_px}, expected at most {side_px // 2}, half a window of "
            f"{profile.width_px}×{profile.height_px} pixels; pass less"
        )
    return overlap_px


def _takes_windows(profile: preprocess.Profile) -> bool:
    """Return whether an image of the size of the network's input becomes that input pixel for pixel."""
    if not profile.is_fixed:
        return False
    size = (profile.height_px, profile.width_px)
    box = preprocess.place(*size, profile)
    return box.resized_hw == size and (box.height_px, box.width_px) == size
