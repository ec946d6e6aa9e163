"""Batches decoded on a device: the same tiles, order and errors as on the processor.

Where no CUDA device is, decoders of the processor stand in for it; only nvJPEG itself is missing then.
"""

import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from tests.pipeline.runs import Drawn, tile
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import ConfigError, PipelineError, TileError
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.loader.world import World
from wsi_pipeline.store.layout import shard_name
from wsi_pipeline.store.reader import read_shard
from wsi_pipeline.store.writer import write_shard

torch = pytest.importorskip("torch", reason="needs the extra train")

from wsi_pipeline.loader import device  # noqa: E402
from wsi_pipeline.loader.dataset import TensorBatch, TileDataLoader  # noqa: E402

# torch warns of more processes than cores, and of forking beside threads.
pytestmark = pytest.mark.filterwarnings("default")

SMALL = TileConfig(tile_size=64, overlap=0.25, min_tissue=0.0, tissue="none")
HAS_CUDA = torch.cuda.is_available()

Decode = Callable[[list[Any]], list[Any]]


@pytest.fixture(scope="module")
def run(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two slides that no test writes to."""
    folder = tmp_path_factory.mktemp("device") / "RUN"
    tile(folder, drawn.he, drawn.plain, config=SMALL)
    return folder


def by_simplejpeg(files: list[Any]) -> list[Any]:
    """Decode as a device does: all or nothing, damage as gray."""
    try:
        decoded = [simplejpeg.decode_jpeg(file.numpy().tobytes(), strict=False) for file in files]
    except ValueError as error:
        raise RuntimeError(str(error)) from error
    return [torch.from_numpy(rgb).permute(2, 0, 1) for rgb in decoded]


def by_torchcodec(files: list[Any]) -> list[Any]:
    """Decode by the library that decodes on a device, on the processor."""
    decoders = pytest.importorskip("torchcodec.decoders", reason="needs the extra gpu")
    found: list[Any] = decoders.decode_jpeg(files, mode="RGB")
    return found


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Decode], None]:
    """Let a decoder of the processor be that of a device."""

    def use(decode: Decode) -> None:
        monkeypatch.setattr(device, "decoding_device", lambda named: torch.device(named or "cpu"))
        monkeypatch.setattr(device, "nvjpeg", lambda _: decode)

    use(by_simplejpeg)
    return use


def loader_of(run: Path, decoder: str = "cuda", **settings: object) -> TileDataLoader:
    given = {"batch_size": 48, "seed": 5, "target": "slide_id", "columns": ("x",), **settings}
    return TileDataLoader(TileLoader(run, decoder=decoder, **given))  # type: ignore[arg-type]


def assert_same(one: TensorBatch, other: TensorBatch, *, within: int = 0) -> None:
    assert (one.epoch, one.number, one.slide_ids) == (other.epoch, other.number, other.slide_ids)
    for name in ("targets", "weights", "rows", "tiles", "keys"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    assert torch.equal(one.columns["x"], other.columns["x"])
    assert one.images.is_contiguous(memory_format=torch.channels_last)
    assert one.images.dtype == torch.uint8
    difference = one.images.to(torch.int16) - other.images.to(torch.int16)
    assert int(difference.abs().max()) <= within


@pytest.mark.parametrize("decode", [by_simplejpeg, by_torchcodec])
def test_a_device_gives_the_batches_of_the_processor(
    decode: Decode, run: Path, stand_in: Callable[[Decode], None]
) -> None:
    stand_in(decode)
    there, here = loader_of(run), loader_of(run, "cpu")
    for _ in range(2):
        for one, other in zip(there, here, strict=True):
            assert_same(one, other)
    assert there.loader.epoch == 2


@pytest.mark.parametrize("image_px", [48, 32, 7])
@pytest.mark.usefixtures("stand_in")
def test_images_are_averaged_as_on_the_processor(image_px: int, run: Path) -> None:
    there, here = loader_of(run, image_px=image_px), loader_of(run, "cpu", image_px=image_px)
    for one, other in zip(there, here, strict=True):
        assert_same(one, other, within=1)  # halves are rounded up there, and to even here


@pytest.mark.usefixtures("stand_in")
def test_ranks_have_their_parts_and_all_go_on_where_they_were(run: Path) -> None:
    whole = list(loader_of(run, "cpu"))
    for rank in range(3):
        world = World(rank=rank, ranks=3)
        first = loader_of(run, world=world)
        for _, _ in zip(range(2), first, strict=False):
            pass
        again = loader_of(run, world=world)
        again.load_state_dict(first.state_dict())
        for part, all_of_it in zip(again, whole[2:], strict=True):
            assert torch.equal(part.images, all_of_it.images[16 * rank : 16 * (rank + 1)])


@pytest.mark.usefixtures("stand_in")
def test_a_state_of_another_decoder_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="decoder"):
        loader_of(run).load_state_dict(loader_of(run, "cpu").state_dict())


Damage = Callable[[bytes], bytes]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def one_bit(data: bytes) -> bytes:
    at = 3 * len(data) // 4
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def hurt(drawn: Drawn, folder: Path, change: Damage, *numbers: int) -> Path:
    """Return a run of one slide with damaged tiles in whole files."""
    tile(folder, drawn.he, config=SMALL)
    array = folder / "tiles.zarr" / "he"
    for shard in {number // 64 for number in numbers}:
        chunks = list(read_shard(array, shard))
        for number in numbers:
            chunk = chunks[number % 64]
            if number // 64 == shard and chunk is not None:
                chunks[number % 64] = change(chunk)
        write_shard(array, shard, chunks)
    return folder


@pytest.mark.parametrize("change", [half, one_bit])
@pytest.mark.usefixtures("stand_in")
def test_damage_that_a_device_would_pass_on_stops_the_epoch_by_name(
    change: Damage, drawn: Drawn, tmp_path: Path
) -> None:
    run = hurt(drawn, tmp_path / "RUN", change, 77)
    with pytest.raises(TileError, match="not those that were stored") as raised:
        list(loader_of(run))
    for words in ("slide he", "tile 77", shard_name(1)):
        assert words in str(raised.value)


@pytest.mark.usefixtures("stand_in")
def test_skipped_tiles_are_those_of_the_processor(drawn: Drawn, tmp_path: Path) -> None:
    run = hurt(drawn, tmp_path / "RUN", half, 0, 77, 78)
    skip: dict[str, Any] = {"on_error": "skip", "most_skipped": 0.02}
    problems = 0
    for one, other in zip(loader_of(run, **skip), loader_of(run, "cpu", **skip), strict=True):
        assert_same(one, other)
        assert len(one.problems) == len(other.problems)
        problems += len(one.problems)
    assert problems == 3
    with pytest.raises(TileError, match="most_skipped allows 2"):
        list(loader_of(run, on_error="skip", most_skipped=0.008))


def test_a_tile_that_the_device_refuses_is_named_and_the_others_are_kept(
    run: Path, stand_in: Callable[[Decode], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    array = run / "tiles.zarr" / "he"
    refused = read_shard(array, 1)[5]

    def choosy(files: list[Any]) -> list[Any]:
        if any(file.numpy().tobytes() == refused for file in files):
            raise RuntimeError("status 6")
        return by_simplejpeg(files)

    stand_in(choosy)
    monkeypatch.setattr(device, "PIECE_BYTES", 20 * 3 * 64**2)  # several pieces a batch
    with pytest.raises(
        TileError, match=r"slide he, tile 69, .*cannot be decoded on cpu \(status 6"
    ):
        list(loader_of(run))
    batches = list(loader_of(run, on_error="skip", most_skipped=0.01))
    assert sum(len(batch.problems) for batch in batches) == 1
    for one, other in zip(batches, loader_of(run, "cpu"), strict=True):
        counts = one.rows >= 0
        assert torch.equal(one.images[counts], other.images[counts])


def smaller(files: list[Any]) -> list[Any]:
    return [image[:, :32] for image in by_simplejpeg(files)]


def black(files: list[Any]) -> list[Any]:
    return [torch.zeros_like(image) for image in by_simplejpeg(files)]


def out_of_memory(files: list[Any]) -> list[Any]:
    raise torch.OutOfMemoryError(f"{len(files)} images")


@pytest.mark.parametrize(
    ("decode", "error", "said"),
    [
        (smaller, TileError, "expected 3 x 64 x 64, got 3 x 32 x 64"),
        (black, PipelineError, r"slide .*, tile .*grey levels away from the processor"),
        (out_of_memory, torch.OutOfMemoryError, "48 images"),
    ],
)
def test_what_a_device_gives_is_looked_at(
    decode: Decode,
    error: type[Exception],
    said: str,
    run: Path,
    stand_in: Callable[[Decode], None],
) -> None:
    stand_in(decode)
    with pytest.raises(error, match=said):
        list(loader_of(run))


@pytest.mark.parametrize("decode", [by_simplejpeg, by_torchcodec])
def test_an_image_is_not_turned_by_how_a_camera_was_held(decode: Decode) -> None:
    rgb = np.random.default_rng(1).integers(0, 255, (16, 16, 3), np.uint8)
    plain = simplejpeg.encode_jpeg(rgb)
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6
    exif = b"Exif\0\0" + tiff
    turned = plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    images = decode(device.packed([plain, memoryview(turned)], pinned=False))
    assert torch.equal(images[0], images[1])


@pytest.mark.usefixtures("stand_in")
def test_breaking_off_leaves_no_thread_behind(run: Path) -> None:
    before = threading.active_count()
    for batch in loader_of(run, batch_size=8):
        assert batch.number == 0
        break
    assert threading.active_count() == before


def test_only_a_few_batches_are_on_the_device(run: Path) -> None:
    batch = next(iter(loader_of(run, "cpu")))
    made: list[int] = []

    def hosts() -> Iterator[int]:
        for number in range(9):
            made.append(number)
            yield number

    given = device.ahead_on(torch.device("cpu"), hosts(), lambda _: batch)
    for number, _ in enumerate(given):
        time.sleep(0.01)
        assert len(made) <= number + 1 + device.DEVICE_AHEAD
    assert number == 8


def test_an_error_comes_in_its_turn(run: Path) -> None:
    batch = next(iter(loader_of(run, "cpu")))

    def put(number: int) -> TensorBatch:
        if number == 3:
            raise TileError("the fourth")
        return batch

    before = threading.active_count()
    given = device.ahead_on(torch.device("cpu"), iter(range(9)), put)
    assert [next(given) for _ in range(3)] == [batch] * 3
    with pytest.raises(TileError, match="the fourth"):
        next(given)
    assert threading.active_count() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_the_processor_are_copied_ahead_in_order(workers: int, run: Path) -> None:
    alone = loader_of(run, "cpu")
    copied = TileDataLoader(loader_of(run, "cpu").loader, workers=workers, device="cpu")
    for _ in range(2):
        for one, other in zip(copied, alone, strict=True):
            assert_same(one, other)


@pytest.mark.skipif(HAS_CUDA, reason="there is a CUDA device")
def test_without_a_device_it_is_refused_in_a_sentence(run: Path) -> None:
    with pytest.raises(ConfigError, match="there is no CUDA device here; take cpu"):
        loader_of(run)
    with pytest.raises(ConfigError, match="device: there is no CUDA device here, got cuda:1"):
        TileDataLoader(TileLoader(run, batch_size=4), device="cuda:1")


@pytest.mark.parametrize("found", [None, "0.16.1"])
def test_a_decoder_that_is_missing_or_too_old_is_refused(
    found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(_: str) -> str:
        if found is None:
            raise PackageNotFoundError
        return found

    monkeypatch.setattr(device, "version", version)
    with pytest.raises(ConfigError, match=r"torchcodec 0\.17 or newer: pip install"):
        device.nvjpeg(torch.device("cuda", 0))


@pytest.mark.usefixtures("stand_in")
def test_what_a_device_cannot_do_is_refused_before_anything_is_read(
    drawn: Drawn, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="shrink: expected 1 with decoder cuda"):
        loader_of(run, shrink=2)
    with pytest.raises(ConfigError, match="TileDataLoader alone"):
        next(iter(TileLoader(run, batch_size=4, decoder="cuda")))
    with pytest.raises(ConfigError, match="workers: expected 0 with decoder cuda, got 2"):
        TileDataLoader(TileLoader(run, batch_size=4, decoder="cuda"), workers=2)
    for name, settings in {"ZSTD": {"codec": "zstd"}, "BARE": {"store": "none"}}.items():
        config = TileConfig(**{**SMALL.model_dump(), **settings})
        tile(tmp_path / name, drawn.plain, config=config)
        with pytest.raises(ConfigError, match=r"decoder: cuda: expected (stored )?JPEG tiles"):
            loader_of(tmp_path / name)


def test_another_kind_of_device_is_no_cuda_device() -> None:
    with pytest.raises(ConfigError, match="got device meta"):
        device.decoding_device("meta")


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")
@pytest.mark.parametrize("image_px", [None, 32])
def test_nvjpeg_gives_nearly_the_processors_pixels(image_px: int | None, run: Path) -> None:
    """Colours of tiles are stored at half the size, and every decoder enlarges them in its own way."""
    pytest.importorskip("torchcodec", reason="needs the extra gpu")
    there, here = loader_of(run, image_px=image_px), loader_of(run, "cpu", image_px=image_px)
    for one, other in zip(there, here, strict=True):
        assert one.images.device.type == "cuda"
        assert torch.equal(one.rows.cpu(), other.rows)
        assert torch.equal(one.keys.cpu(), other.keys)
        difference = one.images.cpu().to(torch.int16) - other.images.to(torch.int16)
        assert float(difference.abs().float().mean()) < device.MOST_DIFFERENCE


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")
@pytest.mark.parametrize("decoder", ["cpu", "cuda"])
def test_a_batch_on_the_device_stays_as_it_is_while_others_are_made(
    decoder: str, run: Path
) -> None:
    """A slow network reads a batch that the program has already let go of."""
    if decoder == "cuda":
        pytest.importorskip("torchcodec", reason="needs the extra gpu")
    loader = loader_of(run, decoder)
    batches = TileDataLoader(loader.loader, device="cuda")
    sums = []
    for batch in batches:
        torch.cuda._sleep(
            20_000_000
        )  # cycles of the device; what follows waits, the program does not
        sums.append(batch.images.sum(dtype=torch.int64))
        del batch
    batches.set_epoch(0)
    for expected, batch in zip(sums, batches, strict=True):
        torch.cuda.synchronize()
        assert int(expected) == int(batch.images.sum(dtype=torch.int64))
