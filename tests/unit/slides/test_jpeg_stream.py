import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.slides.jpeg_stream import WholeJpegs

START, ADOBE = b"\xff\xd8", b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
TABLES = START + b"\xff\xdb\x00\x04qq" + b"\xff\xd9"


def segment(kind: int, content: bytes) -> bytes:
    return bytes([0xFF, kind]) + (len(content) + 2).to_bytes(2, "big") + content


segments = st.lists(
    st.tuples(st.sampled_from([0xE0, 0xEE, 0xDB, 0xC4, 0xC0, 0xFE]), st.binary(max_size=9)),
    max_size=5,
)
streams = st.tuples(segments, st.binary(max_size=12))


@given(given_streams=st.lists(streams, min_size=1, max_size=6), ycbcr=st.booleans())
def test_a_stream_keeps_all_but_its_colour_marks_whatever_came_before_it(
    given_streams: list[tuple[list[tuple[int, bytes]], bytes]], *, ycbcr: bool
) -> None:
    jpegs = WholeJpegs(TABLES, ycbcr=ycbcr)
    head = START + ADOBE + (b"\x01" if ycbcr else b"\x00") + TABLES[2:-2]
    for parts, picture in given_streams:
        scan = b"\xff\xda\x00\x02" + picture
        stream = START + b"".join(segment(*part) for part in parts) + scan
        kept = b"".join(segment(*part) for part in parts if part[0] not in {0xE0, 0xEE})
        assert jpegs.of(stream) == head + kept + scan


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"II*\x00", "expected a JPEG, it begins with"),
        (b"", "expected a JPEG"),
        (START + b"\x00" * 8, "expected a marker at byte 2, got 0x0"),
        (START + segment(0xDB, b"qq"), "end before the picture begins"),
        (START + segment(0xDB, b"qq") + b"\xff\xda", "end before the picture begins"),
    ],
)
def test_what_is_no_whole_stream_is_refused_and_the_next_one_is_not(
    stream: bytes, reason: str
) -> None:
    jpegs = WholeJpegs(None, ycbcr=True)
    whole = START + b"\xff\xda\x00\x02picture"
    jpegs.of(whole)
    with pytest.raises(ValueError, match=reason):
        jpegs.of(stream)
    assert jpegs.of(whole) == START + ADOBE + b"\x01" + whole[2:]
