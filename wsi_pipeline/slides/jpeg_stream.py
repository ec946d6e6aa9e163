"""The JPEG streams inside TIFF files made into JPEG files that say how their colours are coded.

A TIFF keeps the tables of all tiles once (JPEGTables) and says in its photometric tag whether a tile
holds RGB or YCbCr. A decoder that is given only the stream has to guess from markers that scanners
write wrongly or leave out; OpenSlide goes by the tag, and so do we. Source: ITU-T T.81 annex B,
TIFF technical note 2, Adobe technical note 5116.
"""

_START = b"\xff\xd8"
_COLOUR_MARKS = frozenset({0xE0, 0xEE})  # APP0 of JFIF and APP14 of Adobe
_START_OF_SCAN = 0xDA
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"  # then the transform: 0 RGB, 1 YCbCr


class WholeJpegs:
    """Makes JPEG files of a TIFF's tiles, with their tables, in the colours that the TIFF states."""

    def __init__(self, tables: bytes | None, *, ycbcr: bool) -> None:
        shared = b"" if not tables else tables[2:-2]
        self._start = _START + _ADOBE + (b"\x01" if ycbcr else b"\x00") + shared
        self._head = b""  # of the last tile; those of its neighbours begin with the same bytes
        self._new_head = b""

    def of(self, data: bytes) -> bytes:
        """Return the JPEG file of a tile's stream.

        Raises
        ------
        ValueError
            The bytes are no JPEG stream.
        """
        if not self._head or not data.startswith(self._head):
            self._learn(data)
        return self._new_head + data[len(self._head) :]

    def _learn(self, data: bytes) -> None:
        if not data.startswith(_START):
            raise ValueError(f"expected a JPEG, it begins with {data[:4]!r}")
        segments, length = _segments(data)
        kept = (segment for segment in segments if segment[1] not in _COLOUR_MARKS)
        self._head, self._new_head = data[:length], self._start + b"".join(kept)


def _segments(data: bytes) -> tuple[list[bytes], int]:
    """Return a stream's segments up to the marker of its scan, that marker too, and how long they are."""
    segments: list[bytes] = []
    position = len(_START)
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise ValueError(f"expected a marker at byte {position}, got {data[position]:#x}")
        if data[position + 1] == _START_OF_SCAN:
            return [*segments, data[position : position + 2]], position + 2
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        segments.append(data[position:end])
        position = end
    raise ValueError("its bytes end before the picture begins")
