"""Pictures of H.264: which packet holds a whole one, and in which order they are shown (ITU-T H.264 §7.3, §8.2.1)."""

from dataclasses import dataclass

from fsf_core.media.video.bits import BitReader, configured_units, length_bytes, nal_units, unescaped
from fsf_core.media.video.pictures import DROPPED, FRAME, REFERENCE, UNCLEAR, UNKNOWN, Picture

_SLICE, _PARTITION, _IDR, _SEI, _SPS, _PPS = 1, 2, 5, 6, 7, 8
_NO_SLICES = frozenset({6, 7, 8, 9, 10, 11, 12, 13, 15})
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_RECOVERY_POINT = 6
_HEAD_BYTES = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sequence:
    """What a slice header needs of a sequence parameter set."""

    frame_num_bits: int
    order_type: int
    order_bits: int
    """Of pic_order_cnt_lsb, with order type 0."""
    frames_only: bool
    separate_planes: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Slice:
    """The first slice of a picture."""

    is_idr: bool
    is_reference: bool
    is_first: bool
    """Whether the picture begins with it."""
    frame_num: int
    field: int | None
    """0 top, 1 bottom; None for a frame."""
    order_lsb: int | None
    sequence: _Sequence


class H264Pictures:
    """The pictures of a stream, packet by packet."""

    def __init__(self, extradata: bytes | None) -> None:
        self._width = length_bytes(extradata, 4)
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, int] = {}
        for unit in configured_units(extradata, "h264"):
            self._keep_parameters(unit)
        self._epoch = 0
        self._msb = self._last_lsb = 0
        self._decoded = 0
        self._open_field: _Slice | None = None
        self._first_order: int | None = None
        """Order of the picture that decoding begins with, if that is no IDR picture: what is shown before it is not
        decodable."""
        self._begun = False

    def read(self, packet: memoryview) -> Picture:
        """Return what the next packet holds, in decoding order."""
        recovery: int | None = None
        slices: list[_Slice] = []
        kinds: set[int] = set()
        for unit in nal_units(packet, self._width):
            kind = unit[0] & 0x1F
            kinds.add(kind)
            if kind in (_SPS, _PPS):
                self._keep_parameters(bytes(unit))
            elif kind == _SEI and not self._begun:
                recovery = _recovery_frames(bytes(unit), recovery)
            elif kind in (_SLICE, _PARTITION, _IDR):
                head = self._slice(unit)
                if head is None:
                    return UNKNOWN
                slices.append(head)
                if head.field is None or (len(slices) > 1 and head.is_first):
                    break
        if not slices:
            return UNCLEAR if kinds and kinds <= _NO_SLICES else UNKNOWN
        if not slices[0].is_first:
            return UNCLEAR
        return self._picture(slices, recovery)

    def _picture(self, slices: list[_Slice], recovery: int | None) -> Picture:
        """Return the picture that begins with these slices: one of a frame, or those of one or two fields."""
        head, begins, first = slices[0], not self._begun, self._open_field
        self._begun, self._open_field = True, None
        order = self._order(head)
        if first is not None:
            return REFERENCE if _is_pair(first, head) else UNCLEAR
        if head.field is not None and not any(_is_pair(head, one) for one in slices if one.is_first):
            self._open_field = head
        if begins and not head.is_idr:
            if recovery != 0 or order is None:
                return UNCLEAR
            self._first_order = order
        if order is None:
            return UNKNOWN
        if self._first_order is not None and self._epoch == 0 and order < self._first_order:
            return DROPPED
        return Picture(FRAME, (self._epoch, order))

    def _order(self, head: _Slice) -> int | None:
        """Return the picture order count (§8.2.1); None for type 1, which no common encoder writes."""
        self._decoded += 1
        if head.is_idr:
            self._epoch += 1
            self._msb = self._last_lsb = 0
        if head.sequence.order_type == 2 or head.order_lsb is None:  # noqa: PLR2004 - output order is decoding order
            return self._decoded if head.sequence.order_type == 2 else None  # noqa: PLR2004
        span = 1 << head.sequence.order_bits
        msb, step = self._msb, head.order_lsb - self._last_lsb
        if step <= -span // 2:
            msb += span
        elif step > span // 2:
            msb -= span
        if head.is_reference:
            self._msb, self._last_lsb = msb, head.order_lsb
        return msb + head.order_lsb

    def _slice(self, unit: memoryview) -> _Slice | None:
        """Parse a slice header; None if it is damaged or its parameter sets are missing."""
        bits = BitReader(unescaped(bytes(unit[1:_HEAD_BYTES])))
        try:
            first_macroblock, _, picture = bits.ue(), bits.ue(), bits.ue()
            sequence = self._sequences.get(self._pictures.get(picture, -1))
            if sequence is None:
                return None
            if sequence.separate_planes:
                bits.u(2)
            frame_num = bits.u(sequence.frame_num_bits)
            field = None
            if not sequence.frames_only and bits.u(1):
                field = bits.u(1)
            is_idr = unit[0] & 0x1F == _IDR
            if is_idr:
                bits.ue()
            lsb = bits.u(sequence.order_bits) if sequence.order_type == 0 else None
        except EOFError:
            return None
        return _Slice(
            is_idr=is_idr,
            is_reference=bool(unit[0] >> 5 & 3),
            is_first=first_macroblock == 0,
            frame_num=frame_num,
            field=field,
            order_lsb=lsb,
            sequence=sequence,
        )

    def _keep_parameters(self, unit: bytes) -> None:
        """Remember a parameter set; a damaged one is ignored."""
        try:
            if unit and unit[0] & 0x1F == _SPS:
                number, sequence = _sequence(BitReader(unescaped(unit[1:])))
                self._sequences[number] = sequence
            elif unit and unit[0] & 0x1F == _PPS:
                bits = BitReader(unescaped(unit[1:]))
                self._pictures[bits.ue()] = bits.ue()
        except EOFError:
            return


