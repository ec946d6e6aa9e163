"""Drawn tiles and overviews whose pixels are the same on every machine and with every NumPy.

Integer arithmetic on the raw bits of PCG64 only: NumPy promises the bit stream of a bit generator
for ever, but not the numbers that a ``Generator`` makes of it.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

GLASS: Final = (236, 232, 238)
FAINT_STROMA: Final = (226, 214, 224)
STROMA: Final = (222, 160, 192)
NUCLEI: Final = (104, 66, 148)


def drawn_tiles() -> dict[str, NDArray[np.uint8]]:
    """Return tiles by name, each ``(height, width, 3)``."""
    return {
        "stained 512x512": stained(512, 512, seed=1),
        "stained 1024x1024": stained(1024, 1024, seed=2),
        "gradient 513x257": gradient(513, 257),
        "noise 64x64": _random_bytes(3, 64, 64, 3),
        # OpenCV's sampling to 64 px takes the pixel before at some columns of 372 px and rows of
        # 420 px: it multiplies by 1 / (64 / 372), which is a little below 372 / 64.
        "noise 372x420": _random_bytes(4, 420, 372, 3),
        "black and white parts 512x512": black_and_white_parts(),
        "9 tissue pixels in the sample 512x512": nearly_glass(9),
        "10 tissue pixels in the sample 512x512": nearly_glass(10),
        "colours 64x64": colours(),
    }


def drawn_overviews() -> dict[str, NDArray[np.uint8]]:
    """Return overviews by name, each ``(height, width, 3)``."""
    section = _section(500, 700, seed=11, stroma=STROMA)
    stitched = _section(500, 700, seed=12, stroma=STROMA)
    stitched[:120], stitched[:, 600:] = 255, 0
    bands = np.zeros((300, 400, 3), dtype=np.uint8)
    bands[:, :150], bands[:, 150:250], bands[:, 250:] = 60, 130, 220
    return {
        "section": section,
        "section in parts that were not scanned": stitched,
        "faint section": _section(500, 700, seed=13, stroma=FAINT_STROMA),
        "glass alone": _noisy(np.full((400, 400, 3), GLASS, dtype=np.int32), seed=14),
        "three flat greys": bands,
        "dark field": 255 - _section(500, 700, seed=15, stroma=STROMA),
    }


def pixels_sha256(pixels: NDArray[np.uint8]) -> str:
    """Return the sha256 of the rows one after the other, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def tissue_sha256(tissue: NDArray[np.bool_]) -> str:
    """Return the sha256 of the rows one after the other, eight pixels a byte, in hexadecimal."""
    return hashlib.sha256(np.packbits(tissue).tobytes()).hexdigest()


def stained(height: int, width: int, *, seed: int) -> NDArray[np.uint8]:
    """Return stroma with nuclei, and glass in the lower right."""
    rows, columns = np.mgrid[:height, :width]
    canvas = np.empty((height, width, 3), dtype=np.int32)
    canvas[...] = STROMA
    canvas[2 * rows + columns > 2 * height] = GLASS
    _draw_nuclei(canvas, count=height * width // 2000, seed=seed)
    return _noisy(canvas, seed=seed + 100)


def gradient(width: int, height: int) -> NDArray[np.uint8]:
    """Return red growing to the right, green downwards, blue along the diagonal."""
    rows, columns = np.mgrid[:height, :width]
    red = columns * 255 // (width - 1)
    green = rows * 255 // (height - 1)
    return np.dstack([red, green, (red + green) // 2]).astype(np.uint8)


def black_and_white_parts() -> NDArray[np.uint8]:
    """Return stained tissue whose upper left is 0 and whose lower right is 255."""
    tile = stained(512, 512, seed=5)
    tile[:200, :300] = 0
    tile[350:, 180:] = 255
    return tile


def nearly_glass(tissue_samples: int) -> NDArray[np.uint8]:
    """Return glass on which as many samples of the 64 x 64 grid (every 8 px) are dark."""
    canvas = np.full((512, 512, 3), GLASS, dtype=np.int32)
    for spot in range(tissue_samples):
        row, column = 48 * (spot // 4 + 1), 96 * (spot % 4 + 1)
        canvas[row - 3 : row + 4, column - 3 : column + 4] = NUCLEI
    return _noisy(canvas, seed=6)


def colours() -> NDArray[np.uint8]:
    """Return hues once round the circle, column by column, of varied brightness and saturation."""
    rows, columns = np.mgrid[:64, :64]
    angle = (columns * 64 + rows) * 1530 // 4096  # six edges of the colour cube, 255 steps each
    ramps = [abs((angle + turn) % 1530 - 765) - 255 for turn in (0, 1020, 510)]
    pure = np.clip(np.dstack(ramps), 0, 255)
    white = (rows * 37 % 8 * 30)[..., None]
    brightness = (columns * 29 % 5 * 40 + 95)[..., None]
    chart = (pure * (255 - white) // 255 + white) * brightness // 255
    return np.asarray(chart, dtype=np.uint8)


def _section(
    height: int, width: int, *, seed: int, stroma: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Return a piece of tissue on glass: two overlapping ellipses with nuclei."""
    rows, columns = np.mgrid[:height, :width]
    canvas = np.full((height, width, 3), GLASS, dtype=np.int32)
    inside = np.zeros((height, width), dtype=np.bool_)
    for y, x, half_height, half_width in ((240, 260, 130, 180), (310, 430, 110, 150)):
        inside |= ((rows - y) * half_width) ** 2 + ((columns - x) * half_height) ** 2 < (
            half_height * half_width
        ) ** 2
    canvas[inside] = stroma
    nuclei = canvas.copy()
    _draw_nuclei(nuclei, count=400, seed=seed)
    canvas[inside] = nuclei[inside]
    return _noisy(canvas, seed=seed + 100)


def _draw_nuclei(canvas: NDArray[np.int32], *, count: int, seed: int) -> None:
    """Draw discs of 3 to 9 px radius anywhere on the canvas."""
    height, width = canvas.shape[:2]
    places = _raw(seed, 3 * count).reshape(count, 3)  # (nucleus, row column radius)
    for row_bits, column_bits, radius_bits in places.tolist():
        row, column, radius = row_bits % height, column_bits % width, 3 + radius_bits % 7
        top, left = max(0, row - radius), max(0, column - radius)
        part = canvas[top : row + radius + 1, left : column + radius + 1]
        rows, columns = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
        part[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = NUCLEI


def _noisy(canvas: NDArray[np.int32], *, seed: int) -> NDArray[np.uint8]:
    """Return the canvas with noise of about 4 grey levels, each channel its own."""
    four = _random_bytes(seed, 4, *canvas.shape).astype(np.int32)
    noise = (four.sum(axis=0) - 510) // 37  # the sum of four bytes has mean 510 and spread 148
    return np.asarray(np.clip(canvas + noise, 0, 255), dtype=np.uint8)


def _random_bytes(seed: int, *shape: int) -> NDArray[np.uint8]:
    count = int(np.prod(shape))
    return _raw(seed, -(-count // 8)).view(np.uint8)[:count].reshape(shape)


def _raw(seed: int, count: int) -> NDArray[np.uint64]:
    """Return random words of 64 bits, little end first."""
    return np.asarray(np.random.PCG64(seed).random_raw(count)).astype("<u8")
