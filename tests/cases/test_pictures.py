"""Pictures that people have on their disks come in as a viewer shows them, or with one clear error."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from data_partition.sources.pictures import MAX_PIXELS, read_picture
from model.errors import DataError


def _half(width: int = 64, height: int = 48) -> np.ndarray:
    """Red on the left, blue on the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    image[:, width // 2 :, 2] = 255
    return image


def _noise(side: int = 96) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".avif"])
def test_a_picture_is_turned_by_its_exif_in_every_format(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row is on the right: turn clockwise
    Image.fromarray(_half()).save(tmp_path / f"a{suffix}", exif=exif)
    image = read_picture(tmp_path / f"a{suffix}")
    assert image.shape == (64, 48, 3)
    assert image[:24, :, 0].mean() > 200 and image[40:, :, 2].mean() > 200


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    rgba = np.dstack([_half(), np.where(np.arange(64) < 32, 255, 0)[None].repeat(48, 0)]).astype(np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png")
    assert image[0, 0].tolist() == [255, 0, 0] and image[0, -1].tolist() == [255, 255, 255]


def test_sixteen_bits_become_eight_and_inks_become_light(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert read_picture(tmp_path / "deep.png")[0, 0].tolist() == [40_000 >> 8] * 3
    Image.fromarray(_half()).convert("CMYK").save(tmp_path / "ink.jpg")
    np.testing.assert_allclose(read_picture(tmp_path / "ink.jpg")[4, 4], [255, 0, 0], atol=12)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff"])
def test_colours_of_another_gamut_look_as_their_profile_says(tmp_path: Path, suffix: str) -> None:
    """A profile whose red is sRGB's green, and the other way round."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ").replace(b"....", b"gXYZ")
    Image.fromarray(_half()).save(tmp_path / f"a{suffix}", icc_profile=swapped)
    np.testing.assert_allclose(read_picture(tmp_path / f"a{suffix}")[4, 4], [0, 255, 0], atol=12)


@pytest.mark.parametrize(("suffix", "options"), [(".jpg", {}), (".jpg", {"progressive": True}), (".png", {})])
def test_what_lies_behind_the_picture_is_passed_over(tmp_path: Path, suffix: str, options: dict[str, bool]) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(_noise()).save(path, **options)
    before = read_picture(path)
    with path.open("ab") as file:
        file.write(b"ftypmp42" + bytes(5000) + b"\xff\xd8\xff\xe0 a film")
    np.testing.assert_array_equal(read_picture(path), before)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_jpeg_that_lacks_its_lower_part_is_refused_though_it_has_an_end(
    tmp_path: Path, options: dict[str, int]
) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(_noise()).save(path, quality=80, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(0.9 * len(data))] + b"\xff\xd9")
    with pytest.raises(DataError, match=r"a\.jpg: truncated picture"):
        read_picture(path)


def test_a_small_file_of_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 12_000, MAX_PIXELS // 10_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    with pytest.raises(DataError, match="at most 100 megapixels"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_mutated_pictures_give_a_picture_or_one_clear_error(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(_noise(24)).save(buffer, suffix)
    rng, path = random.Random(suffix), tmp_path / "a.jpg"
    for _ in range(60):
        data = bytearray(buffer.getvalue())
        for _ in range(rng.randint(1, 12)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.randint(1, len(data))] if rng.random() < 0.3 else data)
        try:
            image = read_picture(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
