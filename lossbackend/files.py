"""The files that the command line reads and writes: .npy, .npz, .csv, .parquet. Nothing is unpickled.

A person's mistake is a ValueError whose message names the argument and the file.
"""

import csv
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

INSTALL = 'pip install "lossbackend[cli]"'


# In


_FILE = re.compile(r"(?P<path>.+?(?P<suffix>\.npy|\.npz|\.csv|\.parquet))(?::(?P<part>.*))?", re.IGNORECASE | re.DOTALL)


def read_array(argument: str, source: str) -> Array:
    """The numbers in ``path``, ``path.npz:key`` or ``path.csv:column,column``: of shape (rows,) for one column, (rows, columns) for more."""
    match = _FILE.fullmatch(source)
    if match is None:
        raise ValueError(f"{argument}: cannot tell the format of {source!r}: it has to end in .npy, .npz, .csv or .parquet")
    path, part = match["path"], match["part"]
    if not os.path.exists(path):
        raise ValueError(f"{argument}: no such file: {path!r}")
    if os.path.isdir(path):
        raise ValueError(f"{argument}: {path!r} is a directory, not a file")
    reader = {".csv": _read_csv, ".parquet": _read_parquet}.get(match["suffix"].lower(), _read_numpy)
    try:
        array = reader(path, part)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"the values are {array.dtype}, not numbers")
        return array
    except ImportError as error:
        raise ValueError(f"{argument}: {path!r} needs {error.name} to be read: {INSTALL}") from error
    except Exception as error:  # a damaged file makes a reader raise anything
        reason = error_text(error) if not isinstance(error, OSError) else error.strerror or error_text(error)
        raise ValueError(f"{argument}: {path!r}: {reason}") from error


def _read_numpy(path: str, key: str | None) -> Array:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if key is not None:
                raise ValueError(f"the file is a single array: drop ':{key}'")
            return loaded
        with loaded:
            if key is None:
                key = _only("arrays", list(loaded))
            if key not in loaded:
                raise ValueError(f"no array {key!r}; there are {listed(loaded)}")
            return np.asarray(loaded[key])
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise ValueError("Python objects, which are never read, or a damaged file: save an array of numbers") from error
        raise


def _read_csv(path: str, part: str | None) -> Array:
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
    return _matrix(rows, len(columns))


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


def _read_parquet(path: str, part: str | None) -> Array:
    import pyarrow
    import pyarrow.parquet

    columns = _columns(pyarrow.parquet.read_schema(path).names, part)
    table = pyarrow.parquet.read_table(path, columns=columns)
    arrays = []
    for column in columns:
        data = table.column(column)
        # pandas writes a NaN as null; a float column gets it back.
        if data.null_count and not pyarrow.types.is_floating(data.type):
            raise ValueError(f"column {column!r} has {data.null_count} missing values")
        array = data.to_numpy()
        if array.dtype.kind not in "biuf":
            raise ValueError(f"column {column!r} holds {data.type}, not numbers")
        arrays.append(array)
    return arrays[0] if len(arrays) == 1 else np.column_stack(arrays)


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


def write_array(target: Path, values: Array) -> None:
    """Write ``values``; ValueError where that fails, and then ``target`` is as it was."""
    replace(target, lambda temporary: _write(temporary, values))


def replace(target: Path, write: Callable[[Path], object]) -> None:
    """Have ``target`` written at a temporary path and moved; ValueError where that fails, and then ``target`` is as it was."""
    try:
        # In a folder of its own the new file has the usual permissions; that of mkstemp would be unreadable to others.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".lossbackend-") as folder:
            temporary = Path(folder) / target.name
            write(temporary)
            os.replace(temporary, target)
    except OSError as error:
        raise ValueError(f"{str(target)!r} cannot be written: {error.strerror or error}") from error


def _write(path: Path, values: Array) -> None:
    if path.suffix.lower() == ".npy":
        with open(path, "wb") as file:
            np.save(file, values, allow_pickle=False)
    else:
        with open(path, "w", newline="", encoding="utf-8") as text:
            writer = csv.writer(text)
            writer.writerow("_".join(["loss", *map(str, index)]) for index in np.ndindex(values.shape[1:]))
            writer.writerows(digits(values))


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
