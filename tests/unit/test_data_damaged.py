"""Files of arrays that are encrypted, cut off or made up: one line, whatever is in them."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data_kit import data, refused

from search.errors import DataError
from search.spec.settings import DataSection


def array(values: object = np.arange(40)) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def header(text: str, version: tuple[int, int] = (1, 0), *, length: int | None = None, body: bytes = b"") -> bytes:
    raw = text.encode("latin1")
    size = struct.pack("<H" if version == (1, 0) else "<I", len(raw) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + size + raw + body


def write(path: Path, x: bytes, name: str = "x.npy", **how: int) -> None:
    with zipfile.ZipFile(path / "d.npz", "w", **how) as archive:
        archive.writestr(name, x)
        archive.writestr("y.npy", array())


GOOD = "{'descr': '<f8', 'fortran_order': False, 'shape': (40,), }\n"


@pytest.mark.parametrize(
    "x",
    [
        header(GOOD.replace("(40,)", "(40")),
        header(GOOD.replace("(40,)", "(-40,)")),
        header(GOOD.replace("(40,)", "(40, 'a')")),
        header(GOOD.replace("(40,)", f"({10**30},)")),
        header(GOOD.replace("(40,)", f"({10**13}, 8)")),
        header(GOOD.replace("(40,)", f"({10**8},)")),
        header(GOOD.replace("<f8", "<zz")),
        header(GOOD.replace("'<f8'", "','")),
        header(GOOD.replace("'<f8'", "[('a', ',')]")),
        header(GOOD.replace("<f8", "|O"), body=b"\x80\x04."),
        header("(" * 5000),
        header("1+" * 3000 + "1"),
        header("{"),
        header("\x00\xff\xfe(((("),
        header(""),
        header(GOOD, length=60_000),
        header(GOOD, (7, 0)),
        header(GOOD, (9, 9)),
        header(GOOD, body=b"\x00" * 100),
        array()[:60],
        array()[:5],
        b"",
        b"no array at all",
    ],
)
def test_array_with_a_broken_header_or_too_few_bytes_is_refused(tmp_path, x):
    write(tmp_path, x)
    refused(tmp_path, "d.npz", "d.npz")


def flagged(raw: bytes, bit: int) -> bytes:
    """Set a flag of the first entry in both of its headers."""
    changed = bytearray(raw)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.index(mark) + offset
        changed[at] |= bit
    return bytes(changed)


def test_encrypted_file_is_refused_at_once(tmp_path):
    write(tmp_path, array())
    (tmp_path / "d.npz").write_bytes(flagged((tmp_path / "d.npz").read_bytes(), 1))
    with pytest.raises(DataError, match="encrypted; write it without a password"):
        data.check(DataSection(source="d.npz"), tmp_path)


def test_unknown_compression_is_refused(tmp_path):
    write(tmp_path, array())
    raw = bytearray((tmp_path / "d.npz").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = raw.index(mark) + offset
        raw[at : at + 2] = struct.pack("<H", 97)
    (tmp_path / "d.npz").write_bytes(raw)
    refused(tmp_path, "d.npz", "x can't be read", "compression")


def test_file_cut_off_anywhere_is_refused(tmp_path):
    write(tmp_path, array(), compression=zipfile.ZIP_DEFLATED)
    raw = (tmp_path / "d.npz").read_bytes()
    for size in range(0, len(raw), 23):
        (tmp_path / "d.npz").write_bytes(raw[:size])
        refused(tmp_path, "d.npz", "d.npz")


def test_any_changed_byte_ends_in_one_line_or_in_data(tmp_path):
    write(tmp_path, array(np.arange(40.0)))
    raw = (tmp_path / "d.npz").read_bytes()
    refusals = 0
    for at in range(0, len(raw), 3):
        changed = bytearray(raw)
        changed[at] ^= 0x55
        (tmp_path / "d.npz").write_bytes(changed)
        try:
            data.load(DataSection(source="d.npz"), tmp_path, 0)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017 (some changes change nothing)
            refusals += 1
    assert refusals > 100


@pytest.mark.parametrize("member", ["x", "x.npy"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_array_that_is_there_twice_is_refused(tmp_path, member):
    write(tmp_path, array())
    with zipfile.ZipFile(tmp_path / "d.npz", "a") as archive:
        archive.writestr(member, array())
    refused(tmp_path, "d.npz", "has x twice")


def test_member_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x", "1,2,3")
        archive.writestr("y.npy", array())
    refused(tmp_path, "d.npz", "d.npz")
