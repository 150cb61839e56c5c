"""One file of tensors and a JSON header, in the safetensors layout: written whole or not at all, checked to the last bit when read.

length of the head | head: {"__metadata__": {"foretell": envelope}, tensor: {dtype, shape, data_offsets}, ...} | bytes of the tensors
envelope: {"format": 1, "version": of foretell, "checksum": sha256 of the file with zeros in this place, "header": the caller's}
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from io import BufferedReader, BufferedWriter
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .errors import FileError, nearest

JSON = None | bool | int | float | str | list[Any] | dict[str, Any]

FORMAT = 1
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
METADATA = "__metadata__"
MAGIC = b'{"__metadata__":{"foretell":"'
BEFORE_CHECKSUM = rb"\"checksum\":\""
UNSIGNED = "0" * 64
MAX_HEAD = 100_000_000  # that of safetensors
MAX_AXES = 64


class Entry(NamedTuple):
    """Where one tensor lies in the file."""

    name: str
    dtype: torch.dtype
    shape: list[int]
    size: int


def write(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, JSON]) -> None:
    """Writes a new file beside the old one and then takes its place: after any failure the old file is still there.

    Tensors keep dtype and every bit; `header` is strict JSON (no NaN or infinity).
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileError(f'there is no folder "{target.parent}" to write "{target.name}" into: create it, or choose another path')
    if target.is_dir():
        raise FileError(f'"{path}" is a folder: add a file name, such as model.foretell')
    order = sorted(tensors, key=lambda name: -tensors[name].element_size())  # so that every tensor lies at a multiple of its item size
    head = _head(path, {name: tensors[name] for name in order}, header)
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            _write_signed(file, head, (tensors[name] for name in order))
        os.replace(temporary, target)
    except OSError as error:
        raise FileError(f'"{path}" cannot be written: {error.strerror or error}') from None
    finally:
        temporary.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(header, tensors) of a file that `write` wrote, exactly as they were; any other file gets its sentence.

    Nothing in the file is executed, and no size that it states is believed before it agrees with the size of the file.
    """
    try:
        with open(path, "rb") as file:
            return _read(path, file)
    except FileNotFoundError:
        raise FileError(f'no file "{path}"{_neighbours(Path(path))}') from None
    except IsADirectoryError:
        raise FileError(f'"{path}" is a folder: name the file in it{_neighbours(Path(path) / "model.foretell")}') from None
    except OSError as error:
        raise FileError(f'"{path}" cannot be read: {error.strerror or error}') from None


def _head(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, JSON]) -> bytes:
    """Length and head, the checksum still zeros."""
    entries: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in CODES or tensor.layout != torch.strided or name == METADATA:
            raise FileError(f'"{path}": tensor "{name}" ({tensor.dtype}, {tensor.layout}) cannot be written; dense tensors of {", ".join(map(str, CODES))} can')
        begin, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    try:
        envelope = _dumps({"format": FORMAT, "version": _version(), "checksum": UNSIGNED, "header": dict(header)})
        text = _dumps({METADATA: {"foretell": envelope}, **entries}).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise FileError(f'"{path}": its header cannot be written as JSON: {error}') from None
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEAD:
        raise FileError(f'"{path}": its header takes {len(text):,} bytes and may take {MAX_HEAD:,}: large tables belong into tensors')
    return len(text).to_bytes(8, "little") + text


def _write_signed(file: BufferedWriter, head: bytes, tensors: Iterable[Tensor]) -> None:
    checksum = hashlib.sha256(head)
    file.write(head)
    for tensor in tensors:
        row = tensor.detach().cpu().contiguous().reshape(-1)
        # A single number counts as contiguous whatever the stride it was cut out with.
        data = (row if row.stride(0) == 1 else row.clone(memory_format=torch.contiguous_format)).view(torch.uint8).numpy().data
        checksum.update(data)
        file.write(data)
    file.seek(_place_of_checksum(head))
    file.write(checksum.hexdigest().encode())
    file.flush()
    os.fsync(file.fileno())


def _read(path: str | os.PathLike[str], file: BufferedReader) -> tuple[dict[str, Any], dict[str, Tensor]]:
    size = os.fstat(file.fileno()).st_size
    head = _read_head(path, file, size)
    try:
        meta = _loads(head[8:])
        envelope = _loads(meta.pop(METADATA)["foretell"])
        _check_format(path, envelope["format"], envelope["version"])
        header, checksum = envelope["header"], envelope["checksum"]
        entries = _entries(meta)
        place = _place_of_checksum(head)
    except (ValueError, TypeError, LookupError, RecursionError):
        raise _damaged(path) from None
    end = len(head) + sum(entry.size for entry in entries)
    if size < end:
        raise _cut(path, size, end)
    found = hashlib.sha256(head[:place] + UNSIGNED.encode() + head[place + len(UNSIGNED) :])
    pieces = [_piece(file, entry.size) for entry in entries] if size == end else []
    for piece in pieces:
        found.update(piece)
    if size > end or checksum != found.hexdigest() or not isinstance(header, dict):
        raise _damaged(path)
    return header, {entry.name: _tensor(entry, piece) for entry, piece in zip(entries, pieces, strict=True)}


def _read_head(path: str | os.PathLike[str], file: BufferedReader, size: int) -> bytes:
    """Length and head, as bytes."""
    first = file.read(8 + len(MAGIC))
    if not first:
        raise FileError(f'"{path}" is empty: save the model again, or take an earlier copy')
    if not MAGIC.startswith(first[8:]) or len(first) < 8:
        raise FileError(f'"{path}" is not a file that foretell saved (or its first bytes are damaged): ft.load reads what ft.save wrote, ft.read reads data')
    length = int.from_bytes(first[:8], "little")
    if length > MAX_HEAD:
        raise _damaged(path)
    if 8 + length > size:
        raise _cut(path, size, 8 + length)
    return first[: 8 + length] + file.read(max(0, 8 + length - len(first)))


def _check_format(path: str | os.PathLike[str], number: int, by: str) -> None:
    if type(number) is not int or number < 1:
        raise ValueError
    if number > FORMAT:
        raise FileError(f'"{path}" was written by format {number} (foretell {by}); this foretell reads up to {FORMAT}: upgrade with pip install -U foretell')


def _entries(meta: Mapping[str, Any]) -> list[Entry]:
    """The tensors in the order of their bytes, which follow each other without a hole; else ValueError."""
    entries, end = [], 0
    for name, value in sorted(meta.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = end, end + _size(value["dtype"], value["shape"])
        if value["data_offsets"] != [begin, end]:
            raise ValueError
        entries.append(Entry(name, DTYPES[value["dtype"]], value["shape"], end - begin))
    return entries


def _size(dtype: str, shape: list[int]) -> int:
    """Bytes of a tensor; ValueError for a shape that no tensor can have."""
    if type(shape) is not list or len(shape) > MAX_AXES or any(type(n) is not int or n < 0 for n in shape) or prod(n or 1 for n in shape) >= 2**60:
        raise ValueError
    return prod(shape) * DTYPES[dtype].itemsize


def _piece(file: BufferedReader, size: int) -> bytearray:
    piece = bytearray(size)
    file.readinto(piece)
    return piece


def _tensor(entry: Entry, data: bytearray) -> Tensor:
    flat = torch.frombuffer(data, dtype=entry.dtype) if data else torch.empty(0, dtype=entry.dtype)
    return flat.reshape(entry.shape)


def _place_of_checksum(head: bytes) -> int:
    """Where its 64 digits begin: the first such key, since those before it are ours."""
    return head.index(BEFORE_CHECKSUM) + len(BEFORE_CHECKSUM)


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _loads(text: str | bytes) -> Any:
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _version() -> str:
    try:
        return version("foretell")
    except PackageNotFoundError:  # run from the source tree
        return "0"


def _neighbours(path: Path) -> str:
    """The end of a sentence: the saved files in the same folder."""
    if not path.parent.is_dir():
        return f': there is no folder "{path.parent}"'
    saved = sorted(file.name for file in path.parent.glob("*.foretell"))
    return f": {nearest(path.name, saved)}" if saved else ': no file of that folder ends in ".foretell"'


def _damaged(path: str | os.PathLike[str]) -> FileError:
    return FileError(f'"{path}" is damaged (its contents do not match its checksum): copy it again from where it came, or save the model again')


def _cut(path: str | os.PathLike[str], size: int, whole: int) -> FileError:
    return FileError(f'"{path}" is cut off: {size:,} of {whole:,} bytes are there; copy it again from where it came, or save the model again')
