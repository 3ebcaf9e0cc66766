"""Folders of images: every file of a class is used, or counted, or refused."""

from __future__ import annotations

import os
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_kit import data, deep_tiff, draw, draw_classes, load, refused
from PIL import Image

from search.errors import DataError
from search.spec.settings import DataSection


def values(loaded: data.Data) -> list[int]:
    """Return the colours of all images, in order."""
    pixels = np.concatenate([loaded.x_train, loaded.x_validation])[:, 0, 0, 0]
    return sorted(np.rint(pixels * 255).astype(int).tolist())


def test_images_in_folders_below_a_class_are_used(tmp_path):
    draw_classes(tmp_path / "pets", count=8)
    for index in range(4):
        draw(tmp_path / "pets" / "cat" / "old" / f"{index}.png", 100 + index)
        draw(tmp_path / "pets" / "dog" / "a" / "b" / f"{index}.png", 200 + index)
    loaded = load(tmp_path, "pets", test=0)
    assert values(loaded) == [*range(8), *range(20, 28), *range(100, 104), *range(200, 204)]
    is_dog = (loaded.x_train[:, 0, 0, 0] * 255 > 19) & (abs(loaded.x_train[:, 0, 0, 0] * 255 - 102) > 3)
    assert (is_dog == loaded.y_train.ravel()).all()
    assert loaded.warnings == ()


def test_images_below_a_class_of_a_split_are_used(tmp_path):
    for split in ("train", "test"):
        draw_classes(tmp_path / "pets" / split, count=8)
    draw(tmp_path / "pets" / "test" / "cat" / "more" / "1.png", 50)
    assert load(tmp_path, "pets").info.test_rows == 17


def test_linked_folders_are_followed_once(tmp_path):
    draw_classes(tmp_path / "pets", count=8)
    draw_classes(tmp_path / "more", count=3)
    (tmp_path / "pets" / "cat" / "linked").symlink_to(tmp_path / "more" / "cat")
    (tmp_path / "pets" / "cat" / "circle").symlink_to(tmp_path / "pets" / "cat")
    info = load(tmp_path, "pets").info
    assert info.train_rows + info.validation_rows + info.test_rows == 8 + 3 + 8


@pytest.mark.parametrize("nested", [("training", "validation"), ("cat", "dog")])
def test_folders_whose_images_are_all_further_down_are_refused(tmp_path, nested):
    """Whether training/cat is a class or cat/siamese a kind of cat can't be told."""
    for outer in nested:
        draw_classes(tmp_path / "pets" / outer, ("a", "b"))
        (tmp_path / "pets" / outer / ".DS_Store").write_text("")
    with pytest.raises(DataError, match=f"{nested[0]}: holds images in folders below it only") as caught:
        data.check(DataSection(source="pets"), tmp_path)
    assert "move" in str(caught.value)
    (tmp_path / "pets" / nested[0] / "notes.txt").write_text("")
    (tmp_path / "pets" / nested[1] / "notes.txt").write_text("")
    refused(tmp_path, "pets", "below it only")


def test_images_of_other_suffixes_are_used_if_pillow_opens_them(tmp_path):
    draw_classes(tmp_path / "pets", count=8)
    folder = tmp_path / "pets" / "cat"
    for number, suffix in enumerate((".jfif", ".JPG", ".jpe", ".avif", ".jp2", ".tga", ".PnG", "", ".image", ".mpo")):
        kind = {".jfif": "JPEG", "": "PNG", ".image": "BMP"}.get(suffix)
        draw(folder / f"more{number}{suffix}", 100, **({"format": kind} if kind else {}))
    draw(folder / "__thumb.png", 100)
    loaded = load(tmp_path, "pets", test=0)
    assert loaded.info.train_rows + loaded.info.validation_rows == 27
    assert loaded.warnings == ()


def test_a_class_may_be_called_with_underscores(tmp_path):
    draw_classes(tmp_path / "pets", ("__background__", "cat", "dog"))
    draw_classes(tmp_path / "pets" / "__MACOSX", ("cat",), count=1)
    assert load(tmp_path, "pets").info.class_names == ("__background__", "cat", "dog")


def test_files_that_are_no_images_are_counted(tmp_path):
    draw_classes(tmp_path / "pets")
    for name in ("cat/.DS_Store", "cat/Thumbs.db", "dog/notes.txt", "dog/more/notes.txt", "dog/._1.png", "dog/a.csv"):
        (tmp_path / "pets" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "pets" / name).write_text("no image")
    draw(tmp_path / "pets" / "dog" / ".ipynb_checkpoints" / "1-checkpoint.png", 9)
    (tmp_path / "pets" / "README.md").write_text("of no class")
    loaded = load(tmp_path, "pets")
    assert loaded.info.train_rows == 16
    (warning,) = loaded.warnings
    assert "7 of the files in the class folders are no images" in warning
    assert "2 .txt" in warning
    assert "1 .db" in warning


