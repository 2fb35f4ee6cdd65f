"""Spoilt DICOM files: pixels of the size that the header names, or one sentence."""

import struct

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from cxr.imaging.decode import decode, gray
from cxr.imaging.limits import BadImage
from tests.imaging.films import encoded, film, table
from tests.trust.spoiling import bytes_of, fuzz

PIXELS = np.random.default_rng(0).integers(0, 4096, (40, 50)).astype(np.uint16)


def compressed(syntax: str, **elements: object) -> Dataset:
    dataset = film(PIXELS, **elements)
    dataset.compress(syntax)
    return dataset


FULL = film(
    PIXELS, 12, "MONOCHROME1", RescaleSlope=2, RescaleIntercept=-100, WindowCenter=2000, WindowWidth=3000,
    PixelPaddingValue=0, ModalityLUTSequence=[table(0, 12, np.arange(64))], VOILUTSequence=[table(0, 8, np.arange(64))],
)  # fmt: skip
GOOD = {
    "tables": encoded(FULL),
    "RLE": encoded(compressed(RLELossless)),
    "JPEG 2000": encoded(compressed(JPEG2000Lossless, WindowCenter=2000, WindowWidth=3000)),
    "JPEG-LS": encoded(compressed(JPEGLSLossless)),
}


@pytest.mark.parametrize("examples", [25, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", GOOD)
def test_a_spoilt_dicom_file_is_decoded_or_refused_in_a_sentence(kind: str, examples: int) -> None:
    def check(content: bytes) -> None:
        try:
            decoded = decode(content, 8)
        except BadImage as error:
            assert str(error) and "\n" not in str(error)
            return
        assert decoded.pixels.shape == (8, 8) and decoded.remark.isprintable()

    check(GOOD[kind])
    fuzz(bytes_of(GOOD[kind]), check, examples)


def nested(depth: int) -> Dataset:
    inner = Dataset()
    for _ in range(depth):
        outer = Dataset()
        outer.ReferencedImageSequence = [inner]
        inner = outer
    dataset = film(PIXELS)
    dataset.ReferencedImageSequence = [inner]
    return dataset


def with_frame(syntax: str, change: object) -> bytes:
    """A compressed film whose frame is changed."""
    from pydicom.encaps import generate_frames

    dataset = compressed(syntax)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([change(frame)])  # type: ignore[operator]
    return encoded(dataset)


def deflated(megabytes: int) -> bytes:
    dataset = film(PIXELS)
    dataset.add_new(0x00111001, "OB", bytes(megabytes << 20))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return encoded(dataset)


def wide(frame: bytes) -> bytes:
    """A JPEG 2000 image that claims 60000 x 60000 pixels."""
    at = frame.index(b"\xff\x51") + 6
    return frame[:at] + struct.pack(">2I", 60000, 60000) + frame[at + 8 :]


PLAIN = encoded(film(PIXELS))
LENGTH = PLAIN.index(b"\xe0\x7f\x10\x00") + 8  # of the pixel data


HOSTILE = {
    "empty": b"",
    "preamble alone": bytes(128) + b"DICM",
    "group alone": b"\x08\x00",
    "text": b"\x08\x00" + b"hello" * 100,
    "cut in the header": PLAIN[:300],
    "cut in the pixels": PLAIN[:-500],
    "undefined length": PLAIN[:LENGTH] + b"\xff\xff\xff\xff" + PLAIN[LENGTH + 4 :],
    "length of two bytes": PLAIN[:LENGTH] + b"\x02\0\0\0" + PLAIN[LENGTH + 4 :],
    "unknown syntax": PLAIN.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"),
    "video": PLAIN.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.100\0"),
    "J2K of another size": with_frame(JPEG2000Lossless, wide),
    "J2K cut": with_frame(JPEG2000Lossless, lambda frame: frame[:60]),
    "J2K in place of JPEG-LS": with_frame(JPEGLSLossless, lambda _: b"\xff\x4f\xff\x51"),
    "JPEG-LS cut": with_frame(JPEGLSLossless, lambda frame: frame[: len(frame) // 2]),
    "JPEG-LS of another size": with_frame(
        JPEGLSLossless, lambda frame: frame.replace(struct.pack(">2H", 40, 50), struct.pack(">2H", 65000, 65000), 1)
    ),
    "JPEG-LS without a header": with_frame(JPEGLSLossless, lambda frame: b"\xff\xd8" + frame[30:]),
    "RLE of another length": with_frame(RLELossless, lambda frame: frame[:70] + b"\x81\x00" * 30000),
    "RLE bomb": with_frame(RLELossless, lambda frame: frame[:64] + b"\x81\x00" * 100_000),
    "frame of two bytes": with_frame(RLELossless, lambda _: b"\0\0"),
    "slope is text": encoded(film(PIXELS)).replace(b"CHEST", b"CH\0ST")[:400],
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_dicom_file_is_refused_in_a_sentence(case: str) -> None:
    with pytest.raises(BadImage) as raised:
        gray(HOSTILE[case])
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400


def test_a_length_of_four_gigabytes_is_that_of_the_file() -> None:
    np.testing.assert_array_equal(gray(PLAIN[:LENGTH] + b"\xfe\xff\xff\xff" + PLAIN[LENGTH + 4 :]), gray(PLAIN))


def test_deep_sequences_are_read_or_refused() -> None:
    try:
        np.testing.assert_array_equal(gray(encoded(nested(100))), gray(PLAIN))
    except BadImage as error:
        assert "damaged DICOM" in str(error)


def test_a_deflated_bomb_is_refused_before_it_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    content = deflated(3)
    np.testing.assert_array_equal(gray(content), gray(PLAIN))
    with pytest.raises(BadImage, match="too large: it inflates to more than"):
        gray(deflated(8))  # more than a hundred times its length
    monkeypatch.setattr("cxr.imaging.dicom_header.MOST_PIXELS", 1000)
    monkeypatch.setattr("cxr.imaging.dicom_header._SPARE", 1 << 20)
    with pytest.raises(BadImage, match="too large: it inflates to more than"):
        gray(content)
