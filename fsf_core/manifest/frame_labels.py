"""Labels of a video in a folder: PNGs with the numbers of their frames in their names. Opens none of them."""

import re

from fsf_core import storage
from fsf_core.errors import LabelError

_FRAME_NUMBER = re.compile(r"(?:.*?[^0-9])?([0-9]{1,18})")
"""A name whose last digits are the number of a frame."""

_DECIMALS = re.compile(r".*[0-9][.,][0-9]+")


def numbered_pngs(folder: str, *, frames: int | None = None) -> dict[int, str]:
    """Return the PNGs of a folder by the frame numbers in their names.

    Messages hold no names: a list may come from a stranger, and name any folder.

    Args:
        folder: of the labels of one video.
        frames: number of frames of the video, if it is known.

    Raises:
        LabelError: there are none, or a number is missing, ambiguous, or beyond the video.
    """
    pngs = [name for name in storage.list_names(folder, "") if name.lower().endswith(".png") and name[0] != "."]
    if not pngs:
        raise LabelError(
            "found a folder without PNGs, expected labels such as 7.png or frame_000007.png; correct label_uri"
        )
    names: dict[int, str] = {}
    for name in pngs:
        number = _frame_number(name)
        if number in names:
            raise LabelError(
                f"found two PNGs for frame {number}, expected one; keep one kind of label in the folder, one file per "
                "frame"
            )
        if frames is not None and number >= frames:
            raise LabelError(
                f"found a label for frame {number}, expected 0 to {frames - 1}: the video has {frames} frames, counted "
                "from 0; rename the labels"
            )
        names[number] = name
    return names


def _frame_number(name: str) -> int:
    """Return the frame number in the name of a PNG: its last digits, or the only ones.

    Raises:
        LabelError: there is none, or more than one could be meant.
    """
    stem = name[: -len(".png")]
    runs = re.findall(r"[0-9]+", stem)
    at_end = _FRAME_NUMBER.fullmatch(stem)
    if at_end and not _DECIMALS.fullmatch(stem):
        return int(at_end[1])
    if len(runs) == 1 and len(runs[0]) <= 18:  # noqa: PLR2004 - of an int64
        return int(runs[0])
    raise LabelError(
        "found a PNG whose name does not tell its frame, expected its number before .png, such as 7.png or "
        "frame_000007.png; rename it, or move it out of the folder"
    )
