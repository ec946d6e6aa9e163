"""Stored bytes to pixels in their place in a batch, at the size that the network takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Self

import cv2
import numpy as np
import simplejpeg
from pydantic import Field, model_validator

from wsi_pipeline.config import Config
from wsi_pipeline.errors import ConfigError, TileError
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.store.codec import decode_tile, parse_codec


class Decoding(Config):
    """How large images are given and how they come to that; one value for training and test.

    Decoding at a share of the size, and averaging over areas, are not equally sharp, so that a network
    must be tested on images made as those that it was trained on.
    """

    image_px: int | None = Field(
        None,
        ge=1,
        description="Side of the images given; the tiles' own size if not given. Larger tiles are averaged "
        "over areas.",
        json_schema_extra={"expected": "pixels, 1 or more"},
    )
    shrink: Literal[1, 2, 4] = Field(
        1,
        description="JPEG tiles are decoded at 1, 1/2 or 1/4 of their size first, which is quicker.",
        json_schema_extra={"expected": "1, 2 or 4"},
    )

    decoder: Literal["cpu", "cuda"] = Field(
        "cpu",
        description="What decodes JPEG tiles: `cpu`, or `cuda` (nvJPEG), which gives other pixels by a few "
        "grey levels.",
        json_schema_extra={"expected": "cpu or cuda"},
    )

    @model_validator(mode="after")
    def _whole_on_a_device(self) -> Self:
        if self.decoder == "cuda" and self.shrink > 1:
            raise ConfigError(
                f"shrink: expected 1 with decoder cuda, which decodes whole images, got {self.shrink}"
            )
        return self

    def side_px(self, tile_size: int) -> int:
        """Return the side of the images made of tiles.

        Raises
        ------
        ConfigError
            The tiles are too small or cannot be shrunk so.
        """
        decoded_px, rest = divmod(tile_size, self.shrink)
        if rest:
            raise ConfigError(
                f"shrink: expected a divisor of the tiles' {tile_size} px, got {self.shrink}; take 1"
            )
        side_px = self.image_px or decoded_px
        if side_px > decoded_px:
            raise ConfigError(
                f"image_px: expected at most {decoded_px} of tiles of {tile_size} px at 1/{self.shrink}, "
                f"got {side_px}; nothing is enlarged"
            )
        return side_px


def decode_into(
    out: Rgb, data: bytes | memoryview, codec: str, *, decoding: Decoding, tile_size: int
) -> None:
    """Fill an image ``(side, side, 3)`` with a stored tile; the interpreter is free meanwhile.

    Raises
    ------
    TileError
        The bytes are damaged or of another size.
    """
    name, _ = parse_codec(codec)
    if name == "jpeg":
        _jpeg_into(out, data, decoding=decoding, tile_size=tile_size)
    else:
        image_into(out, decode_tile(bytes(data), codec, tile_size=tile_size))


def image_into(out: Rgb, rgb: Rgb) -> None:
    """Fill an image with a tile, averaged over areas where it is larger."""
    if out.shape == rgb.shape:
        np.copyto(out, rgb)
    else:
        cv2.resize(rgb, (out.shape[1], out.shape[0]), dst=out, interpolation=cv2.INTER_AREA)


def check_codec(codec: str, decoding: Decoding) -> None:
    """Refuse to shrink tiles, or to decode them on a device, whose codec cannot."""
    if parse_codec(codec)[0] == "jpeg":
        return
    if decoding.shrink > 1:
        raise ConfigError(f"shrink: expected JPEG tiles, got {codec}; leave it at 1")
    if decoding.decoder != "cpu":
        raise ConfigError(f"decoder: cuda: expected JPEG tiles, got {codec}; take cpu")


def _jpeg_into(out: Rgb, data: bytes | memoryview, *, decoding: Decoding, tile_size: int) -> None:
    if out.shape[0] == tile_size // decoding.shrink:
        _decode(out, data, decoding.shrink, tile_size)
        return
    with _scratch(tile_size // decoding.shrink) as whole:
        _decode(whole, data, decoding.shrink, tile_size)
        image_into(out, whole)


def _decode(out: Rgb, data: bytes | memoryview, shrink: int, tile_size: int) -> None:
    try:
        rgb = _decoded(data, shrink, tile_size, out)
    except ValueError as error:
        raise TileError(
            f"its {len(data)} bytes are no whole JPEG of {tile_size} px ({error})"
        ) from error
    if rgb.shape != out.shape:
        side_px, (height, width) = len(out), rgb.shape[:2]
        raise TileError(f"expected {side_px} x {side_px} px, got {width} x {height}")


def _decoded(data: bytes | memoryview, shrink: int, tile_size: int, buffer: Rgb) -> Rgb:
    """Return a JPEG's pixels in a buffer; damaged ones are refused, as libjpeg fills them with gray."""
    if shrink == 1:
        rgb: Rgb = simplejpeg.decode_jpeg(data, buffer=buffer, strict=True)
        return rgb
    # Asked for a least size, the decoder takes the smallest share that gives it: first see that it is ours.
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    if (height, width) != (tile_size, tile_size):
        raise ValueError(f"{width} x {height} px")
    side_px = tile_size // shrink
    shrunk: Rgb = simplejpeg.decode_jpeg(
        data, min_height=side_px, min_width=side_px, buffer=buffer, strict=True
    )
    return shrunk


_spare: list[Rgb] = []
"""Images that no thread is using; the one used last is taken first, as it may still be in a core's cache."""


@contextmanager
def _scratch(side_px: int) -> Iterator[Rgb]:
    """Lend an image ``(side, side, 3)``: new memory for each tile costs a tenth of decoding."""
    try:
        rgb = _spare.pop()
    except IndexError:
        rgb = np.empty((0, 0, 3), np.uint8)
    if len(rgb) != side_px:
        rgb = np.empty((side_px, side_px, 3), np.uint8)
    yield rgb
    _spare.append(rgb)
