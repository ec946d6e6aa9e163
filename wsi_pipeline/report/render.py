"""The report as one HTML file that needs nothing else: no network, no fonts, no other file."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from string import Template
from urllib.parse import quote

from wsi_pipeline.report.figures import curves_svg
from wsi_pipeline.report.html import (
    data_script,
    element,
    escaped,
    plain_cell,
    shown,
)
from wsi_pipeline.report.lines import lines_svg
from wsi_pipeline.report.maps import data_url, described
from wsi_pipeline.report.parts import (
    Beside,
    Cell,
    Collage,
    Curves,
    Facts,
    Field,
    Figure,
    Heading,
    Lines,
    Links,
    Maps,
    Notice,
    Page,
    Part,
    Planes,
    Ranges,
    Section,
    Table,
    Todo,
)
from wsi_pipeline.report.planes import planes_svg
from wsi_pipeline.report.ranges import ranges_svg

FIRST_ROWS = 25
"""Rows of a table that are there without the page's script."""


LONG_TEXT = 48
"""Letters from which a cell is folded; the page's script has the same number."""


def render(page: Page) -> bytes:
    """Return the page; the same page gives the same bytes."""
    script = _file("page.js")
    return (
        Template(_file("page.html"))
        .substitute(
            title=escaped(page.title),
            made=escaped(page.made),
            version=escaped(page.version),
            style=_file("page.css"),
            script=script,
            script_digest=_digest(script),
            contents="".join(_entry(section) for section in page.sections),
            sections="\n".join(_section(section) for section in page.sections),
        )
        .encode()
    )


def _file(name: str) -> str:
    return resources.files("wsi_pipeline.report").joinpath("page", name).read_text("utf-8")


def _digest(script: str) -> str:
    """Return what the page's policy allows to run: this script and no other."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _entry(section: Section) -> str:
    return element("li", element("a", escaped(section.title), href=f"#{section.name}"))


def _section(section: Section) -> str:
    heading = element("h2", escaped(section.title), id=f"{section.name}-title", tabindex="-1")
    inside = heading + "".join(_part(part) for part in section.parts)
    return element("section", inside, id=section.name, aria_labelledby=f"{section.name}-title")


def _part(part: Part) -> str:
    match part:
        case Facts() | Heading() | Notice() | Todo() | Links():
            return _said(part)
        case Table():
            return _table(part)
        case Collage():
            return _collage(part)
        case Beside():
            return element("div", "".join(map(_table, part.tables)), class_="beside")
        case Curves() | Lines() | Planes() | Ranges():
            return element("h3", escaped(part.title)) + _drawn(part)
        case Maps():
            return element("div", "", id="maps") + data_script("maps-data", described(part))


def _drawn(figure: Figure) -> str:
    match figure:
        case Curves():
            return curves_svg(figure)
        case Lines():
            return lines_svg(figure)
        case Planes():
            return planes_svg(figure)
        case Ranges():
            return ranges_svg(figure)


def _said(part: Facts | Heading | Notice | Todo | Links) -> str:
    match part:
        case Facts():
            return _facts(part)
        case Heading():
            return element("h3", escaped(part.title), class_="chapter")
        case Notice():
            return element("p", escaped(part.text), class_=f"notice {part.kind}")
        case Todo():
            command = element("code", escaped(part.command))
            return element("p", f"{escaped(part.text)} {command}", class_="todo")
        case Links():
            return element("h3", escaped(part.title)) + _links(part)


def _links(links: Links) -> str:
    items = (
        element("li", element("a", escaped(text), href=quote(path))) for text, path in links.items
    )
    return element("ul", "".join(items), class_="files")


def _facts(facts: Facts) -> str:
    items = "".join(
        element("div", element("dt", escaped(name)) + element("dd", escaped(value)))
        for name, value in facts.items
    )
    return element("dl", items, class_="facts")


def _collage(collage: Collage) -> str:
    figures = "".join(
        element(
            "li",
            element(
                "figure",
                f'<img src="{data_url(each.jpeg)}" alt="{escaped(_alt(collage, each.title))}" '
                'decoding="sync">'
                + element(
                    "figcaption",
                    escaped(each.title) + element("span", escaped(each.value), class_="value"),
                ),
            ),
        )
        for each in collage.pictures
    )
    lead = element("h3", escaped(collage.title)) + element(
        "p", escaped(collage.text), class_="lead"
    )
    return element("div", lead + element("ul", figures, class_="tiles"), class_="collage")


def _alt(collage: Collage, title: str) -> str:
    return f"{collage.title}: {title}"


def _table(table: Table) -> str:
    shown_rows = table.rows[:FIRST_ROWS] if table.name else table.rows
    head = "".join(
        element("th", escaped(field.label), scope="col", class_=_align(field))
        for field in table.fields
    )
    body = "".join(_row(row, table.fields) for row in shown_rows)
    inner = (
        element("caption", element("span", escaped(table.caption)))
        + element("thead", element("tr", head))
        + element("tbody", body)
    )
    drawn = element(
        "div",
        element("table", inner),
        class_="scroll",
        role="region",
        tabindex="0",
        aria_label=table.caption,
    )
    if table.name is None:
        return drawn
    return element(
        "div",
        drawn + data_script(f"{table.name}-data", _data(table)),
        class_="listing",
        id=table.name,
    )


def _data(table: Table) -> dict[str, object]:
    fields = [
        {"label": field.label, "kind": field.kind, "digits": field.digits} for field in table.fields
    ]
    rows = [[plain_cell(cell) for cell in row] for row in table.rows]
    return {"fields": fields, "rows": rows}


def _row(row: Sequence[Cell], fields: tuple[Field, ...]) -> str:
    cells = [_cell(value, field) for value, field in zip(row, fields, strict=True)]
    return element(
        "tr", "".join(cells).replace("<td", '<th scope="row"', 1).replace("</td>", "</th>", 1)
    )


def _cell(value: Cell, field: Field) -> str:
    text = shown(value, field)
    style = None
    if field.kind == "share" and isinstance(value, (int, float)) and value > 0:
        style = f"--share:{min(float(value), 1.0):.4f}"
    kind = (
        f"{_align(field)} long" if field.kind == "text" and len(text) > LONG_TEXT else _align(field)
    )
    return element("td", escaped(text), class_=kind, style=style)


def _align(field: Field) -> str:
    return field.kind if field.kind == "text" else f"number {field.kind}"
