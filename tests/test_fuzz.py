"""A file that was damaged or forged is refused or read exactly: no other exception, no wrong value, no gigabytes; and any value survives the codec."""

import hashlib
import json
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foretell import files, storage
from foretell.errors import FileError
from test_storage import FORMAT_1, TABLE, Net, Spot, pieces, sample

ALLOWED = 100_000_000  # bytes that reading a small file may take
RAW = FORMAT_1.read_bytes()
HEAD = 8 + int.from_bytes(RAW[:8], "little")
TRUTH = pieces(sample())

JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1, 7, 2**31, 2**40, 2**62, 2**63, 10**30, -0.5, 1e308, "", "nan", "F64", "C64", "전력", "\ud800", "value.weights.seen",
    [], {}, [[]], [0, 2**62], [2**40, 2**40, 2**40], [0, 2**59, 2**59], [1] * 1000, [0, 4], {"float": "inf"}, {"list": [1]}, {"dict": {"a": 1}},
    {"tensor": "value.weights.seen"}, {"class": "Net", "fields": {}}, {"class": "Clock", "fields": {"start": 0, "step": "0h"}},
    {"datetime64": 2**62, "unit": "Y"},
)  # fmt: skip


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], object]]:
    """load(bytes of a file) with the classes of test_storage, in a process that may not grow by more than is allowed."""
    monkeypatch.setattr(storage, "_table", lambda: TABLE)
    path = tmp_path / "model.foretell"
    file = path.open("wb", buffering=0)  # held open: a fresh file for every mutation costs more than reading it

    def load(raw: bytes) -> object:
        file.seek(0)
        file.write(raw)
        file.truncate()
        return storage.load(path)

    load(RAW)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if Path("/proc/self/statm").exists() else None
    old = resource.getrlimit(resource.RLIMIT_AS)
    if size is not None:
        resource.setrlimit(resource.RLIMIT_AS, (size + ALLOWED, old[1]))
    yield load
    resource.setrlimit(resource.RLIMIT_AS, old)
    file.close()


def refused(load: Callable[[bytes], object], raw: bytes) -> bool:
    """True for a FileError; a value must be the true one; anything else is an error of the test."""
    try:
        value = load(raw)
    except FileError as error:
        assert 'model.foretell"' in str(error)
        return True
    assert pieces(value) == TRUTH
    return False


def flipped(raw: bytes, rng: random.Random) -> bytes:
    return altered(raw, rng.randrange(len(raw)), 1 << rng.randrange(8))


def altered(raw: bytes, at: int, mask: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :]


def swapped(raw: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.sample(range(len(raw)), 2))
    return raw[:a] + raw[b : b + 1] + raw[a + 1 : b] + raw[a : a + 1] + raw[b + 1 :]


def spliced(raw: bytes, rng: random.Random) -> bytes:
    """A piece of the file, or noise, in the place of another."""
    a, b, c, d = (rng.randrange(len(raw)) for _ in range(4))
    piece = raw[min(c, d) : max(c, d)] if rng.random() < 0.5 else rng.randbytes(rng.randrange(40))
    return raw[: min(a, b)] + piece + raw[rng.choice([max(a, b), min(a, b)]) :]


def repainted(raw: bytes, rng: random.Random) -> bytes:
    """One letter or digit of the head for another: still good JSON, mostly."""
    at = rng.choice([i for i in range(8, HEAD) if chr(raw[i]).isalnum()])
    return raw[:at] + rng.choice("0123456789abcdefFINU").encode() + raw[at + 1 :]


def resized(raw: bytes, rng: random.Random) -> bytes:
    """Another length of the head."""
    return rng.choice([rng.randrange(2 * HEAD), 2 ** rng.randrange(64), HEAD - 8 + 8 * rng.randint(-2, 2)]).to_bytes(8, "little") + raw[8:]


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("mutation", [flipped, swapped, spliced, repainted, resized], ids=lambda f: f.__name__)
def test_a_mutated_file_is_refused_or_exact(load: Callable[[bytes], object], mutation: Callable[[bytes, random.Random], bytes], seed: int) -> None:
    raw = mutation(RAW, random.Random(seed))
    assert refused(load, raw) == (raw != RAW)


def test_a_file_cut_anywhere_is_refused(load: Callable[[bytes], object]) -> None:
    assert not [size for size in range(len(RAW)) if not refused(load, RAW[:size])]


@pytest.mark.parametrize("bit", range(8))
def test_no_flipped_bit_goes_unseen(load: Callable[[bytes], object], bit: int) -> None:
    assert not [at for at in range(len(RAW)) if not refused(load, altered(RAW, at, 1 << bit))]


def signed(meta: dict[str, Any], envelope: Any, data: bytes) -> bytes:
    """A file of any contents whose checksum is right: what a forger could send."""
    if isinstance(envelope, dict) and "checksum" in envelope:
        envelope = {**envelope, "checksum": files.UNSIGNED}
    text = json.dumps({files.METADATA: {"foretell": json.dumps(envelope, separators=(",", ":"))}, **meta}, separators=(",", ":")).encode()
    raw = len(text).to_bytes(8, "little") + text + data
    return raw.replace(files.UNSIGNED.encode(), hashlib.sha256(raw).hexdigest().encode(), 1)


