"""Stored bytes of batches read ahead and checked, for a device that decodes them."""

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from wsi_pipeline.errors import TileError
from wsi_pipeline.loader.ahead import AheadConfig, begun_ahead
from wsi_pipeline.loader.epoch import Planned
from wsi_pipeline.loader.shards import Encoded
from wsi_pipeline.loader.source import Problem, RowNumbers, StoredTiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A batch's tiles as they are stored."""

    planned: Planned
    data: list[bytes | memoryview] = field(repr=False)
    """Of every tile; empty for one that has a problem."""
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    planned: Planned
    parts: list[RowNumbers]
    futures: list[Future[list[Encoded]]]


def fetch_ahead(
    source: StoredTiles, plans: Iterator[Planned], *, depth: int, config: AheadConfig
) -> Generator[Fetched]:
    """Yield the stored bytes of planned batches, in order; ends its threads when it is closed.

    A device's decoder may pass damaged bytes on as a picture, so every tile's checksum is compared with the
    manifest's.
    """
    threads = ThreadPoolExecutor(config.decoding + config.waiting, "bytes")

    def begin(planned: Planned) -> _Begun:
        parts = source.parts(planned.rows)
        futures = [threads.submit(_fetch, source, planned.rows[part]) for part in parts]
        return _Begun(planned=planned, parts=parts, futures=futures)

    try:
        for begun in begun_ahead(plans, begin, depth=depth):
            yield _fetched(begun)
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _fetch(source: StoredTiles, rows: RowNumbers) -> list[Encoded]:
    return source.checked(rows, source.fetch(rows))


def _fetched(begun: _Begun) -> Fetched:
    data: list[bytes | memoryview] = [b""] * len(begun.planned.rows)
    problems: list[Problem] = []
    for part, future in zip(begun.parts, begun.futures, strict=True):
        for place, found in zip(part.tolist(), future.result(), strict=True):
            if isinstance(found, TileError):
                problems.append((place, found))
            else:
                data[place] = found
    problems.sort(key=lambda problem: problem[0])
    return Fetched(planned=begun.planned, data=data, problems=tuple(problems))
