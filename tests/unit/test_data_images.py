"""Images of every kind become the bytes that Pillow, or arithmetic by hand, makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_kit import deep_tiff, load, refused
from PIL import Image, ImageOps

from search.errors import DataError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "cats_vs_dogs"
SIZE = (6, 9)


def picture(seed: int = 0, height: int = SIZE[0], width: int = SIZE[1]) -> Image.Image:
    """Return an image without symmetry: smooth, so that JPEG keeps it."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([25 * x, 40 * y, np.full_like(x, 20 + seed)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def folder_of(folder, files: dict[str, Image.Image | bytes], **options) -> None:
    """Write files into the class cat, and as many plain ones into dog."""
    for name in ("cat", "dog"):
        (folder / "pets" / name).mkdir(parents=True)
    for name, image in files.items():
        file = folder / "pets" / "cat" / name
        if isinstance(image, bytes):
            file.write_bytes(image)
        else:
            image.save(file, **options)
    for number in range(max(6, len(files))):
        picture(number, *SIZE).save(folder / "pets" / "dog" / f"{number}.png")


def images_of(loaded) -> dict[int, list[np.ndarray]]:
    """Return the images of each class as bytes."""
    x = np.concatenate([loaded.x_train, loaded.x_validation])
    y = np.concatenate([loaded.y_train, loaded.y_validation]).ravel()
    assert x.dtype == np.float32
    return {label: list(np.rint(x[y == label] * 255).astype(np.uint8)) for label in (0, 1)}


