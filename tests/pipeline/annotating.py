"""Annotations as drawing programs write them."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from tests.pipeline.runs import manifest


def rectangle(name: str | None, x: float, y: float, width: float, height: float) -> dict[str, Any]:
    """Return a Feature as QuPath writes it."""
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    properties = {"classification": {"name": name}} if name else {}
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": {"objectType": "annotation", **properties},
    }


def write_geojson(path: Path, features: Iterable[dict[str, Any]]) -> None:
    data = json.dumps({"type": "FeatureCollection", "features": list(features)}).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_asap(path: Path, group: str, corners: Iterable[tuple[float, float]]) -> None:
    points = "".join(
        f'<Coordinate Order="{number}" X="{x}" Y="{y}" />' for number, (x, y) in enumerate(corners)
    )
    path.write_text(
        f'<?xml version="1.0"?><ASAP_Annotations><Annotations><Annotation Name="a" Type="Polygon" '
        f'PartOfGroup="{group}" Color="#F4FA58"><Coordinates>{points}</Coordinates></Annotation>'
        "</Annotations></ASAP_Annotations>"
    )


def labelled(run: Path, slide_id: str) -> pd.DataFrame:
    """Return one slide's rows of the manifest."""
    rows = manifest(run)
    return rows[rows["slide_id"] == slide_id]
