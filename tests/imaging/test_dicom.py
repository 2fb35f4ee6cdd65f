"""DICOM radiographs: pixel by pixel against a chain written here with loops, in every transfer syntax."""

import io
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)  # fmt: skip

from cxr.errors import CxrError
from cxr.imaging.decode import decode, gray, resize
from cxr.imaging.dicom import decode_dicom
from cxr.imaging.dicom_header import read_header
from cxr.imaging.limits import BadImage
from tests.imaging.films import encoded, film, table

RNG = np.random.default_rng(3)
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # every 12-bit value once
SIGNED = (RAMP.astype(int) - 2048).astype(np.int16)


def shown(dataset: Dataset) -> np.ndarray:
    return decode_dicom(encoded(dataset))[0]


def mapped(pixels: np.ndarray, brightness: Callable[[float], float], inverted: bool = False) -> np.ndarray:
    """What `brightness` (in [0, 1]) makes of each stored value, with a loop, as 16 bits."""
    values = {int(v): min(max(brightness(float(v)), 0.0), 1.0) for v in np.unique(pixels)}
    return np.vectorize(lambda v: round(65535 * (1 - values[int(v)] if inverted else values[int(v)])))(pixels)


def linear(center: float, width: float) -> Callable[[float], float]:
    """PS3.3, equation C.11-2."""

    def window(x: float) -> float:
        if x <= center - 0.5 - (width - 1) / 2:
            return 0
        return 1 if x > center - 0.5 + (width - 1) / 2 else (x - (center - 0.5)) / (width - 1) + 0.5

    return window


