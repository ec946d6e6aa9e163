"""Files of drawing programs: every wrapping that occurs is read, and what is broken is named."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from wsi_pipeline.errors import SlideError
from wsi_pipeline.labels import annotations
from wsi_pipeline.labels.annotations import UnfitShapeError, read_geojson, unpacked
from wsi_pipeline.labels.asap import read_asap

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]


def feature(
    name: str | None = "tumor", kind: str = "Polygon", coordinates: object = None
) -> dict[str, Any]:
    """Return a Feature as QuPath writes it."""
    properties: dict[str, Any] = {"objectType": "annotation", "isLocked": True}
    if name is not None:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    geometry = {"type": kind, "coordinates": [SQUARE] if coordinates is None else coordinates}
    return {"type": "Feature", "id": "7b", "geometry": geometry, "properties": properties}


def areas(content: object) -> dict[str | None, float]:
    found = read_geojson(json.dumps(content).encode())
    return dict(zip(found.names, shapely.area(found.shapes).tolist(), strict=True))


@pytest.mark.parametrize(
    "wrapped",
    [
        {"type": "FeatureCollection", "features": [feature()]},
        [feature()],
        feature(),
        {**feature(None), "classification": {"name": "tumor", "colorRGB": -377282}},
        {**feature(None), "properties": {"classification": "tumor"}},
        feature(" tumor "),
    ],
)
def test_every_wrapping_of_a_feature_is_read(wrapped: object) -> None:
    assert areas(wrapped) == {"tumor": 100}


def test_a_derived_class_has_its_names_side_by_side() -> None:
    derived = feature(None)
    derived["properties"]["classification"] = {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}
    assert areas([derived, feature("Tumor: Negative")]).keys() == {
        "Tumor: Positive",
        "Tumor: Negative",
    }


@pytest.mark.parametrize(
    "unnamed",
    [{}, {"classification": None}, {"classification": {}}, {"classification": {"name": " "}}, None],
)
def test_a_shape_without_a_class_has_no_name(unnamed: object) -> None:
    assert areas([{**feature(None), "properties": unnamed}]) == {None: 100}


def test_holes_parts_and_collections_are_kept() -> None:
    far = [[[x + 50, y] for x, y in SQUARE]]
    collection = feature("c")
    collection["geometry"] = {
        "type": "GeometryCollection",
        "geometries": [
            {"type": "Polygon", "coordinates": far},
            {"type": "Point", "coordinates": [1, 1]},
        ],
    }
    content = [
        feature("a", coordinates=[SQUARE, HOLE]),
        feature("b", "MultiPolygon", [[SQUARE, HOLE], far]),
        collection,
    ]
    assert areas(content) == {"a": 96, "b": 196, "c": 100}
    assert read_geojson(json.dumps(content).encode()).without_area == {"Point": 1}


def test_a_height_is_left_out_and_an_open_outline_is_closed() -> None:
    outline = [[x, y, 7.5] for x, y in SQUARE[:-1]]
    assert areas(feature(coordinates=[outline])) == {"tumor": 100}


def test_what_has_no_area_is_counted_by_kind() -> None:
    content = [
        feature("a", "Point", [1, 2]),
        feature("a", "LineString", [[1, 2], [3, 4]]),
        feature("a", "MultiPoint", [[1, 2], [3, 4]]),
        feature("a", coordinates=[[[1, 1], [2, 2], [1, 1]]]),
        {**feature("a"), "geometry": None},
    ]
    found = read_geojson(json.dumps(content).encode())
    assert len(found.shapes) == 0
    assert found.without_area == {
        "Point": 1,
        "LineString": 1,
        "MultiPoint": 1,
        "Polygon of fewer than 3 corners": 1,
        "no geometry": 1,
    }


def test_a_file_of_nothing_is_an_annotation_of_nothing() -> None:
    assert areas([]) == {}
    assert areas({"type": "FeatureCollection", "features": []}) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected GeoJSON"),
        (b"{", "expected GeoJSON"),
        (b"\xff\xfe\x00", "expected GeoJSON"),
        (b"[" * 100_000, "expected GeoJSON"),
        (b"7", "expected a FeatureCollection, an array"),
        (b'{"type": "Topology"}', "got 'Topology'|got Topology"),
        (b'{"type": "FeatureCollection"}', "expected a FeatureCollection"),
        (b"[3]", "feature 1: expected a Feature, got '3'"),
        (
            json.dumps([feature(), feature(coordinates="x")]).encode(),
            "feature 2: expected a Polygon",
        ),
        (json.dumps([feature(coordinates=[])]).encode(), "feature 1: expected the rings"),
        (json.dumps([feature(coordinates=[7])]).encode(), "expected corners"),
        (json.dumps([feature(coordinates=[[["a", "b"]] * 4])]).encode(), "expected corners"),
        (json.dumps([feature(coordinates=[[[1], [2], [3]]])]).encode(), "expected corners"),
        (json.dumps([feature(coordinates=[[[1, 2], [2], [3, 4]]])]).encode(), "expected corners"),
        (
            json.dumps([feature(coordinates=[[[1, None], [2, 2], [3, 4]]])]).encode(),
            "expected corners",
        ),
        (
            json.dumps([feature(coordinates=[[[1, float("nan")], [2, 2], [3, 4]]])]).encode(),
            "got nan",
        ),
        (
            json.dumps([feature(coordinates=[[[1, 1e300], [2, 2], [3, 4]]])]).encode(),
            "expected corners up",
        ),
        (
            json.dumps([feature(coordinates=[[[1, 10**400], [2, 2], [3, 4]]])]).encode(),
            "expected corners",
        ),
        (json.dumps([feature(kind="Circle")]).encode(), "got 'Circle'"),
        (json.dumps([{**feature(), "geometry": "POLYGON"}]).encode(), "expected a geometry"),
        (
            json.dumps([{**feature(), "properties": {"classification": 3}}]).encode(),
            "name of a class",
        ),
        (json.dumps([feature("a\0b")]).encode(), "in one line"),
    ],
)
def test_what_is_broken_is_refused_by_number(content: bytes, message: str) -> None:
    with pytest.raises(UnfitShapeError, match=message):
        read_geojson(content)


def test_a_gzipped_file_is_unpacked_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_bytes(gzip.compress(b"[]"))
    assert unpacked(path) == b"[]"


def zipped(*files: bytes) -> bytes:
    """Return a zip archive."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(files):
            archive.writestr(f"{number}.geojson", content)
    return data.getvalue()


