"""One other loader over the same JPEG files: ``loader_peers.py NAME FOLDER BATCH WORKERS``, as JSON.

Runs in the peers' environment. Every one gives shuffled uint8 batches by a DataLoader with so many worker
processes that live on; the second epoch is timed.
"""

import importlib
import json
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

MDS_BYTES = 1 << 26
ANNBATCH_ROWS = 32
"""Rows that it reads together, as in its documentation's examples."""
ANNBATCH_SHARD_BYTES = 1 << 30
"""As its own writer has it."""


def main(name: str, folder: Path, batch: int, workers: int) -> dict[str, float]:
    """Return tiles a second."""
    loader = PEERS[name](folder, batch, workers)
    _pass(loader)
    start, cpu = time.perf_counter(), _cpu_s()
    tiles = _pass(loader)
    seconds, cpu = time.perf_counter() - start, _cpu_s() - cpu
    return {"tiles_per_s": tiles / seconds, "tiles": tiles, "cpu_ms": 1e3 * cpu / tiles}


def _cpu_s() -> float:
    """Return processor time of this process and of its workers so far."""
    ticks = 0
    for children in Path("/proc/self/task").glob("*/children"):
        for worker in children.read_text(encoding="ascii").split():
            stat = Path("/proc", worker, "stat").read_text(encoding="ascii")
            ticks += sum(map(int, stat.rpartition(")")[2].split()[11:13]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _pass(loader: Iterable[Any]) -> int:
    count = 0
    for item in loader:
        count += len(_images(item))
    return count


def _images(item: Any) -> Any:  # noqa: ANN401
    if isinstance(item, dict):
        return item["X"]
    return item[0] if isinstance(item, (tuple, list)) else getattr(item, "images", item)


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "images" / "0").iterdir())


def _torch_loader(dataset: Any, batch: int | None, workers: int, **more: Any) -> Any:  # noqa: ANN401
    data = importlib.import_module("torch.utils.data")
    return data.DataLoader(
        dataset, batch_size=batch, num_workers=workers, persistent_workers=workers > 0, **more
    )


def _as_tensor(image: Any) -> Any:  # noqa: ANN401
    return importlib.import_module("torchvision.transforms.functional").pil_to_tensor(image)


def image_folder(folder: Path, batch: int, workers: int) -> Any:  # noqa: ANN401
    """torchvision's ImageFolder: a file an image, PIL."""
    datasets = importlib.import_module("torchvision.datasets")
    dataset = datasets.ImageFolder(str(folder / "images"), transform=_as_tensor)
    return _torch_loader(dataset, batch, workers, shuffle=True)


