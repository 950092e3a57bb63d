"""Pictures of H.265: which packet holds one, and in which order they are shown (ITU-T H.265 §7.3, §8.3.1)."""

from fsf_core.media.video.bits import BitReader, configured_units, length_bytes, nal_units, unescaped
from fsf_core.media.video.pictures import DROPPED, FRAME, UNCLEAR, UNKNOWN, Picture

_SLICES = frozenset((*range(10), *range(16, 22)))
_RADL, _RASL, _IRAP, _IDR, _BLA = (6, 7), (8, 9), range(16, 24), (19, 20), (16, 17, 18)
_SPS, _PPS, _END_OF_SEQUENCE, _END_OF_STREAM = 33, 34, 36, 37
_NO_SLICES = frozenset(range(32, 41))
_SUBLAYER_NON_REFERENCE = range(0, 15, 2)
_HEAD_BYTES = 64


class HevcPictures:
    """The pictures of a stream, packet by packet."""

    def __init__(self, extradata: bytes | None) -> None:
        self._width = length_bytes(extradata, 21)
        self._order_bits: dict[int, int] = {}
        self._separate_planes: dict[int, bool] = {}
        self._pictures: dict[int, tuple[int, int, bool]] = {}
        """Per picture parameter set: its sequence, extra slice header bits, whether it sends pic_output_flag."""
        for unit in configured_units(extradata, "hevc"):
            self._keep_parameters(unit)
        self._epoch = 0
        self._msb = self._last_lsb = 0
        self._begins_sequence = True
        self._drops_rasl = False

    def read(self, packet: memoryview) -> Picture:
        """Return what the next packet holds, in decoding order."""
        picture: Picture | None = None
        kinds: set[int] = set()
        for unit in nal_units(packet, self._width):
            kind = unit[0] >> 1 & 0x3F
            kinds.add(kind)
            if kind in (_END_OF_SEQUENCE, _END_OF_STREAM):
                self._begins_sequence = True
            elif unit[0] & 1 or (len(unit) > 1 and unit[1] >> 3):  # another layer
                continue
            elif kind in (_SPS, _PPS):
                self._keep_parameters(bytes(unit))
            elif kind in _SLICES and picture is None:
                picture = self._picture(unit, kind)
                if self._width == 0:  # behind it come its other slices
                    break
        if picture is None:
            return UNCLEAR if kinds and kinds <= _NO_SLICES else UNKNOWN
        return picture

    def _picture(self, unit: memoryview, kind: int) -> Picture:
        """Parse the first slice header of a picture."""
        bits = BitReader(unescaped(bytes(unit[2:_HEAD_BYTES])))
        try:
            is_first = bits.u(1)
            if kind in _IRAP:
                bits.u(1)
            sequence, extra_bits, sends_output = self._pictures.get(bits.ue(), (-1, 0, False))
            if sequence not in self._order_bits:
                return UNKNOWN
            if not is_first:
                return UNCLEAR
            bits.u(extra_bits)
            bits.ue()
            is_output = bool(bits.u(1)) if sends_output else True
            if self._separate_planes[sequence]:
                bits.u(2)
            lsb = 0 if kind in _IDR else bits.u(self._order_bits[sequence])
        except EOFError:
            return UNKNOWN
        if not self._epoch and kind not in _IRAP:
            return UNCLEAR
        order = self._order(kind, lsb, 1 << self._order_bits[sequence], (unit[1] & 7) == 1)
        if not is_output or (kind in _RASL and self._drops_rasl):
            return DROPPED
        return Picture(FRAME, (self._epoch, order))

    def _order(self, kind: int, lsb: int, span: int, is_lowest_layer: bool) -> int:  # noqa: FBT001 - TemporalId is 0
        """Return the picture order count (§8.3.1)."""
        msb = 0
        if kind in _IRAP and (self._begins_sequence or kind in _IDR or kind in _BLA):
            self._epoch += 1
            self._drops_rasl = True
        else:
            if kind in _IRAP:
                self._drops_rasl = False
            msb, step = self._msb, lsb - self._last_lsb
            if step <= -span // 2:
                msb += span
            elif step > span // 2:
                msb -= span
        self._begins_sequence = False
        if is_lowest_layer and kind not in _RADL and kind not in _RASL and kind not in _SUBLAYER_NON_REFERENCE:
            self._msb, self._last_lsb = msb, lsb
        return msb + lsb

    def _keep_parameters(self, unit: bytes) -> None:
        """Remember a parameter set; a damaged one is ignored."""
        try:
            if len(unit) > 2 and unit[0] >> 1 & 0x3F == _SPS:  # noqa: PLR2004 - the NAL unit's header
                self._keep_sequence(BitReader(unescaped(unit[2:])))
            elif len(unit) > 2 and unit[0] >> 1 & 0x3F == _PPS:  # noqa: PLR2004
                bits = BitReader(unescaped(unit[2:]))
                number, sequence = bits.ue(), bits.ue()
                bits.u(1)
                sends_output = bool(bits.u(1))
                self._pictures[number] = sequence, bits.u(3), sends_output
        except EOFError:
            return

    def _keep_sequence(self, bits: BitReader) -> None:
        """Parse a sequence parameter set up to log2_max_pic_order_cnt_lsb_minus4 (§7.3.2.2.1)."""
        bits.u(4)
        sub_layers = bits.u(3)
        bits.u(1 + 88 + 8)
        present = [(bits.u(1), bits.u(1)) for _ in range(sub_layers)]
        if sub_layers:
            bits.u(2 * (8 - sub_layers))
        for profile, level in present:
            bits.u(88 * profile + 8 * level)
        number, chroma = bits.ue(), bits.ue()
        separate_planes = chroma == 3 and bool(bits.u(1))  # noqa: PLR2004 - 4:4:4
        bits.ue(), bits.ue()
        if bits.u(1):
            bits.ue(), bits.ue(), bits.ue(), bits.ue()
        bits.ue(), bits.ue()
        self._order_bits[number] = bits.ue() + 4
        self._separate_planes[number] = separate_planes