def test_images_of_no_class_are_counted(tmp_path):
    draw_classes(tmp_path / "pets")
    draw(tmp_path / "pets" / "1.png")
    draw(tmp_path / "pets" / "2.JPG")
    (warning,) = load(tmp_path, "pets").warnings
    assert "2 images stand in no class folder" in warning
    for split in ("train", "val"):
        draw_classes(tmp_path / "split" / split)
    draw(tmp_path / "split" / "train" / "1.png")
    (warning,) = load(tmp_path, "split").warnings
    assert "1 images stand in no class folder" in warning


@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".svg", ".nef", ".jxl"])
def test_image_that_pillow_can_not_open_is_refused(tmp_path, suffix):
    draw_classes(tmp_path / "pets")
    (tmp_path / "pets" / "dog" / f"1{suffix}").write_bytes(b"not for Pillow")
    refused(tmp_path, "pets", f"1{suffix}", "PNG or JPEG")


def test_class_without_any_image_is_refused(tmp_path):
    draw_classes(tmp_path / "pets")
    (tmp_path / "pets" / "eel").mkdir()
    (tmp_path / "pets" / "eel" / "notes.txt").write_text("none yet")
    refused(tmp_path, "pets", "eel", "holds no images")


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".webp", ".png"])
def test_images_of_several_frames_are_counted(tmp_path, suffix):
    draw_classes(tmp_path / "pets")
    frames = [Image.new("RGB", (4, 3), (value, value, value)) for value in (0, 99)]
    frames[0].save(tmp_path / "pets" / "cat" / f"many{suffix}", save_all=True, append_images=frames[1:])
    (warning,) = load(tmp_path, "pets").warnings
    assert "1 images have several frames or pages" in warning


@pytest.mark.parametrize("names", [("Cat", "cat"), ("cat", "cat ")])
def test_class_folders_that_look_alike_are_told_of(tmp_path, names):
    draw_classes(tmp_path / "pets", names)
    (warning,) = load(tmp_path, "pets").warnings
    assert "two classes" in warning


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_folder_whose_name_is_not_utf8_is_read_and_shown_with_escapes(tmp_path):
    draw_classes(tmp_path / "pets", ("caf\udce9", "dog"))
    (tmp_path / "pets" / "caf\udce9" / "notes\udcff.txt").write_text("")
    loaded = load(tmp_path, "pets")
    assert loaded.info.class_names == ("caf\\xe9", "dog")
    assert "".join((*loaded.info.class_names, *loaded.warnings)).encode()


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
@pytest.mark.parametrize("source", ["pets", "d.npz", "d.csv", "mine.py:load", "none.csv"])
def test_refusals_of_data_in_a_folder_that_is_not_utf8_can_be_printed(tmp_path, source):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    draw_classes(folder / "pets", count=3)
    (folder / "pets" / "cat" / "1.png").write_text("broken")
    (folder / "d.npz").write_text("broken")
    (folder / "d.csv").write_text("a,b\nx,1\n")
    (folder / "mine.py").write_text("def load():\n    return 1\n")
    with pytest.raises(DataError) as caught:
        load(folder, source, **({"target": "b"} if source.endswith("csv") else {}))
    assert "/\\xff/" in str(caught.value).encode().decode()


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_folder_that_may_not_be_read_is_not_skipped(tmp_path):
    draw_classes(tmp_path / "pets")
    draw(tmp_path / "pets" / "cat" / "inner" / "1.png")
    (tmp_path / "pets" / "cat" / "inner").chmod(0)
    try:
        refused(tmp_path, "pets", "can't be read")
    finally:
        (tmp_path / "pets" / "cat" / "inner").chmod(0o700)
        shutil.rmtree(tmp_path / "pets")


def deep_png(channels: int) -> bytes:
    """Return a PNG of 16 bits a channel; Pillow writes none with colours."""
    pixels = np.arange(4 * 4 * channels, dtype=">u2").reshape(4, -1)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    parts = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".png", deep_png(1)),
        (".png", deep_png(2)),
        (".png", deep_png(3)),
        (".png", deep_png(4)),
        (".tif", deep_tiff(np.arange(48))),
        (".ppm", b"P6 4 4 65535\n" + np.arange(48, dtype=">u2").tobytes()),
        (".ppm", b"P3 4 4 1000\n" + " ".join(map(str, range(48))).encode()),
    ],
)
def test_images_of_more_than_8_bits_a_channel_are_refused(tmp_path, suffix, content):
    """Pillow reads colours of 16 bits and keeps the high byte of each: these would be black."""
    draw_classes(tmp_path / "pets")
    (tmp_path / "pets" / "cat" / f"deep{suffix}").write_bytes(content)
    refused(tmp_path, "pets", f"deep{suffix}", "more than 8 bits", image_size=[4, 4])