LUT = np.sqrt(np.arange(1000) / 999) * 4095
VOI = (np.arange(4096) / 4095) ** 2 * 255
CHAINS: dict[str, tuple[np.ndarray, dict[str, Any], Callable[[float], float]]] = {
    "whole range": (RAMP, {}, lambda v: v / 4095),
    "signed": (SIGNED, {}, lambda v: (v + 2048) / 4095),
    "rescale": (RAMP, {"RescaleSlope": 2.5, "RescaleIntercept": -100}, lambda v: v / 4095),
    "window": (RAMP, {"WindowCenter": 2000, "WindowWidth": 1000}, linear(2000, 1000)),
    "first of several windows": (RAMP, {"WindowCenter": [900, 3000], "WindowWidth": [700, 50]}, linear(900, 700)),
    "window of rescaled values": (
        RAMP, {"RescaleSlope": 0.5, "RescaleIntercept": -1024, "WindowCenter": -300.5, "WindowWidth": 800},
        lambda v: linear(-300.5, 800)(v / 2 - 1024),
    ),
    "window one wide": (RAMP, {"WindowCenter": 2000, "WindowWidth": 1}, lambda v: float(v > 1999.5)),
    "exact": (
        RAMP, {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"},
        lambda v: (v - 2000) / 1000 + 0.5,
    ),
    "sigmoid": (
        RAMP, {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"},
        lambda v: 1 / (1 + math.exp(-4 * (v - 2000) / 1000)),
    ),
    "modality table": (
        RAMP, {"ModalityLUTSequence": [table(500, 12, LUT)]},
        lambda v: int(LUT[int(min(max(v - 500, 0), 999))]) / 4095,
    ),
    "modality table of signed values": (
        SIGNED, {"ModalityLUTSequence": [table(-600, 12, LUT)]},
        lambda v: int(LUT[int(min(max(v + 600, 0), 999))]) / 4095,
    ),
    "VOI table before a window": (
        RAMP, {"VOILUTSequence": [table(0, 8, VOI)], "WindowCenter": 1, "WindowWidth": 2},
        lambda v: int(VOI[int(v)]) / 255,
    ),
    "modality table, then window": (
        RAMP, {"ModalityLUTSequence": [table(0, 12, LUT)], "WindowCenter": 2000, "WindowWidth": 3000},
        lambda v: linear(2000, 3000)(int(LUT[int(min(v, 999))])),
    ),
}  # fmt: skip


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("chain", CHAINS)
def test_every_stored_value_is_shown_as_the_standard_says(chain: str, inverted: bool) -> None:
    pixels, elements, brightness = CHAINS[chain]
    dataset = film(pixels, photometric=f"MONOCHROME{1 if inverted else 2}", **elements)
    expected = mapped(pixels, brightness, inverted)
    assert np.abs(shown(dataset).astype(int) - expected).max() <= 1
    assert decode_dicom(encoded(dataset))[1] == ()


def test_presentation_shape_does_not_invert_a_second_time() -> None:
    plain, doubled = film(RAMP, 12, "MONOCHROME1"), film(RAMP, 12, "MONOCHROME1", PresentationLUTShape="INVERSE")
    np.testing.assert_array_equal(shown(doubled), shown(plain))
    assert shown(plain)[0, 0] == 65535 and shown(plain)[-1, -1] == 0


def test_the_range_is_that_of_the_header_not_of_the_image() -> None:
    half = shown(film(RAMP // 2))
    assert abs(int(half.max()) - 65535 * 2047 // 4095) <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("limit", [None, 3000])
def test_padding_is_black(photometric: str, limit: int | None) -> None:
    elements = {"PixelPaddingValue": 2500} | ({"PixelPaddingRangeLimit": limit} if limit else {})
    read, without = shown(film(RAMP, 12, photometric, **elements)), shown(film(RAMP, 12, photometric))
    padded = (RAMP >= 2500) & ((limit or 2500) >= RAMP)
    assert (read[padded] == 0).all()
    np.testing.assert_array_equal(read[~padded], without[~padded])


@pytest.mark.parametrize("elements", [
    {"WindowCenter": 60000, "WindowWidth": 10}, {"WindowCenter": 2000, "WindowWidth": 0},
    {"VOILUTSequence": [table(0, 8, np.full(16, 77))]},
])  # fmt: skip
def test_a_window_that_shows_nothing_is_replaced_by_percentiles_and_said(elements: dict[str, Any]) -> None:
    pixels, remarks = decode_dicom(encoded(film(RAMP, **elements)))
    low, high = np.percentile(RAMP, [1, 99])
    expected = np.clip((RAMP - low) / (high - low), 0, 1) * 65535
    assert np.abs(pixels - expected).max() <= 1
    assert len(remarks) == 1 and "shows nothing, percentiles 1 and 99 are used" in remarks[0]


def test_a_window_that_shows_only_padding_is_replaced() -> None:
    pixels = RAMP % 1000 + 3000
    pixels[:, :20] = 0
    read, remarks = decode_dicom(encoded(film(pixels, WindowCenter=500, WindowWidth=400, PixelPaddingValue=0)))
    assert len(remarks) == 1 and (read[:, :20] == 0).all() and read[:, 20:].std() > 10_000


def test_remarks_name_a_lateral_view_another_body_part_burnt_in_text_and_overlays() -> None:
    dataset = film(RAMP, ViewPosition="LL", BodyPartExamined="HAND", BurnedInAnnotation="YES")
    plain = shown(dataset)
    dataset.add_new(0x60000010, "US", 64)
    dataset.add_new(0x60003000, "OW", b"\xff" * 512)
    read, remarks = decode_dicom(encoded(dataset))
    assert set(remarks) == {"lateral view (LL)", "body part HAND", "burnt-in annotations", "overlays are not drawn"}
    np.testing.assert_array_equal(read, plain)
    assert decode(encoded(dataset), 32).remark.count(";") == 3


# Transfer syntaxes

LOSSLESS = {"J2K": JPEG2000Lossless, "JPEG-LS": JPEGLSLossless, "RLE": RLELossless}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes_show_the_same_pixels(syntax: UID) -> None:
    dataset = film(RAMP)
    dataset.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(shown(dataset), mapped(RAMP, lambda v: v / 4095))


def test_big_endian_shows_the_same_pixels() -> None:
    dataset = film(RAMP, ModalityLUTSequence=[table(0, 12, np.arange(4096)[::-1])])
    dataset.PixelData = RAMP.astype(">u2").tobytes()
    dataset.ModalityLUTSequence[0].LUTData = np.arange(4096)[::-1].astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    np.testing.assert_array_equal(shown(dataset), mapped(RAMP, lambda v: v / 4095, inverted=True))


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_syntaxes_show_the_same_pixels(name: str, bits: int) -> None:
    pixels = RNG.integers(0, 2**bits, (40, 50)).astype(np.uint8 if bits == 8 else np.uint16)
    dataset = film(pixels, bits)
    plain = shown(dataset)
    dataset.compress(LOSSLESS[name])
    np.testing.assert_array_equal(shown(dataset), plain)


@pytest.mark.parametrize("syntax", [JPEG2000, JPEGLSNearLossless])
def test_lossy_syntaxes_show_nearly_the_same_pixels(syntax: UID) -> None:
    dataset = film(RAMP)
    plain = shown(dataset)
    dataset.compress(syntax, **({"j2k_cr": [4]} if syntax == JPEG2000 else {"jls_error": 2}))
    assert np.abs(shown(dataset).astype(int) - plain).max() < 300


def test_jpeg_baseline_is_what_pillow_reads() -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray((RAMP // 16).astype(np.uint8)).save(file, "JPEG", quality=95)
    dataset = film((RAMP // 16).astype(np.uint8), 8)
    dataset.PixelData = encapsulate([file.getvalue()])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    with Image.open(file) as image:
        np.testing.assert_array_equal(shown(dataset), np.asarray(image).astype(int) * 257)


CODED = Path(__file__).parent / "coded"
STORED = {  # what the files there have, by their bits
    8: (RAMP // 16).astype(np.uint8), 12: RAMP,
    16: np.random.default_rng(3).integers(0, 65536, (24, 40)).astype(np.uint16),
}  # fmt: skip


def compressed(name: str, syntax: UID, bits: int = 12, change: Callable[[bytes], bytes] = bytes) -> Dataset:
    dataset = film(STORED[bits], bits)
    dataset.PixelData = encapsulate([change((CODED / name).read_bytes())])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


@pytest.mark.parametrize(
    ("name", "syntaxes"),
    [
        ("extended_12.jpg", [JPEGExtended12Bit]),
        ("lossless_8_predictor_6.jpg", [JPEGLossless]),
        ("lossless_12_predictor_1.jpg", [JPEGLossless, JPEGLosslessSV1]),
        ("lossless_12_predictor_4.jpg", [JPEGLossless]),
        ("lossless_16_predictor_1.jpg", [JPEGLossless, JPEGLosslessSV1]),
        ("lossless_16_predictor_7.jpg", [JPEGLossless]),
        ("htj2k_8.jph", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K]),
        ("htj2k_12.jph", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K]),
        ("htj2k_16.jph", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K]),
    ],
)
def test_images_of_other_encoders_show_the_pixels_that_were_coded(name: str, syntaxes: list[UID]) -> None:
    bits = int(name.partition("_")[2].partition("_")[0].partition(".")[0])
    plain = shown(film(STORED[bits], bits))
    for syntax in syntaxes:
        np.testing.assert_array_equal(shown(compressed(name, syntax, bits)), plain)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.9", "1.2.840.10008.9.9.9"])
def test_other_transfer_syntaxes_are_refused_by_name(syntax: str) -> None:
    coded = encoded(film(RAMP)).replace(b"1.2.840.10008.1.2.1\0", syntax.encode() + b"\0", 1)
    with pytest.raises(BadImage, match=f"DICOM of the transfer syntax {syntax}, which is not read"):
        decode_dicom(coded)


def test_lossy_htj2k_shows_nearly_the_same_pixels() -> None:
    read = shown(compressed("htj2k_lossy_12.jph", HTJ2K)).astype(int)
    assert np.abs(read - shown(film(RAMP))).max() < 51 * 16


@pytest.mark.parametrize("name", ["extended_12.jpg", "lossless_12_predictor_4.jpg"])
def test_damaged_headers_of_jpeg_are_refused_before_the_decoder_sees_them(name: str) -> None:
    content = (CODED / name).read_bytes()
    tables, frame = content.index(b"\xff\xc4"), max(content.find(b"\xff\xc1"), content.find(b"\xff\xc3"))
    syntax = JPEGExtended12Bit if name.startswith("extended") else JPEGLossless
    for place, value in ((frame + 4, 79), (frame + 9, 3), (tables, 79), (tables + 1, 0xD4), (11, 96)):
        with pytest.raises(BadImage, match="the header of its compressed image is not that of a gray JPEG"):
            shown(compressed(name, syntax, change=lambda c: c[:place] + bytes([value]) + c[place + 1 :]))  # noqa: B023


def test_files_without_preamble_and_without_transfer_syntax_are_read() -> None:
    for implicit, little in ((True, True), (False, True), (False, False)):
        dataset = film(RAMP)
        del dataset.file_meta
        dataset.PixelData = RAMP.astype("<u2" if little else ">u2").tobytes()
        file = io.BytesIO()
        dataset.save_as(file, implicit_vr=implicit, little_endian=little)
        np.testing.assert_array_equal(gray(file.getvalue()), mapped(RAMP, lambda v: v / 4095))


# The real files


def own_chain(dataset: Dataset, center: float, width: float) -> np.ndarray:
    """A window as the standard defines it, in floating point over all pixels, inverted for MONOCHROME1, 0 to 1."""
    values = np.clip((dataset.pixel_array.astype(float) - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    return 1 - values if dataset.PhotometricInterpretation == "MONOCHROME1" else values


@pytest.mark.parametrize("name", ["RG1_UNCR", "RG1_J2KI"])
def test_real_radiographs_are_shown_as_a_chain_of_floats_shows_them(name: str, shared: Path) -> None:
    path = shared / "dicom" / f"{name}.dcm"
    expected = own_chain(pydicom.dcmread(path), 15000, 30000)
    read = gray(path.read_bytes())
    assert np.abs(read / 65535 - expected).max() < 1e-5
    height, width = (length // 8 * 8 for length in read.shape)
    blocks = expected[:height, :width].reshape(height // 8, 8, width // 8, 8).mean(axis=(1, 3))
    small = resize(read[:height, :width][:1840, :1840], 230)
    assert np.abs(small - 255 * blocks[:230, :230]).max() <= 0.51  # one rounding


def test_real_files_of_every_kind_are_decoded(shared: Path) -> None:
    said = {path.stem: decode_dicom(path.read_bytes()) for path in (shared / "dicom").glob("*.dcm")}
    assert len(said) == 9
    assert "percentiles" in said["JPEG2KLossless_1s_1f_u_16_16"][1][0]
    twin = said["siim_monochrome1_twin"][0].astype(int)
    np.testing.assert_array_equal(said["siim_jpeg_baseline"][0] + twin, np.full(twin.shape, 65535))
    raw = pydicom.dcmread(shared / "dicom" / "vlut_04.dcm").pixel_array
    np.testing.assert_array_equal(said["vlut_04"][0], raw.astype(int) * 257)
    dataset = pydicom.dcmread(shared / "dicom" / "CR-ModalitySequenceLUT.dcm")
    entries = np.frombuffer(dataset.ModalityLUTSequence[0].LUTData, "<u2")  # to 1023, though it claims 16 bits
    assert np.abs(said["CR-ModalitySequenceLUT"][0] / 65535 - (1 - entries[dataset.pixel_array] / 1023)).max() < 1e-5
    assert said["CR-MONO1-10-chest"][0].shape == (440, 440)


# Headers and refusals


def test_a_header_says_who_and_how() -> None:
    header = read_header(io.BytesIO(encoded(film(RAMP, PatientAge="018M", ViewPosition="LL"))))
    assert (header.patient, header.age, header.sex, header.view, header.study) == ("P1", "018M", "F", "LL", "20200131")
    assert header.remarks == ("lateral view (LL)",)


def without(name: str) -> Dataset:
    dataset = film(RAMP)
    del dataset[name]
    return dataset


REFUSED = {
    "colour": (film(RAMP, PhotometricInterpretation="RGB", SamplesPerPixel=3), r"colour DICOM \(RGB\)"),
    "palette": (film(RAMP, PhotometricInterpretation="PALETTE COLOR"), "colour DICOM"),
    "frames": (film(RAMP, NumberOfFrames=7), "7 frames"),
    "no pixels": (without("PixelData"), r"without pixel data \(CR\)"),
    "32 bits": (film(RAMP, BitsAllocated=32, BitsStored=32, HighBit=31), "of 32 bits in 32"),
    "high bit": (film(RAMP, HighBit=15), "12 bits in 16, the highest 15"),
    "no rows": (without("Rows"), "Rows is missing"),
    "too large": (film(RAMP, Rows=60000, Columns=60000), "too large: 60000x60000"),
    "infinite": (film(RAMP, RescaleSlope="inf", RescaleIntercept=0), "RescaleSlope is inf"),
    "table without data": (film(RAMP, ModalityLUTSequence=[Dataset()]), "a lookup table without its description"),
    "short table": (film(RAMP, VOILUTSequence=[table(0, 20, np.arange(9))]), "a lookup table of 9 entries of 20 bits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_radiograph_is_refused_by_name(case: str) -> None:
    dataset, message = REFUSED[case]
    with pytest.raises(BadImage, match=message):
        gray(encoded(dataset))


@pytest.mark.parametrize("length", [132, 140])
def test_a_file_that_is_cut_short_is_not_called_one_without_pixels(length: int) -> None:
    with pytest.raises(BadImage, match="it is cut short"):
        gray(encoded(film(RAMP))[:length])


def test_an_error_does_not_repeat_the_file() -> None:
    content = bytearray(encoded(film(RAMP)))
    content[138:140] = b"\xff\x00"  # length of the first number
    with pytest.raises(BadImage, match=r"^damaged DICOM: Expected total bytes .* Instead received \.\.\.$"):
        gray(bytes(content))


def test_a_blank_film_is_refused() -> None:
    with pytest.raises(BadImage, match="blank"):
        decode(encoded(film(np.full((64, 64), 2000, np.uint16), WindowCenter=60000, WindowWidth=9)), 32)


def test_without_the_extra_one_sentence_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pydicom'] = None\n"
        "from cxr.imaging.decode import gray\nfrom cxr.errors import CxrError\n"
        "try: gray(bytes(128) + b'DICM')\nexcept CxrError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "DICOM files need the extra `dicom`; pip install 'cxr[dicom]', or make setup EXTRAS=dicom\n"


def test_a_missing_decoder_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = film(RAMP)
    dataset.compress(JPEGLSLossless)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(CxrError, match=r"JPEG-LS Lossless.* need a decoder of the extra `dicom`"):
        gray(encoded(dataset))