def same_images(given: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    """Whether two lists hold the same images, in any order."""
    return sorted(image.tobytes() for image in given) == sorted(image.tobytes() for image in wanted)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright_as_pillow_turns_them(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    size = SIZE[::-1] if orientation > 4 else SIZE
    how = {"lossless": True} if suffix == ".webp" else {"quality": 95} if suffix == ".jpg" else {}
    folder_of(tmp_path, {f"{index}{suffix}": picture(index, *size) for index in range(6)}, exif=exif, **how)
    loaded = load(tmp_path, "pets", test=0, validation=0.2)
    wanted = []
    for index in range(6):
        with Image.open(tmp_path / "pets" / "cat" / f"{index}{suffix}") as image:
            wanted.append(np.asarray(ImageOps.exif_transpose(image).convert("RGB")))
    assert same_images(images_of(loaded)[0], wanted)
    assert loaded.info.input_shape == (*SIZE, 3)
    # The picture itself, and not only what Pillow says: red grows to the right, green downwards, in an upright one.
    corner = np.array(wanted[0], int)
    turned = {1: (1, 1), 2: (-1, 1), 3: (-1, -1), 4: (1, -1)}.get(orientation)
    if turned:
        red, green = (np.sign(corner[0, -1, 0] - corner[0, 0, 0]), np.sign(corner[-1, 0, 1] - corner[0, 0, 1]))
        assert (red, green) == turned


def test_orientation_is_ignored_if_the_study_says_so(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    folder_of(tmp_path, {f"{index}.png": picture(index) for index in range(6)}, exif=exif)
    loaded = load(tmp_path, "pets", test=0, validation=0.2, exif=False)
    assert same_images(images_of(loaded)[0], [np.asarray(picture(index)) for index in range(6)])
    message = (
        "is 6 high and 9 wide where {}/pets/cat/0.png is 9 and 6 (6 of 12 images have another size than the first)"
    )
    refused(tmp_path, "pets", message.format(tmp_path), "image_size = [9, 6]")


def test_damaged_exif_is_no_orientation(tmp_path):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(range(40))
    folder_of(tmp_path, {f"{index}.png": picture(index) for index in range(6)}, exif=exif)
    loaded = load(tmp_path, "pets", test=0, validation=0.2)
    assert same_images(images_of(loaded)[0], [np.asarray(picture(index)) for index in range(6)])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".bmp", ".tif"])
def test_every_format_gives_the_pixels_that_it_holds(tmp_path, suffix):
    how = {"lossless": True} if suffix == ".webp" else {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}
    folder_of(tmp_path, {f"{index}{suffix}": picture(index) for index in range(6)}, **how)
    given = sorted(
        images_of(load(tmp_path, "pets", test=0, validation=0.2))[0], key=lambda image: int(image.astype(int).sum())
    )
    tolerance = {".jpg": 6, ".gif": 12}.get(suffix, 0)
    for image, index in zip(given, range(6), strict=True):
        assert np.abs(image.astype(int) - np.asarray(picture(index)).astype(int)).max() <= tolerance


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_is_ink_on_white(tmp_path, suffix):
    colours = {"red": (0, 255, 255, 0), "green": (255, 0, 255, 0), "black": (0, 0, 0, 255), "white": (0, 0, 0, 0),
               "blue": (255, 255, 0, 0), "grey": (0, 0, 0, 127)}  # fmt: skip
    folder_of(tmp_path, {f"{name}{suffix}": Image.new("CMYK", SIZE[::-1], ink) for name, ink in colours.items()})
    given = sorted(
        tuple(np.rint(image.mean(axis=(0, 1))))
        for image in images_of(load(tmp_path, "pets", test=0, validation=0.2))[0]
    )
    wanted = sorted(tuple((255 - part) * (255 - ink[3]) / 255 for part in ink[:3]) for ink in colours.values())
    np.testing.assert_allclose(given, wanted, atol=2)


def test_16_bits_of_grey_become_their_upper_8(tmp_path):
    deep = [np.random.default_rng(seed).integers(0, 65536, SIZE, np.uint16) for seed in range(8)]
    suffixes = [".png", ".tif", ".png", ".tif", ".png", ".tif", ".png", ".pgm"]
    files = {
        f"{n}{suffix}": Image.fromarray(pixels) for n, (suffix, pixels) in enumerate(zip(suffixes, deep, strict=True))
    }
    folder_of(tmp_path, files)
    for file in (tmp_path / "pets" / "dog").iterdir():
        with Image.open(file) as image:
            image.convert("L").save(file)
    loaded = load(tmp_path, "pets", test=0, validation=0.2)
    assert loaded.info.input_shape == (*SIZE, 1)
    assert same_images(images_of(loaded)[0], [(pixels // 256).astype(np.uint8)[..., None] for pixels in deep])
    (warning,) = loaded.warnings
    assert "8 images have more than 8 bits a channel, such as" in warning
    assert "0.png; the upper 8 are used" in warning


def test_16_bits_of_colour_become_their_upper_8(tmp_path):
    bright = deep_tiff(np.arange(48) * 1365)
    folder_of(tmp_path, {f"{index}.tif": bright for index in range(6)})
    loaded = load(tmp_path, "pets", test=0, validation=0.2, image_size=(4, 4))
    wanted = (np.arange(48) * 1365 // 256).astype(np.uint8).reshape(4, 4, 3)
    assert same_images(images_of(loaded)[0], [wanted] * 6)


def test_few_bits_in_a_format_of_many_are_refused(tmp_path):
    """Numbers of 12 bits in a file of 16 would be nearly black."""
    folder_of(tmp_path, {f"{n}.png": Image.fromarray(np.full(SIZE, 4095, np.uint16)) for n in range(6)})
    refused(
        tmp_path, "pets",
        "0.png: has more than 8 bits a channel, of which the upper 8 are used; in all 6 such images these are 15 at most, nearly "
        "black: stretch their numbers over the whole range, or save 8 bits a channel",
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_is_read_as_its_colours(tmp_path, mode):
    grey = [0, 51, 102, 153, 204, 255]
    values = [0, 255] * 3 if mode == "1" else grey
    suffix = {"CMYK": ".tif", "YCbCr": ".jpg"}.get(mode, ".png")
    made = {}
    for index, value in enumerate(values):
        plain = Image.new("RGB", SIZE[::-1], (value, value, value))
        image = Image.fromarray(np.full(SIZE, value * 257, np.uint16)) if mode == "I;16" else plain.convert(mode)
        made[f"{index}{suffix}"] = image
    folder_of(tmp_path, made)
    given = sorted(int(np.rint(image.mean())) for image in images_of(load(tmp_path, "pets", test=0, validation=0.2))[0])
    np.testing.assert_allclose(given, sorted(values), atol=1)


def test_all_broken_images_are_named_at_once(tmp_path):
    folder_of(tmp_path, {f"{index}.png": picture(index) for index in range(6)})
    cat, dog = tmp_path / "pets" / "cat", tmp_path / "pets" / "dog"
    (cat / "empty.jpg").write_bytes(b"")
    (cat / "text.png").write_text("no image")
    (dog / "cut.png").write_bytes((dog / "0.png").read_bytes()[:60])
    Image.new("F", SIZE[::-1], 0.5).save(dog / "real.tif")
    said = refused(
        tmp_path, "pets",
        f"{tmp_path}/pets: 4 of 16 images can't be used; mend or remove them: cat/empty.jpg: can't be read as an image:",
        "cat/text.png: can't be read as an image:",
        "dog/cut.png: can't be read as an image:",
        "dog/real.tif: has pixels of mode F, more than 8 bits without a known range",
    )  # fmt: skip
    assert "more" not in said.partition("known range")[2]
    for index in range(20):
        (cat / f"more{index:02d}.png").write_text("no image")
    said = refused(tmp_path, "pets", "24 of 36 images can't be used", "; and 14 more")
    assert said.count("can't be read as an image") == 10


def test_broken_pixels_are_named_at_once(tmp_path):
    folder_of(tmp_path, {f"{index}.png": picture(index) for index in range(6)})
    for index in (1, 3, 5):
        file = tmp_path / "pets" / "cat" / f"{index}.png"
        file.write_bytes(file.read_bytes()[:55])
    refused(
        tmp_path, "pets", "3 of 12 images can't be used", "cat/1.png: can't", "cat/3.png: can't", "cat/5.png: can't"
    )


def test_images_that_pillow_knows_nothing_of_are_named_at_once(tmp_path):
    folder_of(tmp_path, {f"{index}.png": picture(index) for index in range(6)})
    for name in ("a.heic", "b.HEIC", "c.jxl"):
        (tmp_path / "pets" / "dog" / name).write_bytes(b"of another kind")
    refused(
        tmp_path, "pets",
        "3 of 15 images can't be used",
        "dog/a.heic: Pillow can't open this kind of image; dog/b.HEIC: Pillow can't",
    )  # fmt: skip


def test_hidden_files_and_sidecars_are_counted_once(tmp_path):
    folder_of(tmp_path, {f"{index}.jpg": picture(index) for index in range(6)})
    cat = tmp_path / "pets" / "cat"
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.jpg", "0.json", "1.json", "0.txt", "0.xmp"):
        (cat / name).write_bytes(b"\x00\x05\x16\x07")
    loaded = load(tmp_path, "pets", test=0, validation=0.2)
    assert loaded.info.train_rows + loaded.info.validation_rows == 12
    (warning,) = loaded.warnings
    assert "8 of the files in the class folders are no images and were left out (2 .json" in warning


@pytest.mark.gallery
@pytest.mark.skipif(not REAL.is_dir(), reason="shared data are not here")
def test_real_photos_are_what_pillow_makes_of_them():
    loaded = load(REAL.parent, "cats_vs_dogs", image_size=(24, 32), limit=60)
    files = sorted((REAL / "train").glob("*/*"))
    known = set()
    for file in files:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            known.add(np.asarray(upright.resize((32, 24), Image.Resampling.BILINEAR)).tobytes())
    rows = np.rint(loaded.x_train * 255).astype(np.uint8)
    assert {row.tobytes() for row in rows} <= known


def test_lazy_images_are_those_of_memory(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    folder_of(tmp_path, {f"{index}.jpg": picture(index, *SIZE[::-1]) for index in range(30)}, exif=exif)
    kept = load(tmp_path, "pets", image_size=(5, 7))
    lazy = load(tmp_path, "pets", image_size=(5, 7), lazy=True)
    rows = np.array([3, 0, 17, 3])
    for part in (slice(None), slice(2, 9), rows):
        np.testing.assert_array_equal(lazy.x_train[part], kept.x_train[part])
    assert (lazy.x_train.shape, lazy.x_train.dtype, len(lazy.x_train)) == (kept.x_train.shape, np.float32, 48)
    np.testing.assert_array_equal(lazy.x_validation, kept.x_validation)
    np.testing.assert_array_equal(lazy.raw.x_validation, kept.raw.x_validation)
    np.testing.assert_array_equal(lazy.y_train, kept.y_train)
    assert (lazy.info, lazy.scaling.divisor, lazy.warnings) == (kept.info, kept.scaling.divisor, kept.warnings)
    before = lazy.fingerprint
    assert load(tmp_path, "pets", image_size=(5, 7), lazy=True).fingerprint == before
    picture(99).save(tmp_path / "pets" / "cat" / "3.jpg", quality=95)
    assert load(tmp_path, "pets", image_size=(5, 7), lazy=True).fingerprint != before
    # A file that breaks while the study trains is named.
    file = next(file for file in lazy.x_train.files if file.parent.name == "dog")
    file.write_bytes(b"")
    with pytest.raises(DataError, match=f"dog/{file.name}: can't be read as an image: .*; mend or remove it"):
        lazy.x_train[:]


def test_lazy_is_for_images(tmp_path):
    refused(
        tmp_path, "sklearn:digits", "lazy is for a folder of images; 'sklearn:digits' is none: remove lazy", lazy=True
    )


def test_images_that_fill_the_memory_are_refused_before_they_are_read(tmp_path):
    folder_of(tmp_path, {f"{index}.png": picture(index) for index in range(6)})
    refused(
        tmp_path, "pets",
        "12 images of 900000 x 900000 pixels need 135787 GiB",
        "; add lazy = true to read them as they are needed, or a smaller image_size",
        image_size=(900_000, 900_000),
    )  # fmt: skip