def parts() -> tuple[dict[str, Any], dict[str, Any], bytes]:
    meta = json.loads(RAW[8:HEAD])
    return meta, json.loads(meta.pop(files.METADATA)["foretell"]), RAW[HEAD:]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from places(item)


def forge(value: Any, rng: random.Random) -> None:
    """Replaces, removes or moves one thing inside."""
    container, key = rng.choice(list(places(value)))
    what = rng.randrange(4)
    if what == 0 and isinstance(container, dict):
        container[rng.choice(["class", "fields", "zone", "tensor", "dtype"])] = container.pop(key)
    elif what == 1:
        del container[key]
    else:
        container[key] = rng.choice(JUNK)


def test_the_forger_signs_well(load: Callable[[bytes], object]) -> None:
    assert not refused(load, signed(*parts()))


@pytest.mark.parametrize("seed", range(200))
def test_a_forged_file_is_refused_or_read(load: Callable[[bytes], object], seed: int) -> None:
    rng = random.Random(seed)
    meta, envelope, data = parts()
    for _ in range(rng.randint(1, 3)):
        forge(rng.choice([meta, envelope["header"], envelope] if isinstance(envelope.get("header"), dict | list) else [meta]) or meta, rng)
    try:
        load(signed(meta, envelope, data))
    except FileError as error:
        assert 'model.foretell"' in str(error)


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [
        ([2**40], [0, 2**42]),
        ([2**62, 4], [0, 0]),
        ([0, 2**62, 2**62], [0, 0]),
        ([-1, -12], [0, 48]),
        ([1] * 10_000, [0, 4]),
        ([12.0], [0, 48]),
        ("12", [0, 48]),
        ({}, [0, 4]),
        ([12], [0.0, 48.5]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_size_that_is_a_lie_is_refused_before_it_is_believed(load: Callable[[bytes], object], shape: Any, offsets: list[Any]) -> None:
    _, envelope, _ = parts()
    envelope["header"] = {"minor": 0, "value": {"tensor": "a"}}
    with pytest.raises(FileError):
        load(signed({"a": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}, envelope, bytes(int(min(offsets[1], 48)))))


def test_a_head_of_gigabytes_is_refused_unread(load: Callable[[bytes], object], tmp_path: Path) -> None:
    path = tmp_path / "hollow.foretell"
    with path.open("wb") as file:
        file.write((2**31).to_bytes(8, "little") + files.MAGIC)
        file.truncate(2**32)
    with pytest.raises(FileError, match="is damaged"):
        storage.load(path)


@pytest.mark.parametrize("second", [[0, 8], [4, 12], [9, 17], [16, 24], [8, 15]], ids=str)
def test_tensors_may_not_share_or_skip_bytes(load: Callable[[bytes], object], second: list[int]) -> None:
    _, envelope, _ = parts()
    envelope["header"] = {"minor": 0, "value": None}
    entry = {"dtype": "U8", "shape": [8]}
    assert load(signed({"a": {**entry, "data_offsets": [0, 8]}, "b": {**entry, "data_offsets": [8, 16]}}, envelope, bytes(16))) is None
    with pytest.raises(FileError, match="is damaged"):
        load(signed({"a": {**entry, "data_offsets": [0, 8]}, "b": {**entry, "data_offsets": second}}, envelope, bytes(16)))


@pytest.mark.parametrize("header", [None, [1], "value", {"value": float("nan")}, {"value": float("inf")}], ids=str)
def test_a_header_that_is_no_strict_json_object(load: Callable[[bytes], object], header: object) -> None:
    meta, envelope, data = parts()
    with pytest.raises(FileError, match="is damaged"):
        load(signed(meta, {**envelope, "header": header}, data))


def test_a_head_nested_without_end_is_refused(load: Callable[[bytes], object]) -> None:
    text = files.MAGIC + b'"},"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(FileError):
        load(len(text).to_bytes(8, "little") + text)


UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "25m")
times = st.builds(lambda count, unit: np.int64(count).view(f"datetime64[{unit}]"), st.integers(-(2**63), 2**63 - 1), st.sampled_from(UNITS))
tensors = st.builds(
    lambda seed, dtype, shape: torch.randint(-9, 9, shape, generator=torch.Generator().manual_seed(seed)).to(dtype),
    st.integers(0, 99),
    st.sampled_from(list(files.CODES)),
    st.lists(st.integers(0, 3), max_size=3),
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | times | tensors
specs = st.builds(Net, hidden=st.lists(st.integers()).map(tuple), dropout=st.floats()) | st.builds(Spot, st.text(), st.floats())
values = st.recursive(
    leaves | specs,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner) | st.builds(Spot, st.text(), inner),
    max_leaves=20,
)


@given(value=values)
def test_any_value_survives_the_codec(value: object) -> None:
    encoded, kept = storage.encode(value, TABLE)
    text = json.dumps(encoded, allow_nan=False)
    assert pieces(storage.decode(json.loads(text), kept, TABLE)) == pieces(value)


@given(value=values)
def test_any_value_survives_the_file(value: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.foretell"
    encoded, kept = storage.encode(value, TABLE)
    files.write(path, kept, {"value": encoded})
    header, found = files.read(path)
    assert pieces(storage.decode(header["value"], found, TABLE)) == pieces(value)
