"""A network fed by the loader: ``python -m tests.benchmarks.feeding FOLDER DECODER DEVICE STEPS``.

EfficientNet-b0 trained at 224 px in bfloat16 with channels last. Prints, as JSON, images a second with one
batch that stays on the device, images a second from the loader, and the share of time that the network waits.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from wsi_pipeline.loader.tiles import TileLoader

BATCH = 256
IMAGE_PX = 224
WARM_STEPS = 10

Step = Callable[[Any], Any]
"""One step of training on images ``(B, 3, 224, 224)`` uint8; returns the loss."""


def main(
    place: Path, decoder: str, device: str, steps: int, *, batch: int = BATCH
) -> dict[str, float]:
    """Return the three figures."""
    torch = importlib.import_module("torch")
    dataset = importlib.import_module("wsi_pipeline.loader.dataset")
    loader = TileLoader(place / "RUN", batch_size=batch, image_px=IMAGE_PX, decoder=decoder)
    batches = _endless(dataset.TileDataLoader(loader, device=device))
    step = _training(torch, device)
    first = next(batches)
    for _ in range(min(WARM_STEPS, steps)):
        step(first.images)
    resident_s, _ = _timed(torch, step, (first for _ in range(steps)), waits=False)
    for each in islice(batches, min(WARM_STEPS, steps)):
        step(each.images)
    fed_s, _ = _timed(torch, step, islice(batches, steps), waits=False)
    total_s, waited_s = _timed(torch, step, islice(batches, steps), waits=True)
    return {
        "resident_per_s": steps * batch / resident_s,
        "fed_per_s": steps * batch / fed_s,
        "waited": waited_s / total_s,
    }


def _endless(batches: Any) -> Iterator[Any]:  # noqa: ANN401
    while True:
        yield from batches


def _training(torch: Any, device: str) -> Step:  # noqa: ANN401
    timm = importlib.import_module("timm")
    model = timm.create_model("efficientnet_b0", num_classes=2)
    model = model.to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step(images: Any) -> Any:  # noqa: ANN401
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            floats = images.float().div_(255).contiguous(memory_format=torch.channels_last)
            loss = model(floats).float().square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def _timed(
    torch: Any,  # noqa: ANN401
    step: Step,
    batches: Iterator[Any],
    *,
    waits: bool,
) -> tuple[float, float]:
    """Return seconds of all steps, and those of them in which nothing but the next batch was waited for.

    With ``waits`` every step is over before the next batch is asked for, else only the last one.
    """
    waited_s = 0.0
    loss = None
    begun_s = time.perf_counter()
    while True:
        asked_s = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            break
        waited_s += time.perf_counter() - asked_s
        loss = step(batch.images)
        if waits:
            loss.item()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun_s, waited_s


if __name__ == "__main__":
    place, decoder, device, steps = sys.argv[1:]
    print(json.dumps(main(Path(place), decoder, device, int(steps))))  # noqa: T201
