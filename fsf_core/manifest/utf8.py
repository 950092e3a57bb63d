"""Text files as UTF-8: byte order marks, UTF-16 and UTF-32; any other encoding is refused with its line.

Knows encodings. Knows no formats.
"""

import codecs
from typing import BinaryIO

from fsf_core.errors import ManifestError
from fsf_core.manifest.rows import unreadable

_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_HEAD_BYTES = 4


class Utf8Reader:
    """An open file whose text is read as UTF-8 without a byte order mark."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        head = file.read(_HEAD_BYTES)
        encoding, mark = _encoding(head)
        self._head = head[len(mark) :]
        self._decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()

    def read(self, size: int) -> bytes:
        """Return about as many bytes; none at the end."""
        while True:
            data, self._head = self._head + self._file.read(size), b""
            if self._decoder is None:
                return data
            text = self._decoder.decode(data, final=not data)
            if text or not data:
                return text.encode()


class TextReader:
    """An open file whose text is read piece by piece, with the number of the line for errors."""

    def __init__(self, uri: str, file: BinaryIO) -> None:
        self._uri = uri
        self._bytes = Utf8Reader(file)
        self._rest = b""
        self._lines = 0

    def read(self, size: int) -> str:
        """Return about as many characters; none at the end.

        Raises:
            ManifestError: they are not UTF-8.
        """
        while True:
            new = self._bytes.read(size)
            data = self._rest + new
            cut = len(data) - _begun_bytes(data) if new else len(data)
            text = decoded(self._uri, data[:cut], lines_before=self._lines)
            self._rest = data[cut:]
            self._lines += text.count("\n")
            if text or not new:
                return text


def decoded(uri: str, data: bytes, *, lines_before: int) -> str:
    """Return the text of a piece of a list.

    Args:
        uri: the list, for the message.
        data: whole characters in UTF-8.
        lines_before: number of lines before it.

    Raises:
        ManifestError: it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = lines_before + data.count(b"\n", 0, error.start) + 1
        raise not_utf8(uri, data[error.start], line) from None


def not_utf8(uri: str, byte: int, line: int) -> ManifestError:
    """Return the error of a list in another encoding."""
    return unreadable(
        uri,
        f"line {line} has the byte 0x{byte:02X}, expected UTF-8 or UTF-16",
        "if the list is of Windows code page 1252, convert it: iconv -f CP1252 -t UTF-8 old.csv > new.csv, or save it "
        "as `CSV UTF-8`",
    )


def _encoding(head: bytes) -> tuple[str, bytes]:
    """Return the encoding of a text by its first bytes, and its byte order mark."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, mark
    zeros = [byte == 0 for byte in head]
    if zeros == [False, True, False, True]:  # two characters of ASCII without a mark
        return "utf-16-le", b""
    return ("utf-16-be" if zeros == [True, False, True, False] else "utf-8"), b""


def _begun_bytes(data: bytes) -> int:
    """Return how many bytes at the end are a character that is not complete."""
    for count in range(1, min(_HEAD_BYTES, len(data) + 1)):
        byte = data[-count]
        if byte >= 0xC0:  # noqa: PLR2004 - the first byte of a character of 2 to 4 bytes
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4  # noqa: PLR2004
            return count if count < length else 0
        if byte < 0x80:  # noqa: PLR2004 - ASCII
            return 0
    return 0
