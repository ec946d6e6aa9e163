"""``wsi-pipeline info``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from wsi_pipeline.slides.reader import SlideInfo, SlideReader

_MOST_DECODED_PX = 1 << 24  # a flat picture has to be decoded whole: 0.1 s


def info(slides: options.SLIDES, json: options.JSON = False) -> None:
    """Say what each slide is: what reads it and why, size, levels, µm per pixel, bounds, scanner."""
    from contextlib import closing

    from wsi_pipeline.cli import console
    from wsi_pipeline.errors import SlideError
    from wsi_pipeline.parts import parts_of
    from wsi_pipeline.slides.find import find_slides
    from wsi_pipeline.slides.open import open_source
    from wsi_pipeline.slides.staging import staged

    values: list[dict[str, Any]] = []
    for source in find_slides(slides):
        if source.refused is not None and source.refused.status == "skipped":
            continue
        entry: dict[str, Any] = {"slide_id": source.slide_id, "path": source.path}
        try:
            with staged(source) as here, closing(open_source(here, slide_mpp=None)) as reader:
                entry["files"] = len(parts_of(Path(here.path)))
                entry |= {**_described(reader.info), "label_mask": _label_mask(reader)}
        except SlideError as error:
            entry["error"] = str(error)
        values.append(entry)
    if json:
        console.print_json(values)
    else:
        for entry in values:
            _show(entry)
    raise typer.Exit(1 if any("error" in entry for entry in values) else 0)


def _label_mask(reader: "SlideReader") -> str | None:
    """Return why a slide of one channel is a label mask, None where it is none or not cheap to tell."""
    from wsi_pipeline.errors import SlideError
    from wsi_pipeline.slides.overview import stored_pixels
    from wsi_pipeline.tissue.segment import class_raster_reason

    info = reader.info
    is_large = info.backend == "flat" and info.size0.width * info.size0.height > _MOST_DECODED_PX
    if info.channels > 1 or is_large:
        return None
    try:
        return class_raster_reason(stored_pixels(reader), channels=info.channels)
    except SlideError:  # a flat picture that cannot be decoded
        return None


def _described(slide: "SlideInfo") -> dict[str, Any]:
    bounds0 = slide.bounds0
    return {
        "backend": slide.backend,
        "backend_reason": slide.backend_reason,
        "format": slide.format,
        "width": slide.size0.width,
        "height": slide.size0.height,
        "mpp_x": slide.mpp_x,
        "mpp_y": slide.mpp_y,
        "mpp_note": slide.mpp_note,
        "objective_power": slide.objective_power,
        "scanner": slide.scanner,
        "channels": slide.channels,
        "bounds": [bounds0.x, bounds0.y, bounds0.width, bounds0.height],
        "levels": [
            {
                "width": level.size_px.width,
                "height": level.size_px.height,
                "downsample": round(level.downsample, 4),
            }
            for level in slide.levels
        ],
        "associated": list(slide.associated),
        "icc_profile_bytes": len(slide.icc_profile or b""),
    }


def _show(entry: dict[str, Any]) -> None:
    from wsi_pipeline.cli import console

    console.say(f"{entry['slide_id']}  ({entry['path']})")
    if "error" in entry:
        console.say(f"  cannot be used: {entry['error']}")
        return
    mpp = f"{entry['mpp_x']:.4g} x {entry['mpp_y']:.4g}" if entry["mpp_x"] else "unknown"
    levels = ", ".join(
        f"{level['width']} x {level['height']} (1:{level['downsample']:g})"
        for level in entry["levels"]
    )
    lines = {
        "read by": f"{entry['backend']} ({entry['backend_reason']})",
        "size": f"{entry['width']} x {entry['height']} px, {entry['channels']} channels",
        "µm/px": f"{mpp} ({entry['mpp_note']})",
        "levels": levels,
        "bounds": "x {} y {} width {} height {}".format(*entry["bounds"]),
        "objective": entry["objective_power"] and f"{entry['objective_power']:g} x",
        "scanner": entry["scanner"],
        "files": entry["files"] if entry["files"] > 1 else None,
        "refused": entry["label_mask"],
        "images": ", ".join(entry["associated"]),
        "ICC": entry["icc_profile_bytes"] and f"{entry['icc_profile_bytes']} bytes, not applied",
    }
    for name, text in lines.items():
        if text:
            console.say(f"  {name:<10}{text}")
