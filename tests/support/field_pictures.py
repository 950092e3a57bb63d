"""H.264 of field pictures, two to a frame (PAFF), which no free encoder writes: every macroblock is I_PCM.

Knows ITU-T H.264 §7.3. Knows nothing of the code that reads it.
"""

import io
from fractions import Fraction

import av

SIDE_PX = 32


class _Bits:
    """A syntax structure, bit by bit."""

    def __init__(self):
        self.bits = ""

    def u(self, *pairs):
        for count, value in pairs:
            self.bits += format(value, f"0{count}b") if count else ""
        return self

    def ue(self, *values):
        for value in values:
            digits = format(value + 1, "b")
            self.bits += "0" * (len(digits) - 1) + digits
        return self

    def align(self):
        self.bits += "0" * (-len(self.bits) % 8)
        return self

    def nal(self, head):
        bits = self.u((1, 1)).align().bits
        payload = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
        escaped, zeros = bytearray(), 0
        for byte in payload:
            if zeros >= 2 and byte <= 3:
                escaped.append(3)
                zeros = 0
            escaped.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\x00\x00\x00\x01" + bytes([head]) + bytes(escaped)


def fields(frames):
    """Return the parameter sets and the fields, top first; frame k is grey, k steps of 8 above 40."""
    sps = (
        _Bits()
        .u((8, 77), (8, 0), (8, 30))
        .ue(0, 0, 0, 4, 1)
        .u((1, 0))
        .ue(1, 0)
        .u((1, 0), (1, 0), (1, 1), (1, 0), (1, 0))
    )
    pps = _Bits().ue(0, 0).u((1, 0), (1, 0)).ue(0, 0, 0).u((1, 0), (2, 0)).ue(0, 0, 0).u((1, 1), (1, 0), (1, 0))
    made = []
    for number in range(2 * frames):
        frame, bottom = divmod(number, 2)
        head = _Bits().ue(0, 7, 0).u((4, 0), (1, 1), (1, bottom))
        if not bottom:
            head.ue(frame % 2)  # idr_pic_id
        head.u((8, bottom), (1, 0)).u((0 if bottom else 1, 0)).ue(0, 1)
        for _ in range(SIDE_PX // 16 * (SIDE_PX // 32)):
            head.ue(25).align().u(*[(8, 40 + 8 * frame)] * 256, *[(8, 128)] * 128)
        made.append(b"\x00\x00\x00\x01\x09\x10" + head.nal(0x61 if bottom else 0x65))
    return sps.nal(0x67) + pps.nal(0x68), made


def field_video(frames, container, *, together):
    """Store the fields of frames, at 10 frames per second, one in a packet or both `together`."""
    parameters, data = fields(frames)
    if together:
        data = [first + second for first, second in zip(data[::2], data[1::2], strict=True)]
    rate = 10 if together else 20
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width = stream.height = SIDE_PX
        stream.pix_fmt = "yuv420p"
        stream.codec_context.extradata = parameters
        for number, unit in enumerate(data):
            packet = av.Packet(unit[:6] + parameters + unit[6:])
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, rate), True
            packet.pts = packet.dts = number
            output.mux(packet)
    return file.getvalue()
