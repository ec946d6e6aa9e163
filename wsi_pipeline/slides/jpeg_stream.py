"""The JPEG streams inside TIFF files made into JPEG files that say how their colours are coded.

A TIFF keeps the tables of all tiles once (JPEGTables) and says in its photometric tag whether a tile
holds RGB or YCbCr. A decoder that is given only the stream has to guess from markers that scanners
write wrongly or leave out; OpenSlide goes by the tag, and so do we. Source: ITU-T T.81 annex B,
TIFF technical note 2, Adobe technical note 5116.
"""

from collections.abc import Iterator

_START = b"\xff\xd8"
_APP0, _APP14, _START_OF_SCAN = 0xE0, 0xEE, 0xDA
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"  # then the transform: 0 RGB, 1 YCbCr


def whole_jpeg(data: bytes, tables: bytes | None, *, ycbcr: bool) -> bytes:
    """Return a JPEG file of a TIFF's tile, with its tables, in the colours that the TIFF states.

    Raises
    ------
    ValueError
        The bytes are no JPEG stream.
    """
    if not data.startswith(_START):
        raise ValueError(f"expected a JPEG, it begins with {data[:4]!r}")
    shared = b"" if not tables else tables[2:-2]
    marker = _ADOBE + (b"\x01" if ycbcr else b"\x00")
    return b"".join([_START, marker, shared, *_without_colour_marks(data)])


def _without_colour_marks(data: bytes) -> Iterator[bytes]:
    """Yield a stream after its start, without the segments from which a decoder would guess colours."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise ValueError(f"expected a marker at byte {position}, got {data[position]:#x}")
        kind = data[position + 1]
        if kind == _START_OF_SCAN:
            break
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if kind not in {_APP0, _APP14}:
            yield data[position:end]
        position = end
    yield data[position:]
