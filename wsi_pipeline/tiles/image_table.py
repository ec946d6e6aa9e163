"""A table of images as the run keeps it: CSV or Parquet, columns under their names and in their types."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.schema import METRIC_COLUMNS
from wsi_pipeline.tiles.import_config import IMAGE, NUMBERS, WORDS, ImportConfig

_NUMBERED = ("tile", "status", "reason", "crc32c")
_WHOLE = r"^-?(0|[1-9][0-9]{0,17})\z"
_DECIMAL = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?\z"
_BYTES = (pa.types.is_binary, pa.types.is_large_binary)


def read_rows(path: Path, *, columns: list[str] | None = None) -> pa.Table:
    """Return a CSV or Parquet table; in a CSV only an empty cell is missing, and 007 stays text.

    Raises
    ------
    ConfigError
        It is neither.
    """
    try:
        if path.suffix.lower() == ".csv":
            return _csv(path)
        with pq.ParquetFile(path) as file:
            return file.read(columns=columns).replace_schema_metadata(None)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{path}: expected a CSV or Parquet table, got {error}") from error


def image_column(path: Path, config: ImportConfig) -> str | None:
    """Return the column of a Parquet file that holds encoded images, or None where it only names files.

    ``image.bytes`` of a struct with bytes and path, as Hugging Face writes it.

    Raises
    ------
    ConfigError
        Several columns may be meant, or the one named holds something else.
    """
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{path}: expected a Parquet table, got {error}") from error
    asked = config.columns.get(IMAGE)
    if asked is not None and asked not in schema.names:
        raise ConfigError(f"{path}: no column {asked!r}; it has {', '.join(schema.names)}")
    holding = {field.name: full for field in schema if (full := _bytes_of(field)) is not None}
    if asked is not None:
        return holding.get(asked)
    if len(holding) > 1:
        raise ConfigError(
            f"{path}: expected one column of images, got {', '.join(holding)}; "
            f"name it with --column {IMAGE}=NAME"
        )
    return next(iter(holding.values()), None)


def _bytes_of(field: "pa.Field[Any]") -> str | None:
    kind = field.type
    if any(is_bytes(kind) for is_bytes in _BYTES):
        return field.name
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return f"{field.name}.bytes"
    return None


def read_image_table(path: Path, config: ImportConfig, *, images_in: str | None) -> pa.Table:
    """Return the table of a source with ``source_path`` or ``source_row``, all but the images themselves.

    Raises
    ------
    ConfigError
        A column that is asked for is not there, or a row names no file.
    """
    if images_in is None:
        return _with_paths(_renamed(read_rows(path), config, path), path)
    whole = images_in.partition(".")[0]
    with pq.ParquetFile(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    others = [name for name in schema.names if name != whole]
    table = read_rows(path, columns=others) if others else pa.table({})
    columns: dict[str, Any] = {"source_row": pa.array(range(rows), type=pa.int64())}
    if "." in images_in and schema.field(whole).type.get_field_index("path") >= 0:
        names = read_rows(path, columns=[f"{whole}.path"]).column(0).combine_chunks()
        columns["source_path"] = pc.struct_field(names, "path")
    columns |= {"source_path" if name == IMAGE else name: table.column(name) for name in others}
    return _renamed(pa.table(columns), config, path, skip=IMAGE)


def _renamed(
    table: pa.Table, config: ImportConfig, path: Path, *, skip: str | None = None
) -> pa.Table:
    """Return a table with the columns that the settings name under the names that the run knows."""
    asked = {column: name for name, column in config.columns.items() if name != skip}
    for column, name in asked.items():
        if column not in table.column_names:
            raise ConfigError(
                f"{path}: no column {column!r} for {name}; it has {', '.join(table.column_names)}"
            )
    kept = [each for each in table.column_names if each in asked or each not in asked.values()]
    return table.select(kept).rename_columns([asked.get(each, each) for each in kept])


def _with_paths(table: pa.Table, path: Path) -> pa.Table:
    if IMAGE not in table.column_names:
        raise ConfigError(
            f"{path}: expected a column {IMAGE!r} of files or a column of images, got "
            f"{', '.join(table.column_names)}; name it with --column {IMAGE}=NAME"
        )
    paths = table.column(IMAGE).cast(pa.string())
    empty = pc.or_kleene(pc.is_null(paths), pc.equal(paths, pa.scalar("")))
    if (row := pc.index(empty, True).as_py()) >= 0:
        raise ConfigError(f"{path}, row {row + 1}: expected a path, got none")
    columns: dict[str, Any] = {
        name: table.column(name) for name in table.column_names if name != IMAGE
    }
    columns["source_path"] = paths
    return pa.table(columns)


def checked_table(
    table: pa.Table, path: Path, *, keep_metrics: bool
) -> tuple[pa.Table, tuple[str, ...]]:
    """Return a table in the run's types, and the columns left out because the run makes its own.

    Raises
    ------
    ConfigError
        A column's values are not what its name says.
    """
    own = [*_NUMBERED, *(() if keep_metrics else (column.name for column in METRIC_COLUMNS))]
    dropped = tuple(name for name in table.column_names if name in own)
    kinds = NUMBERS | {column.name: column.type for column in METRIC_COLUMNS}
    columns = {
        name: _typed(name, table.column(name), kinds, path)
        for name in table.column_names
        if name not in dropped
    }
    return pa.table(columns), dropped


def _typed(name: str, values: Any, kinds: dict[str, pa.DataType], path: Path) -> Any:  # noqa: ANN401  Arrow's
    try:
        if name in WORDS:
            return _words(values)
        if name in kinds:
            return _unpacked(values).cast(kinds[name])
    except (pa.ArrowException, ValueError) as error:
        raise ConfigError(
            f"{path}: column {name}: expected {kinds.get(name, 'text')}, {error}"
        ) from error
    return values.cast(pa.string()) if pa.types.is_large_string(values.type) else values


def _words(values: Any) -> Any:  # noqa: ANN401  Arrow's
    """Return values as text, whole numbers without a point, nothing for what is empty."""
    values = _unpacked(values)
    if pa.types.is_floating(values.type):
        whole = pc.equal(values, pc.floor(values))
        if pc.all(whole, min_count=0).as_py():
            values = values.cast(pa.int64())
    texts = values.cast(pa.string())
    return pc.if_else(pc.equal(texts, pa.scalar("")), pa.scalar(None, pa.string()), texts)


def _unpacked(values: Any) -> Any:  # noqa: ANN401  Arrow's
    kind = values.type
    return values.cast(kind.value_type) if pa.types.is_dictionary(kind) else values


def _csv(path: Path) -> pa.Table:
    with path.open("rb") as handle:
        head = handle.readline().decode("utf-8-sig")
    names = pacsv.read_csv(BytesIO(head.encode())).column_names if head.strip() else []
    if not names:
        raise ConfigError(f"{path}: expected a CSV table, got an empty file")
    options = pacsv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    table = pacsv.read_csv(path, convert_options=options)
    return pa.table({name: _as_numbers(name, table.column(name)) for name in table.column_names})


def _as_numbers(name: str, texts: Any) -> Any:  # noqa: ANN401  Arrow's
    """Return a column of text as numbers where that loses nothing."""
    if name in (*WORDS, IMAGE) or texts.null_count == len(texts):
        return texts
    for pattern, kind in ((_WHOLE, pa.int64()), (_DECIMAL, pa.float64())):
        if pc.all(pc.match_substring_regex(texts, pattern)).as_py():
            return texts.cast(kind)
    return texts
