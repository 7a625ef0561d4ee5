"""One image file -> pixels: every format and mode against pixels computed by hand, and what is refused."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from stages.autoencoder.params.fitting import Fitting
from stages.autoencoder.sources.folder import decoding
from stages.autoencoder.sources.folder.decoding import RefusedImageError, decode, decode_mask, read_size

rng = np.random.default_rng(0)


def fitting(height, width, fit="crop", colour="rgb", background="white", exact=False):
    return Fitting((height, width), fit, colour, background, exact)


def saved(image, kind="PNG", **options):
    """The image as the content of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(*rows, mode="RGB"):
    """An image of these rows of pixels."""
    image = Image.new(mode, (len(rows[0]), len(rows)))
    image.putdata([pixel for row in rows for pixel in row])
    return image


def decode_own_size(content, **options):
    """The pixels (H, W, C) of an image at its own size."""
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    return decode(content, fitting(height, width, **options)).transpose(1, 2, 0)


def png(width, height, depth, colour, rows, *chunks):
    """A PNG written by hand: rows are the packed bytes of all rows, without filter bytes."""
    each = max(1, len(rows) // height)
    data = b"".join(b"\0" + rows[start : start + each] for start in range(0, len(rows), each))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    middle = b"".join(chunk(*each) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP"])
def test_pixels_of_lossless_formats_are_those_of_the_file(kind):
    expected = rng.integers(0, 256, (5, 7, 3), np.uint8)
    content = saved(Image.fromarray(expected), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(decode_own_size(content), expected)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate"])
def test_compressed_tiffs_are_read(compression):
    expected = rng.integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(decode_own_size(saved(Image.fromarray(expected), "TIFF", compression=compression)), expected)


# Of each EXIF orientation, where the file's first row and first column are seen (EXIF 2.32, tag 274)
SIDES = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


def store(upright, orientation):
    """The rows and columns that a camera stores for what is seen upright."""
    rows, columns = SIDES[orientation]
    stored = upright if rows in ("top", "bottom") else upright.swapaxes(0, 1)
    stored = stored[::-1] if rows in ("bottom", "right") else stored
    return np.ascontiguousarray(stored[:, ::-1] if columns in ("bottom", "right") else stored)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", SIDES)
def test_exif_orientation_is_applied_once(kind, orientation):
    corners = np.zeros((2, 3, 3), np.uint8)
    corners[0, 0], corners[0, 2], corners[1, 0] = (250, 10, 10), (10, 250, 10), (10, 10, 250)
    upright = corners.repeat(16, 0).repeat(16, 1)  # JPEG's blocks are 16 x 16
    exif = Image.Exif()
    exif[274] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(kind, {})
    content = saved(Image.fromarray(store(upright, orientation)), kind, exif=exif, **options)
    assert read_size(content) == (48, 32)
    decoded = decode(content, fitting(32, 48)).transpose(1, 2, 0).astype(int)
    assert abs(decoded - upright).max() <= (8 if kind == "JPEG" else 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_broken_exif_counts_as_upright(exif):
    content = saved(Image.fromarray(np.zeros((8, 16, 3), np.uint8)), "JPEG", exif=exif)
    assert decode(content, fitting(8, 16, exact=True)).shape == (3, 8, 16)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientations_count_as_upright(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    content = saved(Image.fromarray(np.zeros((8, 16, 3), np.uint8)), "PNG", exif=exif)
    assert decode(content, fitting(8, 16, exact=True)).shape == (3, 8, 16)


@pytest.mark.parametrize(("background", "shade"), [("white", 255), ("black", 0)])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_pixels_show_the_background(background, shade, kind):
    rgba = rng.integers(0, 256, (6, 6, 4), np.uint8)
    rgba[0, 0, 3], rgba[0, 1, 3] = 0, 255
    expected = [
        [[round((a * c + (255 - a) * shade) / 255) for c in rgb] for *rgb, a in row] for row in rgba.astype(int)
    ]
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    content = saved(Image.fromarray(rgba), kind, **options)
    assert decode_own_size(content, background=background).tolist() == expected


def test_transparency_is_resolved_before_the_size_changes():
    """Half of the pixels are black, half transparent, with hidden red: over white their mean is grey."""
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[:, ::2] = (255, 0, 0, 0)
    rgba[:, 1::2] = (0, 0, 0, 255)
    small = decode(saved(Image.fromarray(rgba)), fitting(8, 8)).astype(int)
    assert abs(small[:, 2:-2, 2:-2] - 127).max() <= 2


def test_grey_with_alpha_shows_the_background():
    content = saved(pixels([(100, 255), (100, 0), (100, 51)], mode="LA"))
    assert decode_own_size(content)[0].tolist() == [[100] * 3, [255] * 3, [round((51 * 100 + 204 * 255) / 255)] * 3]


def test_palettes_give_their_colours_with_and_without_transparency():
    palette = [10, 20, 30, 200, 100, 0]
    image = Image.new("P", (2, 1))
    image.putpalette(palette)
    image.putdata([0, 1])
    assert decode_own_size(saved(image))[0].tolist() == [palette[:3], palette[3:]]
    assert decode_own_size(saved(image, "GIF"))[0].tolist() == [palette[:3], palette[3:]]
    half = saved(image, transparency=bytes([255, 128]))
    blended = [round((128 * c + 127 * 255) / 255) for c in palette[3:]]
    assert decode_own_size(half)[0].tolist() == [palette[:3], blended]
    gif = saved(image, "GIF", transparency=0)
    assert decode_own_size(gif, background="black")[0].tolist() == [[0, 0, 0], palette[3:]]


def test_one_colour_declared_transparent_shows_the_background():
    rgb = png(2, 1, 8, 2, bytes([1, 2, 3, 4, 5, 6]), (b"tRNS", struct.pack(">3H", 4, 5, 6)))
    assert decode_own_size(rgb)[0].tolist() == [[1, 2, 3], [255] * 3]
    grey = png(2, 1, 16, 0, struct.pack(">2H", 257 * 7, 257 * 9), (b"tRNS", struct.pack(">H", 257 * 9)))
    assert decode_own_size(grey, background="black")[0].tolist() == [[7] * 3, [0] * 3]


@pytest.mark.parametrize(("depth", "packed", "expected"), [
    (1, [0b01000000], [0, 255]), (2, [0b00_01_10_11], [0, 85, 170, 255]), (4, [0x0F, 0x80], [0, 255, 136, 0]),
])  # fmt: skip
def test_few_bits_a_pixel_reach_from_black_to_white(depth, packed, expected):
    content = png(len(expected), 1, depth, 0, bytes(packed))
    assert decode_own_size(content, colour="grey")[0, :, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_rounded_to_eight(kind):
    values = np.array([[0, 128, 129, 385, 386, 32768, 65406, 65407, 65535]], np.uint16)
    expected = [round(value / 257) for value in values[0].tolist()]
    assert decode_own_size(saved(Image.fromarray(values), kind), colour="grey")[0, :, 0].tolist() == expected


def test_big_endian_sixteen_bits_are_rounded_too():
    header = b"MM\0*\0\0\0\x08\0\x08"
    entries = [
        (256, 3, 2),
        (257, 3, 1),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 110),
        (277, 3, 1),
        (279, 4, 4),
    ]
    tags = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in entries
    )
    content = header + tags + bytes(4) + struct.pack(">2H", 257 * 3, 257 * 250)
    assert len(header + tags) + 4 == 110
    assert decode_own_size(content, colour="grey")[0, :, 0].tolist() == [3, 250]


def test_32_bit_grey_is_read_as_far_as_16_bits_reach():
    inside = saved(Image.fromarray(np.array([[0, 257, 65535]], np.int32)), "TIFF")
    assert decode_own_size(inside, colour="grey")[0, :, 0].tolist() == [0, 1, 255]
    for beyond in (65536, -1):
        content = saved(Image.fromarray(np.array([[0, beyond]], np.int32)), "TIFF")
        with pytest.raises(RefusedImageError, match=rf"has pixels from .*{beyond}.*; 0 to 65535 are read"):
            decode(content, fitting(1, 2))


def test_float_pixels_are_refused():
    with pytest.raises(RefusedImageError, match="has float pixels"):
        decode(saved(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"), fitting(2, 2))


@pytest.mark.parametrize(("kind", "tolerance"), [("TIFF", 1), ("JPEG", 3)])
def test_cmyk_becomes_rgb(kind, tolerance):
    """Red, green and blue are what cyan, magenta and yellow leave of the light that black lets through."""
    cmyk = (40, 100, 200, 30)
    expected = [(255 - ink) * (255 - cmyk[3]) / 255 for ink in cmyk[:3]]
    content = saved(Image.new("CMYK", (16, 16), cmyk), kind)
    assert np.abs(decode_own_size(content)[8, 8] - expected).max() <= tolerance


def test_grey_is_the_luma_of_itu_r_601():
    content = saved(pixels([(255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 200, 90)]))
    expected = [
        round(0.299 * r + 0.587 * g + 0.114 * b) for r, g, b in [(255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 200, 90)]
    ]
    assert decode_own_size(content, colour="grey")[0, :, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_image_of_an_animation_or_a_document_counts(kind):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(first, kind, save_all=True, append_images=[second], **options)
    assert decode_own_size(content)[4, 4].tolist() == [255, 0, 0]


# height 2, width 4; each pixel has its own shade
WIDE = np.arange(8, dtype=np.uint8).reshape(2, 4) * 30


def fit(image, height, width, how, background="white"):
    return decode(saved(Image.fromarray(image)), fitting(height, width, how, "grey", background))[0]


def test_crop_takes_the_middle():
    assert np.array_equal(fit(WIDE, 2, 2, "crop"), WIDE[:, 1:3])
    assert np.array_equal(fit(WIDE.T, 2, 2, "crop"), WIDE.T[1:3])


def test_crop_scales_until_both_sides_are_covered():
    """30 x 90, black with a white middle third: the middle 30 x 30 fill a 10 x 10."""
    image = np.zeros((30, 90), np.uint8)
    image[:, 30:60] = 255
    cropped = fit(image, 10, 10, "crop")
    assert cropped[:, 2:8].min() == 255


@pytest.mark.parametrize(("background", "shade"), [("white", 255), ("black", 0)])
def test_pad_keeps_all_of_the_image_between_bars_of_the_background(background, shade):
    padded = fit(WIDE, 4, 4, "pad", background)
    assert np.array_equal(padded, np.pad(WIDE, ((1, 1), (0, 0)), constant_values=shade))


def test_pad_keeps_a_line_of_an_image_however_long():
    padded = fit(np.zeros((1, 3000), np.uint8), 8, 8, "pad")
    assert np.flatnonzero((padded == 0).all(axis=1)).tolist() == [3]


def test_stretch_scales_each_side_by_itself():
    image = np.zeros((20, 80), np.uint8)
    image[:, 40:] = 200
    stretched = fit(image, 40, 20, "stretch")
    assert (stretched[:, :8] == 0).all()
    assert (stretched[:, 12:] == 200).all()


def test_smaller_sizes_are_antialiased():
    """Of a fine checkerboard, picking single pixels would give black or white; its mean is grey."""
    board = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    for how in ("crop", "pad", "stretch"):
        small = fit(board.astype(np.uint8), 8, 8, how).astype(int)
        assert abs(small - 127).max() <= 8, how


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_large_photographs_decoded_at_a_fraction_look_the_same(how, orientation, monkeypatch):
    """Against the same photograph as PNG, which is decoded whole."""
    y, x = np.mgrid[0:1200, 0:1600]
    waves = 128 + 100 * np.sin(x / 90) * np.cos(y / 70)
    upright = np.stack([waves, waves.T[:1200, :1200].repeat(2, 1)[:, :1600], 255 - waves], axis=2).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    jpeg = saved(Image.fromarray(store(upright, orientation)), "JPEG", quality=95, exif=exif)
    drafts = []
    draft = decoding.JpegImagePlugin.JpegImageFile.draft
    monkeypatch.setattr(
        decoding.JpegImagePlugin.JpegImageFile, "draft", lambda *given: drafts.append(draft(*given)) or drafts[-1]
    )
    wanted = fitting(60, 100, how)
    difference = decode(jpeg, wanted).astype(int) - decode(saved(Image.fromarray(upright)), wanted)
    assert abs(difference).max() <= 6
    assert len(drafts) == 1
    (_, box), stored = drafts[0], (1600, 1200) if orientation == 1 else (1200, 1600)
    assert max(box[2] / stored[0], box[3] / stored[1]) <= 1 / 4  # decoded at a quarter or an eighth


def test_images_of_another_size_are_refused_if_all_must_have_one():
    content = saved(Image.new("RGB", (4, 3)))
    assert decode(content, fitting(3, 4, exact=True)).shape == (3, 3, 4)
    with pytest.raises(RefusedImageError, match=r"^has 4 x 3 pixels \(width x height\); it must have 3 x 4$"):
        decode(content, fitting(4, 3, exact=True))


GOOD = {
    kind: saved(Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)), kind)
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.8])
def test_truncated_images_are_refused(kind, share):
    content = GOOD[kind]
    with pytest.raises(RefusedImageError, match=r"broken|truncated|can read"):
        decode(content[: int(len(content) * share)], fitting(40, 40))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (
            b"Not an image, whatever its name says.\n" * 99,
            "is no PNG, JPEG, WEBP, TIFF, BMP or GIF that Pillow can read",
        ),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no PNG"),
        (b"P6 1 1 255 abc", "is no PNG"),  # a format of Pillow's that is not on our list
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no PNG"),  # would start Ghostscript
        (png(30_000, 30_000, 1, 0, b""), r"has 900,000,000 pixels; at most 100,000,000 are read"),
        (png(10_001, 10_000, 8, 2, b""), r"has 100,010,000 pixels"),
        (GOOD["PNG"][:60] + b"?" + GOOD["PNG"][61:], "is broken"),
    ],
)
def test_what_is_no_whole_honest_image_is_refused(content, reason):
    with pytest.raises(RefusedImageError, match=reason):
        decode(content, fitting(8, 8))


def test_files_that_are_absent_endless_or_no_files_are_refused(tmp_path):
    with pytest.raises(RefusedImageError, match="cannot be read: No such file"):
        decode(tmp_path / "absent.png", fitting(8, 8))
    with pytest.raises(RefusedImageError, match="is not a file"):
        decode(tmp_path, fitting(8, 8))
    (tmp_path / "endless.webp").write_bytes(GOOD["WEBP"])
    os.truncate(tmp_path / "endless.webp", 2**40)
    with pytest.raises(RefusedImageError, match="has 1,099,511,627,776 bytes; at most 536,870,912 are read"):
        decode(tmp_path / "endless.webp", fitting(8, 8))


def test_pillow_is_left_as_it_was_and_says_nothing(caplog):
    limit = Image.MAX_IMAGE_PIXELS
    huge = png(10_000, 9_000, 1, 0, b"")  # Pillow warns of this size; it is truncated, too
    with pytest.raises(RefusedImageError, match="truncated"):
        decode(huge, fitting(8, 8))
    assert limit == Image.MAX_IMAGE_PIXELS
    assert caplog.records == []


def test_masks_are_cut_as_their_images_are_and_stay_black_and_white():
    image, mask = np.zeros((40, 80, 3), np.uint8), np.zeros((40, 80), np.uint8)
    mask[10:20, 50:70] = 3  # any value above 0
    mask[0, 0] = 255  # outside the middle
    content, truth = saved(Image.fromarray(image)), saved(Image.fromarray(mask))
    expected = np.zeros((20, 20), np.uint8)
    expected[5:10, 15:20] = 1  # columns 20 to 60 of the image are seen, at half the size
    assert np.array_equal(decode_mask(truth, content, fitting(20, 20)), expected)
    padded = decode_mask(truth, content, fitting(40, 40, "pad"))
    assert padded[10:30].sum() == padded.sum() > 0
    for mode in ("1", "P", "RGB", "I;16"):
        bright = Image.fromarray((mask > 0) * np.uint8(255))
        other = Image.fromarray((mask > 0) * np.uint16(9)) if mode == "I;16" else bright.convert(mode)
        assert np.array_equal(decode_mask(saved(other), content, fitting(20, 20)), expected), mode


def test_a_mask_of_another_size_than_its_image_is_refused():
    image, mask = (saved(Image.new("L", size)) for size in ((8, 8), (8, 9)))
    with pytest.raises(RefusedImageError, match=r"has 8 x 9 pixels \(width x height\); its image has 8 x 8"):
        decode_mask(mask, image, fitting(4, 4))
