"""The files that the command line reads and writes: .npy, .npz, .csv, .parquet. Nothing is unpickled.

A person's mistake is a ValueError whose message names the argument and the file.
"""

import csv
import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
T = TypeVar("T")

INSTALL = 'pip install "lossbackend[cli]"'


# In


_FILE = re.compile(r"(?P<path>.+?(?P<suffix>\.npy|\.npz|\.csv|\.parquet))(?::(?P<part>.*))?", re.IGNORECASE | re.DOTALL)


class Source(NamedTuple):
    """Numbers in a file: of shape (rows,) for one column, (rows, columns) for more."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    # All rows from one on in order, so many at a time, the last time the rest; a file without rows is one part, and so is a single number.
    parts: Callable[[int, int], Iterator[Array]]
    # The file that every part is read from when it is asked for; None where they are in memory.
    path: str | None = None

    def whole(self) -> Array:
        """All of it in memory."""
        return next(self.parts(0, max((1, *self.shape[:1]))))


def open_array(argument: str, source: str) -> Source:
    """The numbers in ``path``, ``path.npz:key`` or ``path.csv:column,column``. Of .npy and .parquet only the parts asked for come into memory."""
    match = _FILE.fullmatch(source)
    if match is None:
        raise ValueError(f"{argument}: cannot tell the format of {source!r}: it has to end in .npy, .npz, .csv or .parquet")
    path, part = match["path"], match["part"]
    if not os.path.exists(path):
        raise ValueError(f"{argument}: no such file: {path!r}")
    if os.path.isdir(path):
        raise ValueError(f"{argument}: {path!r} is a directory, not a file")
    opener = {".csv": _open_csv, ".parquet": _open_parquet}.get(match["suffix"].lower(), _open_numpy)
    with _mistakes(argument, path):
        # The working directory of who reads it later may be another one.
        opened = opener(os.path.abspath(path), part)
        if opened.dtype.kind not in "biuf":
            raise ValueError(f"the values are {opened.dtype}, not numbers")

    def parts(start: int, rows: int) -> Iterator[Array]:
        with _mistakes(argument, path):
            yield from opened.parts(start, rows)

    return opened._replace(parts=parts)


@contextmanager
def _mistakes(argument: str, path: str) -> Iterator[None]:
    """What goes wrong inside is a ValueError that names the argument and the file."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{argument}: {path!r} needs {error.name} to be read: {INSTALL}") from error
    except Exception as error:  # a damaged file makes a reader raise anything
        reason = error_text(error) if not isinstance(error, OSError) else error.strerror or error_text(error)
        raise ValueError(f"{argument}: {path!r}: {reason}") from error


def _in_memory(array: Array) -> Source:
    def parts(start: int, rows: int) -> Iterator[Array]:
        yield from (array[part] for part in _slices(array.shape, start, rows))

    return Source(array.shape, array.dtype, parts)


def _slices(shape: tuple[int, ...], start: int, rows: int) -> Iterator[Any]:
    return (slice(row, row + rows) for row in range(start, max(1, shape[0]), rows)) if shape else iter([...])


def _open_numpy(path: str, key: str | None) -> Source:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.memmap):
            if key is not None:
                raise ValueError(f"the file is a single array: drop ':{key}'")
            order: Literal["C", "F"] = "C" if loaded.flags.c_contiguous else "F"
            mapped = functools.partial(_mapped, path, loaded.dtype, loaded.shape, loaded.offset, order)
            return Source(loaded.shape, loaded.dtype, mapped, path)
        with loaded:
            if key is None:
                key = _only("arrays", list(loaded))
            if key not in loaded:
                raise ValueError(f"no array {key!r}; there are {listed(loaded)}")
            return _in_memory(np.asarray(loaded[key]))
    except ValueError as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise ValueError("Python objects, which are never read, or a damaged file: save an array of numbers") from error
        raise


def _mapped(path: str, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, order: Literal["C", "F"], start: int, rows: int) -> Iterator[Array]:
    for part in _slices(shape, start, rows):
        # Mapped anew for each part: the pages of a mapping count as memory of the process until it goes. (Not by np.load, which reads the header with
        # ast.literal_eval, and that fails at times where several threads do so.)
        yield np.array(np.memmap(path, dtype, "r", offset, shape, order)[part])


