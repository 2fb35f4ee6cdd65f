"""DICOM in the page: the gray values, scores and remarks of Python, and one sentence for what is not read."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)  # fmt: skip

from cxr.imaging.decode import read_gray
from cxr.imaging.dicom import decode_dicom
from cxr.use import load_bundle
from tests.imaging.films import encoded, film, table
from tests.use.made import FINDINGS
from tests.use.pages import film as picture
from tests.use.pages import open_file, rows

pytestmark = pytest.mark.browser
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
SIGNED = (RAMP.astype(int) - 2048).astype(np.int16)
SHOWN = """
const [base64, done] = arguments;
const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
decode(new File([bytes], "film")).then(
  ({ pixels, width, height, remarks }) => done([Array.from(pixels), height, width, remarks]),
  (error) => done([error.key ? text(error.key, { file: "film", ...error.values }) : String(error.stack)]));
"""


def shown(page: Any, content: bytes) -> list[Any]:
    return page.execute_async_script(SHOWN, base64.b64encode(content).decode())


VOI = (np.arange(4096) / 4095) ** 2 * 255
FILMS = {
    "whole range": film(RAMP),
    "eight bits": film((RAMP % 251).astype(np.uint8), 8),
    "odd": film((RAMP[:63, :63] % 251).astype(np.uint8), 8),
    "signed": film(SIGNED),
    "unused bits": film(RAMP, PixelData=(RAMP + 0x5000).tobytes()),
    "unused bits, signed": film(SIGNED, PixelData=(SIGNED.view(np.uint16) ^ 0x7000).tobytes()),
    "MONOCHROME1": film(RAMP, photometric="MONOCHROME1", WindowCenter=1500, WindowWidth=2500),
    "rescale and window": film(RAMP, RescaleSlope="-0.5", RescaleIntercept="24.25", WindowCenter=[-900, 1],
                               WindowWidth=[1500, 1]),
    "window one wide": film(RAMP, WindowCenter=2000, WindowWidth=1),
    "exact": film(RAMP, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT"),
    "sigmoid": film(RAMP, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID"),
    "modality table": film(SIGNED, ModalityLUTSequence=[table(-600, 12, np.sqrt(np.arange(1000) / 999) * 2047)]),
    "VOI table": film(RAMP, VOILUTSequence=[table(0, 8, VOI)], WindowCenter=1, WindowWidth=2),
    "padding": film(RAMP, PixelPaddingValue=2500, PixelPaddingRangeLimit=3000, WindowCenter=2000, WindowWidth=4000),
    "signed padding": film(SIGNED, PixelPaddingValue=-2048),
    "no window": film(RAMP, WindowCenter=60000, WindowWidth=10, BodyPartExamined="HAND"),
    "no width": film(RAMP % 1000, WindowCenter="12345.75", WindowWidth=0),
    "remarks": film(RAMP, ViewPosition="LL", BurnedInAnnotation="YES"),
}  # fmt: skip
FILMS["remarks"].add_new(0x60000010, "US", 64)
FILMS["remarks"].add_new(0x60003000, "OW", b"\xff" * 512)
FILMS["remarks"].add_new(0x00081140, "SQ", [Dataset(), film(RAMP)])  # pixels of a sequence are not the film's


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_gray_values_and_remarks_are_those_of_python(page: Any, syntax: Any) -> None:
    for name, dataset in FILMS.items():
        dataset.file_meta.TransferSyntaxUID = syntax
        content = encoded(dataset)
        expected, remarks = decode_dicom(content)
        pixels, *about = shown(page, content)
        assert about == [*expected.shape, list(remarks)], (name, pixels)
        difference = np.abs(np.array(pixels).reshape(expected.shape) - expected.astype(int))
        assert difference.max() <= (1 if name == "sigmoid" else 0), name


def test_files_without_preamble_and_without_transfer_syntax_are_read(page: Any) -> None:
    for implicit in (True, False):
        dataset = film(RAMP)
        del dataset.file_meta
        file = io.BytesIO()
        dataset.save_as(file, implicit_vr=implicit, little_endian=True)
        expected, _ = decode_dicom(file.getvalue())
        assert shown(page, file.getvalue())[:1] == [expected.ravel().tolist()]


def test_sequences_of_undefined_length_are_passed(page: Any) -> None:
    dataset = film(RAMP)
    item = Dataset()
    item.PatientID = "x"
    item.is_undefined_length_sequence_item = True
    dataset.add_new(0x00081140, "SQ", [item, item])
    dataset["ReferencedImageSequence"].is_undefined_length = True
    assert shown(page, encoded(dataset))[:1] == [decode_dicom(encoded(dataset))[0].ravel().tolist()]


def jpeg(pixels: np.ndarray, fragments: int = 1) -> Dataset:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    dataset = film(pixels, 8, "MONOCHROME1")
    dataset.PixelData = encapsulate([file.getvalue()], fragments_per_frame=fragments)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return dataset


def test_baseline_jpeg_is_decoded_by_the_browser(page: Any) -> None:
    for fragments in (1, 3):
        content = encoded(jpeg(picture((90, 80)), fragments))
        expected, _ = decode_dicom(content)
        pixels = np.array(shown(page, content)[0]).reshape(expected.shape)
        assert np.abs(pixels - expected.astype(int)).max() <= 257


def test_scores_are_those_of_python(page: Any, folder: Path, tmp_path: Path) -> None:
    scorer = load_bundle(folder)
    films = {"plain": film(picture((90, 70)).astype(np.uint16) * 15, WindowCenter=1800, WindowWidth=2000),
             "jpeg": jpeg(picture((90, 70)))}  # fmt: skip
    for name, dataset in films.items():
        (tmp_path / name).write_bytes(encoded(dataset))
        assert "2 findings scored" in open_file(page, tmp_path / name)
        found = scorer.score_image(read_gray(tmp_path / name))
        assert found.calibrated is not None
        for row in rows(page):
            k = FINDINGS.index(row["finding"])
            assert float(row["score"]) == pytest.approx(found.score[0, k], abs=1e-4 if name == "plain" else 1e-2)
            assert float(row["shown"]) == pytest.approx(found.calibrated[0, k], abs=1e-4 if name == "plain" else 1e-2)


def test_real_files_are_read_or_refused_by_their_transfer_syntax(
    page: Any, folder: Path, shared: Path, tmp_path: Path
) -> None:
    refused = {}
    for path in sorted((shared / "dicom").glob("*.dcm")):
        if path.stem == "RG1_UNCR":
            continue
        pixels, *about = shown(page, path.read_bytes())
        if isinstance(pixels, str):
            refused[path.stem] = pixels.partition("syntax ")[2].partition(",")[0]
            continue
        expected, remarks = decode_dicom(path.read_bytes())
        assert about == [*expected.shape, list(remarks)], path
        assert np.abs(np.array(pixels).reshape(expected.shape) - expected.astype(int)).max() <= 257, path
    assert refused == {"CR-ModalitySequenceLUT": "JPEG Lossless", "JPEG2KLossless_1s_1f_u_16_16": "JPEG 2000 Lossless",
                       "RG1_J2KI": "JPEG 2000"}  # fmt: skip
    large = shared / "dicom" / "RG1_UNCR.dcm"
    open_file(page, large)
    found = load_bundle(folder).score_image(read_gray(large))
    for row in rows(page):
        assert float(row["score"]) == pytest.approx(found.score[0, FINDINGS.index(row["finding"])], abs=1e-6)


def compressed(syntax: Any) -> bytes:
    dataset = film(RAMP)
    dataset.compress(syntax)
    return encoded(dataset)


def uncompressed(syntax: Any) -> bytes:
    dataset = film(RAMP)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = RAMP.astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    return encoded(dataset)


def without(name: str) -> bytes:
    dataset = film(RAMP)
    del dataset[name]
    return encoded(dataset)


def test_what_is_not_read_is_named(page: Any) -> None:
    cases = {
        "of the transfer syntax JPEG 2000 Lossless": compressed(JPEG2000Lossless),
        "of the transfer syntax JPEG-LS Lossless": compressed(JPEGLSLossless),
        "of the transfer syntax RLE Lossless": compressed(RLELossless),
        "of the transfer syntax Deflated Explicit VR": uncompressed(DeflatedExplicitVRLittleEndian),
        "of the transfer syntax Explicit VR Big Endian, which this page does not read; score it with python -m cxr "
        "predict, or save it as Explicit VR Little Endian.": uncompressed(ExplicitVRBigEndian),
        "a colour DICOM file (RGB)": encoded(film(RAMP, PhotometricInterpretation="RGB", SamplesPerPixel=3)),
        "a DICOM file of 7 frames": encoded(film(RAMP, NumberOfFrames=7)),
        "without pixel data": without("PixelData"), "Rows of its DICOM header is missing": without("Rows"),
        "with 16 bits allocated, 12 stored and high bit 15;": encoded(film(RAMP, HighBit=15)),
        "RescaleSlope of its DICOM header is missing or wrong": encoded(film(RAMP, RescaleSlope="inf")),
        "too large: 60000 × 60000": encoded(film(RAMP, Rows=60000, Columns=60000)),
        "LUTData of its DICOM header": encoded(film(RAMP, VOILUTSequence=[table(0, 20, np.arange(9))])),
        "damaged: its pixels cannot be decoded": encoded(film(RAMP))[:-100],
    }  # fmt: skip
    for words, content in cases.items():
        (said,) = shown(page, content)
        assert words in said and "{" not in said


def test_damaged_files_are_refused_and_never_hang(page: Any) -> None:
    rng = np.random.default_rng(0)
    whole = encoded(film(RAMP, WindowCenter=2000, WindowWidth=1000, VOILUTSequence=[table(0, 8, VOI)]))
    for number in range(60):
        content = bytearray(whole[: int(rng.integers(132, 1200))] if number % 3 == 0 else whole)
        for place in rng.integers(128, 900, 3):
            content[min(int(place), len(content) - 1)] = int(rng.integers(256))
        found = shown(page, bytes(content))
        assert len(found) == 4 or ("film" in found[0] and "Error" not in found[0]), found[0]
