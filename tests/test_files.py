"""files: one safe file, whole or not at all; whatever is wrong with it gets its sentence."""

import json
import os
import re
import stat
from pathlib import Path

import pytest
import torch
from torch import Tensor

from foretell import files
from foretell.errors import FileError

HEADER = {"text": '전력 "checksum":"x" \\', "numbers": [1, -0.0, 1e300], "none": None, "deep": {"yes": True}, "checksum": "1" * 64}


def tensors() -> dict[str, Tensor]:
    wide = torch.arange(12.0).reshape(3, 4)
    kinds = {str(dtype): torch.tensor([0, 1, 1]).to(dtype) for dtype in files.CODES}
    odd = torch.tensor([torch.nan, -0.0, torch.inf, 1e-45])
    return {"wide": wide, "turned": wide.T, "row": wide[1], "scalar": torch.tensor(7), "empty": torch.zeros(0, 5), "odd": odd, "무게": torch.ones(2), **kinds}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    def bits(t: Tensor) -> bytes:
        return t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    return left.keys() == right.keys() and all((a.dtype, a.shape, bits(a)) == (b.dtype, b.shape, bits(b)) for a, b in ((left[k], right[k]) for k in left))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.foretell"


@pytest.fixture
def saved(path: Path) -> Path:
    files.write(path, tensors(), HEADER)
    return path


def edited(path: Path, old: bytes, new: bytes) -> None:
    """Replaces bytes by as many others, the checksum left as it is."""
    raw = path.read_bytes()
    assert raw.count(old) == 1 and len(old) == len(new)
    path.write_bytes(raw.replace(old, new))


def test_what_is_read_is_what_was_written(saved: Path) -> None:
    header, found = files.read(saved)
    assert header == HEADER
    assert str(header["numbers"][1]) == "-0.0"
    assert same(found, tensors())


def test_a_number_cut_out_of_a_wide_row_is_written(tmp_path: Path) -> None:
    """Of one series, one step and one target: its stride is that of the row it comes from."""
    files.write(tmp_path / "one", {"cut": torch.arange(8.0).view(2, 4)[1:, 1::4]}, {})
    assert files.read(tmp_path / "one")[1]["cut"].tolist() == [[5.0]]


def test_the_same_contents_make_the_same_file(saved: Path, tmp_path: Path) -> None:
    files.write(tmp_path / "again.foretell", tensors(), HEADER)
    assert saved.read_bytes() == (tmp_path / "again.foretell").read_bytes()


def test_tensors_read_are_independent_and_writable(saved: Path) -> None:
    _, found = files.read(saved)
    found["wide"].zero_()
    assert same({"row": found["row"]}, {"row": tensors()["row"]})
    assert same(files.read(saved)[1], tensors())


def test_any_safetensors_reader_opens_it(saved: Path) -> None:
    from safetensors import safe_open

    with safe_open(saved, "pt") as file:
        envelope = json.loads(file.metadata()["foretell"])
        assert same({name: file.get_tensor(name) for name in file.keys()}, tensors())  # noqa: SIM118  (not a dict)
    assert envelope["format"] == 1
    assert envelope["header"] == HEADER
    assert re.fullmatch("[0-9a-f]{64}", envelope["checksum"])


@pytest.mark.parametrize("width", range(8))
def test_every_tensor_lies_at_a_multiple_of_its_item_size(path: Path, width: int) -> None:
    files.write(path, tensors(), {"text": "x" * width})
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8 : 8 + length])
    assert length % 8 == 0
    assert all(e["data_offsets"][0] % files.DTYPES[e["dtype"]].itemsize == 0 for name, e in head.items() if name != files.METADATA)


def test_what_is_not_finite_is_no_header(path: Path) -> None:
    with pytest.raises(FileError, match="cannot be written as JSON: Out of range float"):
        files.write(path, {}, {"x": float("nan")})
    with pytest.raises(FileError, match=r"cannot be written as JSON: .*surrogates"):
        files.write(path, {}, {"x": "\ud800"})
    nest: list[object] = []
    nest.append(nest)
    with pytest.raises(FileError, match="cannot be written as JSON: Circular"):
        files.write(path, {}, {"x": nest})
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(("name", "tensor"), [("z", torch.zeros(1, dtype=torch.complex64)), ("s", torch.eye(2).to_sparse()), ("__metadata__", torch.ones(1))])
def test_a_tensor_that_no_file_can_hold(path: Path, name: str, tensor: Tensor) -> None:
    with pytest.raises(FileError, match=f'tensor "{name}" .* cannot be written; dense tensors of .*torch.float32'):
        files.write(path, {name: tensor}, {})