def _is_pair(first: _Slice, second: _Slice) -> bool:
    """Return whether two fields are one frame (§7.4.1.2.4)."""
    is_opposite = second.field is not None and first.field != second.field and not second.is_idr
    return is_opposite and first.frame_num == second.frame_num and first.is_reference == second.is_reference


def _sequence(bits: BitReader) -> tuple[int, _Sequence]:
    """Parse a sequence parameter set up to frame_mbs_only_flag (§7.3.2.1.1)."""
    profile = bits.u(8)
    bits.u(16)
    number = bits.ue()
    separate_planes = False
    if profile in _HIGH_PROFILES:
        chroma = bits.ue()
        separate_planes = chroma == 3 and bool(bits.u(1))  # noqa: PLR2004 - 4:4:4
        bits.ue(), bits.ue(), bits.u(1)
        if bits.u(1):
            for size in [16] * 6 + [64] * (6 if chroma == 3 else 2):  # noqa: PLR2004
                if bits.u(1):
                    _skip_scaling_list(bits, size)
    frame_num_bits = bits.ue() + 4
    order_type, order_bits = bits.ue(), 0
    if order_type == 0:
        order_bits = bits.ue() + 4
    elif order_type == 1:
        bits.u(1), bits.se(), bits.se()
        for _ in range(bits.ue()):
            bits.se()
    bits.ue(), bits.u(1), bits.ue(), bits.ue()
    return number, _Sequence(
        frame_num_bits=frame_num_bits,
        order_type=order_type,
        order_bits=order_bits,
        frames_only=bool(bits.u(1)),
        separate_planes=separate_planes,
    )


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    """Skip a scaling list (§7.3.2.1.1.1)."""
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _recovery_frames(unit: bytes, found: int | None) -> int | None:
    """Return recovery_frame_cnt of a SEI message, or what was found before (§7.3.2.3.1, §D.1.8)."""
    data, at = unescaped(unit[1:]), 0
    while at + 2 < len(data):
        kind = size = 0
        while at < len(data) and data[at] == 0xFF:  # noqa: PLR2004
            kind, at = kind + 255, at + 1
        kind, at = kind + data[at], at + 1
        while at < len(data) and data[at] == 0xFF:  # noqa: PLR2004
            size, at = size + 255, at + 1
        if at >= len(data):
            break
        size, at = size + data[at], at + 1
        if kind == _RECOVERY_POINT:
            try:
                return BitReader(data[at : at + size]).ue()
            except EOFError:
                return found
        at += size
    return found