def _open_csv(path: str, part: str | None) -> Source:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except UnicodeDecodeError as error:
        raise ValueError("not text in UTF-8: save it as such") from error
    while lines and not lines[-1][1]:
        lines.pop()
    if not lines:
        raise ValueError("the file is empty; a header row is required")
    header = lines[0][1]
    if part is None and len(header) == 1 and _number(header[0]) is not None:
        raise ValueError(f"the first line is the number {header[0]}; a header row is required (if it is one, add ':{header[0]}')")
    columns = _columns(header, part)
    for column in columns:
        if header.count(column) > 1:
            raise ValueError(f"{header.count(column)} columns are called {column!r}: rename them")
    indices = [header.index(column) for column in columns]
    rows = []
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise ValueError(f"line {line} has {len(cells)} cells where the header has {len(header)}")
        row = []
        for index, column in zip(indices, columns, strict=True):
            number = _number(cells[index])
            if number is None:
                raise ValueError(f"line {line}, column {column!r}: {cells[index]!r} is not a number")
            row.append(number)
        rows.append(row)
    return _in_memory(_matrix(rows, len(columns)))


def _number(cell: str) -> int | float | None:
    # Python reads 1_000 as a number; no program writes one.
    if "_" in cell:
        return None
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            pass
    return None


def _matrix(rows: list[list[int | float]], columns: int) -> Array:
    """int64 where every cell is an int that fits, float64 otherwise."""
    whole = all(type(cell) is int and -(2**63) <= cell < 2**63 for row in rows for cell in row)
    array = np.array(rows, dtype=np.int64 if whole and rows else np.float64).reshape(len(rows), columns)
    return array[:, 0] if columns == 1 else array


def _open_parquet(path: str, part: str | None) -> Source:
    import pyarrow
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        metadata, schema = file.metadata, file.schema_arrow
    columns = _columns(schema.names, part)
    empty = _stacked(schema.empty_table(), columns)
    shape = (metadata.num_rows, *empty.shape[1:])
    # Said at once, not after an hour, where the file has statistics; they are optional.
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    for column in columns:
        found = [chunk.statistics for chunk in chunks if chunk.path_in_schema == column]
        _refuse_missing(column, schema.field(column).type, sum(one.null_count or 0 for one in found if one is not None))

    ends = np.cumsum([group.num_rows for group in groups])

    def parts(start: int, rows: int) -> Iterator[Array]:
        if not shape[0]:
            yield empty
            return
        first = int(np.searchsorted(ends, start, side="right"))
        skipped = start - int(ends[first - 1] if first else 0)
        # So a row group comes in page by page.
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            batches = file.iter_batches(batch_size=rows, columns=columns, row_groups=range(first, len(ends)))
            yield from _regrouped((_stacked(pyarrow.Table.from_batches([batch]), columns) for batch in batches), skipped, rows)

    return Source(shape, empty.dtype, parts, path)


def _refuse_missing(column: str, kind: Any, count: int) -> None:
    import pyarrow

    # pandas writes a NaN as null; a float column gets it back.
    if count and not pyarrow.types.is_floating(kind):
        raise ValueError(f"column {column!r} has {count} missing values")


def _stacked(table: Any, columns: list[str]) -> Array:
    """Those columns of a table of pyarrow."""
    arrays = []
    for column in columns:
        data = table.column(column)
        _refuse_missing(column, data.type, data.null_count)
        array = data.to_numpy()
        if array.dtype.kind not in "biuf":
            raise ValueError(f"column {column!r} holds {data.type}, not numbers")
        arrays.append(array)
    return arrays[0] if len(arrays) == 1 else np.column_stack(arrays)


def _regrouped(arrays: Iterable[Array], skipped: int, rows: int) -> Iterator[Array]:
    """The same rows without the first ones, so many in each array."""
    held: list[Array] = []
    missing = rows
    for whole in arrays:
        array, skipped = whole[skipped:], max(0, skipped - len(whole))
        while len(array) >= missing:
            yield np.concatenate([*held, array[:missing]])
            array, held, missing = array[missing:], [], rows
        held.append(array)
        missing -= len(array)
    if missing < rows:
        yield np.concatenate(held)


