"""Image files as Zarr v3 codecs, found by Zarr through the entry-point group ``zarr.codecs``.

Array to bytes: a chunk ``(1, size, size, 3)`` uint8 is one ordinary image file.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer

from wsi_pipeline.store.codec import decode_tile, encode_tile


@dataclass(frozen=True)
class ImageCodec(ArrayBytesCodec):
    """Base of the image codecs; zarr asks for the underscored methods."""

    is_fixed_size = False
    image_format: ClassVar[str]

    quality: int | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the codec that an array's metadata describes."""
        return cls(**data.get("configuration", {}))

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in an array's metadata."""
        configuration = {} if self.quality is None else {"quality": self.quality}
        return {"name": f"wsi_pipeline.{self.image_format}", "configuration": configuration}

    @property
    def _text(self) -> str:
        return self.image_format if self.quality is None else f"{self.image_format}:{self.quality}"

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        _, size, _, _ = chunk_spec.shape
        rgb = decode_tile(chunk_bytes.to_bytes(), self._text, tile_size=size)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(rgb[np.newaxis])

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        pixels = np.ascontiguousarray(chunk_array.as_numpy_array()[0])
        return chunk_spec.prototype.buffer.from_bytes(encode_tile(pixels, self._text))

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_bytes, chunk_spec)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        return await asyncio.to_thread(self._encode_sync, chunk_array, chunk_spec)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Refuse: an image file's size depends on its pixels."""
        raise ValueError(
            f"the size of a {self.image_format} file depends on its pixels, "
            f"not on {input_byte_length} bytes of shape {chunk_spec.shape}"
        )


class JpegCodec(ImageCodec):
    """JPEG, 4:2:0; ``quality`` 1 to 100."""

    image_format = "jpeg"


class WebpCodec(ImageCodec):
    """WebP with loss; ``quality`` 1 to 100."""

    image_format = "webp"


class JpegxlCodec(ImageCodec):
    """JPEG XL without loss."""

    image_format = "jpegxl"