def test_a_file_is_replaced_whole(saved: Path) -> None:
    files.write(saved, {"a": torch.ones(2)}, {"second": True})
    assert files.read(saved)[0] == {"second": True}
    assert [file.name for file in saved.parent.iterdir()] == ["model.foretell"]


def test_others_may_read_it_as_any_new_file(saved: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_link_is_followed(saved: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(saved)
    files.write(link, {}, {"new": 1})
    assert link.is_symlink()
    assert files.read(saved)[0] == {"new": 1}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_after_a_failure_the_old_file_is_there_and_nothing_else(saved: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(os, step, full)
    with pytest.raises(FileError, match=r'model.foretell" cannot be written: No space left on device'):
        files.write(saved, {}, {"new": 1})
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["model.foretell"]


def test_an_interrupt_too_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        files.write(saved, {}, {"new": 1})
    assert files.read(saved)[0] == HEADER
    assert [file.name for file in saved.parent.iterdir()] == ["model.foretell"]


def test_where_no_file_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r'no folder ".*runs" to write "a.foretell" into: create it'):
        files.write(tmp_path / "runs" / "a.foretell", {}, {})
    with pytest.raises(FileError, match="is a folder: add a file name"):
        files.write(tmp_path, {}, {})


def test_a_missing_file_names_its_neighbours(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r'no file ".*modle.foretell": did you mean "model.foretell"\?'):
        files.read(saved.with_name("modle.foretell"))
    with pytest.raises(FileError, match=r'no file .*: there is no folder ".*none"'):
        files.read(tmp_path / "none" / "model.foretell")
    with pytest.raises(FileError, match=r"is a folder: name the file in it: .*model.foretell"):
        files.read(tmp_path)
    saved.unlink()
    with pytest.raises(FileError, match=r'no file of that folder ends in ".foretell"'):
        files.read(saved)


@pytest.mark.parametrize("text", [b"unique_id,ds,y\n", b"x", b"PK\x03\x04" + bytes(100), b"\x02\0\0\0\0\0\0\0{}"])
def test_another_kind_of_file(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    with pytest.raises(FileError, match=r"model.foretell\" is not a file that foretell saved .*ft.read reads data"):
        files.read(path)


def test_a_safetensors_file_of_others(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(FileError, match="is not a file that foretell saved"):
        files.read(path)


def test_an_empty_file(path: Path) -> None:
    path.touch()
    with pytest.raises(FileError, match="is empty: save the model again"):
        files.read(path)


@pytest.mark.parametrize("left", [30, 40, 500, -1])
def test_a_file_cut_off(saved: Path, left: int) -> None:
    raw = saved.read_bytes()
    saved.write_bytes(raw[:left])
    with pytest.raises(FileError, match=rf"is cut off: {len(raw[:left]):,} of [\d,]+ bytes are there; copy it again"):
        files.read(saved)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"wide":{"dtype":"F32","shape":[3,4]', b'"wide":{"dtype":"F32","shape":[4,3]'), (b'"wide"', b'"vide"'), (b"1e+300", b"2e+300"), (b'"I32"', b'"F32"')],
)
def test_a_changed_head_is_damage(saved: Path, old: bytes, new: bytes) -> None:
    edited(saved, old, new)
    with pytest.raises(FileError, match=r"is damaged \(its contents do not match its checksum\): copy it again"):
        files.read(saved)


@pytest.mark.parametrize("held", [{}, tensors()], ids=["no tensor", "tensors"])
def test_more_bytes_than_there_should_be(saved: Path, held: dict[str, Tensor]) -> None:
    files.write(saved, held, HEADER)
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(FileError, match="is damaged"):
        files.read(saved)


def test_a_newer_format(saved: Path) -> None:
    edited(saved, rb"{\"format\":1,", rb"{\"format\":2,")
    with pytest.raises(FileError, match=r"was written by format 2 \(foretell .*\); this foretell reads up to 1: upgrade with pip install -U foretell"):
        files.read(saved)


def test_a_file_that_may_not_be_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", closed)
    with pytest.raises(FileError, match="cannot be read: Permission denied"):
        files.read(saved)