def _columns(known: list[str], part: str | None) -> list[str]:
    if part is None:
        return [_only("columns", known)]
    # A column's own name may hold a comma.
    wanted = [part] if part in known else [column.strip() for column in part.split(",")]
    missing = [column for column in wanted if column not in known]
    if missing:
        raise ValueError(f"no column {missing[0]!r}; there are {listed(known)}")
    return wanted


def _only(what: str, known: Sequence[str]) -> str:
    if not known:
        raise ValueError(f"there are no {what} in it")
    if len(known) > 1:
        raise ValueError(f"{len(known)} {what}, {listed(known)}: add ':' and a name, such as ':{known[0]}'")
    return known[0]


# Out


def check_output(path: str, suffixes: Sequence[str] = (".npy", ".csv")) -> Path:
    """The file to write, of one of these formats; ValueError if it cannot be one. The target of a link is replaced, not the link."""
    target = Path(os.path.realpath(path))
    # realpath drops the slash that says so.
    if target.is_dir() or path.endswith(("/", os.sep)):
        raise ValueError(f"--output: {path!r} is a directory: name a file in it, such as {os.path.join(path, 'losses' + suffixes[0])!r}")
    if target.suffix.lower() not in suffixes:
        raise ValueError(f"--output: {path!r} has to end in {' or '.join(suffixes)}")
    if not target.parent.is_dir():
        raise ValueError(f"--output: no such directory: {str(target.parent)!r}")
    return target


def replace(target: Path, write: Callable[[Path], T]) -> T:
    """Have ``target`` written at a temporary path and moved; ValueError where that fails, and then ``target`` is as it was."""
    try:
        # In a folder of its own the new file has the usual permissions; that of mkstemp would be unreadable to others.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".lossbackend-") as folder:
            temporary = Path(folder) / target.name
            result = write(temporary)
            os.replace(temporary, target)
            return result
    except OSError as error:
        raise ValueError(f"{str(target)!r} cannot be written: {error.strerror or error}") from error


@contextmanager
def writing(path: Path) -> Iterator[Callable[[Array], None]]:
    """A function that appends an array to the file, along the first axis."""
    with _writing_numpy(path) if path.suffix.lower() == ".npy" else _writing_csv(path) as append:
        yield append


@contextmanager
def _writing_numpy(path: Path) -> Iterator[Callable[[Array], None]]:
    header: dict[str, Any] = {}
    with open(path, "wb") as file:

        def append(values: Array) -> None:
            values = np.asarray(values, order="C")
            if not header:
                np.save(file, values, allow_pickle=False)
                header.update(np.lib.format.header_data_from_array_1_0(values))
            else:
                file.write(values.tobytes())
                header["shape"] = (header["shape"][0] + len(values), *values.shape[1:])

        yield append
        # NumPy leaves room in a header for a first axis that grows.
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header)


@contextmanager
def _writing_csv(path: Path) -> Iterator[Callable[[Array], None]]:
    with open(path, "w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text)

        def append(values: Array) -> None:
            if not text.tell():
                writer.writerow("_".join(["loss", *map(str, index)]) for index in np.ndindex(values.shape[1:]))
            writer.writerows(digits(values))

        yield append


def digits(values: Array) -> Iterator[list[str]]:
    """The shortest digits that give the same number again, one list per entry of the first axis."""
    for row in np.atleast_1d(values):
        yield [str(number) for number in np.ravel(row)]


# Text


def listed(names: Iterable[str], most: int = 20) -> str:
    shown = [repr(name) for name in names]
    rest = [f"and {len(shown) - most} more"] if len(shown) > most else []
    return ", ".join(shown[:most] + rest) or "none"


def error_text(error: BaseException) -> str:
    """The message, with the type where the message alone says little."""
    message = str(error)
    if isinstance(error, (ValueError, TypeError, ImportError)) and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