def packed_bmp(white: int, bits: int = 16, masks: tuple[int, ...] = ()) -> bytes:
    """Return a BMP of 4x3 pixels of 16 or 32 bits each: the left half black, the right half white."""
    row = np.array([0, 0, white, white], f"<u{bits // 8}").tobytes()
    fields = struct.pack(f"<{len(masks)}I", *masks)
    size = struct.calcsize("<IiiHHIIiiII")
    at = 14 + size + len(fields)
    header = struct.pack("<IiiHHIIiiII", size, 4, 3, 1, bits, 3 if masks else 0, 3 * len(row), 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", at + 3 * len(row), 0, 0, at) + header + fields + 3 * row


def packed_tga() -> bytes:
    """Return an uncompressed TGA of 4x3 pixels, 5 bits a colour and 1 of transparency."""
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 4, 3, 16, 1)
    return header + 3 * np.array([0x8000, 0x8000, 0xFFFF, 0xFFFF], "<u2").tobytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("15.bmp", packed_bmp(0x7FFF)),
        ("15.bmp", packed_bmp(0x7FFF, masks=(0x7C00, 0x3E0, 0x1F))),
        ("16.bmp", packed_bmp(0xFFFF, masks=(0xF800, 0x7E0, 0x1F))),
        ("32.bmp", packed_bmp(0xFFFFFF, 32)),
        ("15.tga", packed_tga()),
    ],
    ids=["15 bits", "15 bits with masks", "16 bits", "8 bits a channel", "tga"],
)
def test_pixels_of_16_bits_that_hold_all_their_colours_are_read(tmp_path, name, content):
    """Pillow's raw modes count the bits of such a pixel where those of other images count the bits of a channel."""
    draw_classes(tmp_path / "pets", count=8)
    (tmp_path / "pets" / "cat" / name).write_bytes(content)
    loaded = load(tmp_path, "pets", test=0)
    pixels = np.concatenate([loaded.x_train, loaded.x_validation])
    (packed,) = [image for image in pixels if image.max() == 1]
    assert (packed == np.repeat([0.0, 0.0, 1.0, 1.0], 3 if packed.shape[-1] == 3 else 1).reshape(1, 4, -1)).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_images_of_8_bits_and_less_are_read_in_every_mode(tmp_path, mode):
    for name in ("cat", "dog"):
        for index in range(10):
            file = tmp_path / "pets" / name / f"{index}.{'tif' if mode == 'CMYK' else 'png'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 3), (255 * (index % 2),) * 3).convert(mode).save(file)
    loaded = load(tmp_path, "pets", test=0)
    assert set(values(loaded)) == {0, 255}
    assert loaded.warnings == ()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_told_of(tmp_path, mode):
    draw_classes(tmp_path / "pets", count=8)
    file = tmp_path / "pets" / "cat" / "0.png"
    image = Image.new("RGBA", (4, 3), (0, 0, 0, 255)).convert(mode)
    if mode == "P":
        image.save(file, transparency=image.getpixel((0, 0)))
    else:
        image.putalpha(7)
        image.save(file)
    [warning] = load(tmp_path, "pets", test=0).warnings
    assert "1 images have transparent pixels" in warning
    assert "0.png" in warning


def write_texts(folder, classes=("good", "bad"), count=8):
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for row in range(count):
            (folder / name / f"{row}.txt").write_text(f"{name} word{row % 3} of number {number}\n", encoding="utf-8")


def test_folders_of_texts_are_texts_of_classes(tmp_path):
    for split in ("train", "test"):
        write_texts(tmp_path / "reviews" / split)
    (tmp_path / "reviews" / "train" / "urls.txt").write_text("of no class")
    (tmp_path / "reviews" / "train" / "good" / "notes.md").write_text("no text")
    loaded = load(tmp_path, "reviews", validation=0.25)
    info = loaded.info
    assert (info.class_names, info.train_rows, info.validation_rows, info.test_rows) == (("bad", "good"), 12, 4, 16)
    assert loaded.y_validation.ravel().tolist() == [int("good" in text) for text in loaded.raw.x_validation]
    assert info.vocabulary_size == 2 + len({"good", "bad", "word0", "word1", "word2", "of", "number", "0", "1"})
    assert [warning.partition(": ")[2].partition(" and")[0] for warning in loaded.warnings] == [
        "1 of the files in the class folders are no .txt files", "1 .txt files stand in no class folder",
    ]  # fmt: skip
    (tmp_path / "reviews" / "train" / "bad" / "3.txt").write_bytes("größer".encode("latin-1"))
    refused(tmp_path, "reviews", "bad/3.txt: is not UTF-8: byte f6 (", "; name its encoding in [data]")
    assert load(tmp_path, "reviews", encoding="latin-1").info.train_rows == 14
    refused(tmp_path, "reviews", "image_size is for a folder of images", image_size=[8, 8])
    refused(tmp_path, "reviews", "window is for rows that follow each other", window=3)
    write_texts(tmp_path / "one", ("good",))
    with pytest.raises(DataError, match="one class only, 'good'"):
        data.check(DataSection(source="one"), tmp_path)