def test_the_archive_of_qupath_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(b"[]"))
    assert unpacked(path) == b"[]"
    path.write_bytes(zipped(b"[]", b"[]"))
    with pytest.raises(SlideError, match="expected an archive of one file, got 2"):
        unpacked(path)


@pytest.mark.parametrize(
    "data",
    [
        b"\x1f\x8b",
        b"\x1f\x8bxyz",
        gzip.compress(b"[]" * 50)[:-9],
        b"PK\x03\x04",
        zipped(b"[]" * 500)[:-30],
        zipped(b"[]" * 500)[:40] + b"\xff" + zipped(b"[]" * 500)[41:],
    ],
    # Named by hand: an archive has the time in it, and tests have one name in every process.
    ids=["gzip-2", "gzip-5", "gzip-cut", "zip-4", "zip-cut", "zip-changed"],
)
def test_a_cut_off_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.geojson.gz").write_bytes(data)
    with pytest.raises(SlideError, match=r"annotation a.geojson.gz: cannot be read"):
        unpacked(tmp_path / "a.geojson.gz")


@pytest.mark.parametrize("packed", [gzip.compress, zipped, bytes])
def test_an_archive_that_grows_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(annotations, "MOST_BYTES", 1000)
    path = tmp_path / "a.geojson.gz"
    path.write_bytes(packed(bytes(10_000)))
    with pytest.raises(SlideError, match="expected at most"):
        unpacked(path)


def asap(*annotations: str) -> bytes:
    """Return ASAP's XML around annotations."""
    groups = (
        '<AnnotationGroups><Group Name="tumor" PartOfGroup="None" Color="#f00"/></AnnotationGroups>'
    )
    inside = "".join(annotations)
    text = f"<ASAP_Annotations><Annotations>{inside}</Annotations>{groups}</ASAP_Annotations>"
    return f'<?xml version="1.0"?>{text}'.encode()


def drawn(kind: str, corners: list[tuple[float, float]], group: str = "tumor") -> str:
    """Return one annotation; its corners are not in their order in the file."""
    points = [
        f'<Coordinate Order="{number}" X="{x}" Y="{y}"/>' for number, (x, y) in enumerate(corners)
    ]
    inside = "".join(reversed(points))
    return (
        f'<Annotation Name="A" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
        f"<Coordinates>{inside}</Coordinates></Annotation>"
    )


CORNERS: list[tuple[float, float]] = [(0, 0), (10, 0), (10, 10), (0, 10)]


def test_asap_groups_are_the_names_and_corners_go_by_their_order() -> None:
    found = read_asap(
        asap(
            drawn("Polygon", CORNERS),
            drawn("Rectangle", CORNERS, "_2"),
            drawn("Polygon", CORNERS, "None"),
        )
    )
    assert found.names == ("tumor", "_2", None)
    assert shapely.area(found.shapes).tolist() == [100, 100, 100]
    assert found.program == "asap"


def test_a_spline_goes_through_its_corners_and_bulges_between_them() -> None:
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = [
        (float(x), float(y)) for x, y in 100 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ]
    smooth = read_asap(asap(drawn("Spline", circle))).shapes[0]
    flat = read_asap(asap(drawn("Polygon", circle))).shapes[0]
    assert flat.area < smooth.area
    assert abs(smooth.area / (np.pi * 100**2) - 1) < 0.01
    assert all(smooth.exterior.distance(shapely.Point(corner)) < 1e-9 for corner in circle)


def test_asap_points_and_lines_are_counted() -> None:
    found = read_asap(
        asap(
            drawn("Dot", [(1, 1)]),
            drawn("PointSet", CORNERS),
            drawn("Measurement", CORNERS[:2]),
            drawn("Polygon", CORNERS[:2]),
        )
    )
    assert len(found.shapes) == 0
    assert found.without_area == {
        "Dot": 1,
        "Measurement": 1,
        "PointSet": 1,
        "Polygon of fewer than 3 corners": 1,
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<", "expected ASAP's XML"),
        (b"<Annotations/>", "got <Annotations>"),
        (asap(drawn("Circle", CORNERS)), r"annotation 1 \(A\): expected a Polygon"),
        (asap(drawn("Polygon", CORNERS).replace(' X="10"', "", 1)), "expected X and Y"),
        (asap(drawn("Polygon", CORNERS).replace('"10"', '"ten"', 1)), "expected X and Y"),
        (asap(drawn("Polygon", CORNERS).replace('"10"', '"inf"', 1)), "expected corners up to"),
        (
            b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "b">]><ASAP_Annotations/>',
            "without DOCTYPE",
        ),
    ],
)
def test_asap_that_is_broken_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UnfitShapeError, match=message):
        read_asap(data)