class _Tiles:
    """``array[i]`` through zarr, as anybody would write it."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._array: Any = None

    def _opened(self) -> Any:  # noqa: ANN401
        if self._array is None:
            zarr = importlib.import_module("zarr")
            self._array = zarr.open_group(self._store, mode="r")["slide_0000"]
        return self._array

    def __len__(self) -> int:
        return int(self._opened().shape[0])

    def __getitem__(self, number: int) -> Any:  # noqa: ANN401
        torch = importlib.import_module("torch")
        return torch.from_numpy(self._opened()[number]).permute(2, 0, 1)


def plain_zarr(folder: Path, batch: int, workers: int) -> Any:  # noqa: ANN401
    """A data set that asks zarr for one tile at a time."""
    return _torch_loader(_Tiles(folder / "RUN" / "tiles.zarr"), batch, workers, shuffle=True)


def webdataset(folder: Path, batch: int, workers: int) -> Any:  # noqa: ANN401
    """WebDataset: tar files, PIL, a shuffle buffer of 1000."""
    wds = importlib.import_module("webdataset")
    out = folder / "webdataset"
    if not out.exists():
        out.mkdir()
        files = _files(folder)
        shards = max(workers, 1) * 4
        for shard in range(shards):
            with tarfile.open(out / f"{shard:03d}.tar", "w") as tar:
                for path in files[shard::shards]:
                    tar.add(path, arcname=path.name)
    urls = [str(path) for path in sorted(out.iterdir())]
    dataset = (
        wds.WebDataset(urls, shardshuffle=len(urls))
        .shuffle(1000)
        .decode("torchrgb8")
        .to_tuple("jpg")
    )
    return _torch_loader(dataset.batched(batch), None, workers)


def mosaic(folder: Path, batch: int, workers: int) -> Any:  # noqa: ANN401
    """MosaicML Streaming: MDS shards of jpeg, py1e."""
    streaming = importlib.import_module("streaming")
    pil = importlib.import_module("PIL.Image")
    out = folder / "mds"
    if not out.exists():
        with streaming.MDSWriter(
            out=str(out), columns={"image": "jpeg"}, size_limit=MDS_BYTES
        ) as writer:
            for path in _files(folder):
                writer.write({"image": pil.open(path)})
    streaming.base.util.clean_stale_shared_memory()

    class Tensors(streaming.StreamingDataset):  # type: ignore[name-defined]
        def __getitem__(self, at: int) -> Any:  # noqa: ANN401
            return _as_tensor(super().__getitem__(at)["image"])

    return _torch_loader(Tensors(local=str(out), shuffle=True, batch_size=batch), batch, workers)


def _opened(path: str) -> Any:  # noqa: ANN401
    return importlib.import_module("PIL.Image").open(path)


def litdata(folder: Path, batch: int, workers: int) -> Any:  # noqa: ANN401
    """Lightning's litdata: chunks of 64 MB, torchvision's decoder."""
    lit = importlib.import_module("litdata")
    out = folder / "litdata"
    if not (out / "index.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        lit.optimize(
            fn=_opened,
            inputs=[str(path) for path in _files(folder)],
            output_dir=str(out),
            chunk_bytes="64MB",
            num_workers=1,
        )
    dataset = lit.StreamingDataset(str(out), shuffle=True)
    return lit.StreamingDataLoader(
        dataset, batch_size=batch, num_workers=workers, persistent_workers=workers > 0
    )


def annbatch(folder: Path, batch: int, workers: int) -> Any:  # noqa: ANN401
    """annbatch over its own kind of store: raw pixels in zstd, as many rows a chunk as it reads together.

    It knows no JPEG. By its advice zarrs reads in threads, without worker processes, slices of 32 rows.
    """
    zarr = importlib.import_module("zarr")
    zarr.config.set(
        {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": workers}
    )
    out = folder / "annbatch.zarr"
    if not out.exists():
        _write_pixels(_files(folder), out)
    array = zarr.open_array(out, mode="r")
    loader = importlib.import_module("annbatch").Loader(
        batch_size=batch,
        chunk_size=ANNBATCH_ROWS,
        preload_nchunks=max(batch // ANNBATCH_ROWS, min(256, array.shape[0] // ANNBATCH_ROWS // 2)),
        shuffle=True,
        preload_to_gpu=False,
    )
    return loader.add_dataset(array)


def _write_pixels(files: list[Path], out: Path) -> None:
    zarr = importlib.import_module("zarr")
    numpy = importlib.import_module("numpy")
    first = numpy.asarray(_opened(str(files[0])))
    shard = ANNBATCH_ROWS * max(1, ANNBATCH_SHARD_BYTES // (first.nbytes * ANNBATCH_ROWS))
    array = zarr.create_array(
        out.with_suffix(".new"),
        shape=(len(files), *first.shape),
        chunks=(ANNBATCH_ROWS, *first.shape),
        shards=(shard, *first.shape),
        dtype="uint8",
    )
    for begin in range(0, len(files), shard):
        part = files[begin : begin + shard]
        array[begin : begin + len(part)] = numpy.stack([_opened(str(path)) for path in part])
    out.with_suffix(".new").rename(out)


def this_package(folder: Path, batch: int, workers: int) -> Any:  # noqa: ANN401
    """This package's loader in worker processes, as the others."""
    dataset = importlib.import_module("wsi_pipeline.loader.dataset")
    tiles = importlib.import_module("wsi_pipeline.loader.tiles")
    loader = tiles.TileLoader(folder / "RUN", batch_size=batch)
    return dataset.TileDataLoader(loader, workers=workers, persistent_workers=True)


PEERS: dict[str, Callable[[Path, int, int], Any]] = {
    "ImageFolder": image_folder,
    "plain zarr[i]": plain_zarr,
    "WebDataset": webdataset,
    "MosaicML Streaming": mosaic,
    "litdata": litdata,
    "annbatch": annbatch,
    "its own worker processes": this_package,
}


if __name__ == "__main__":
    name, folder, batch, workers = sys.argv[1:]
    print(json.dumps(main(name, Path(folder), int(batch), int(workers))))  # noqa: T201
