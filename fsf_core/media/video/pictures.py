"""What packets tell about the pictures in them, before any is decoded. Knows codecs; decodes nothing."""

from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

Kind: TypeAlias = Literal["frame", "reference", "dropped", "unclear", "unknown"]
"""frame: the packet gives one frame. reference: it gives none, but others need it (hidden frames of VP8 and VP9, the
second field of a frame). dropped: decoders leave it out (leading pictures whose references are not in the file).
unclear: only a decoder can tell. unknown: the headers cannot be read."""


class Picture(NamedTuple):
    """What one packet holds."""

    kind: Kind
    order: tuple[int, int] | None = None
    """Sorted by it, the frames are in the order in which a decoder returns them; None where that is unknown."""


FRAME: Final[Kind] = "frame"
REFERENCE: Final = Picture("reference")
DROPPED: Final = Picture("dropped")
UNCLEAR: Final = Picture("unclear")
UNKNOWN: Final = Picture("unknown")


class PictureReader(Protocol):
    """Reads the packets of a stream in decoding order."""

    def read(self, packet: memoryview) -> Picture:
        """Return what the next packet holds."""
