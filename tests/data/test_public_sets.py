"""What other readers of the public data sets get wrong, on tables written by hand."""

import csv
import gzip
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.data.catalog import Catalog
from cxr.data.draw import draw_test
from cxr.data.sources.brax import read_brax
from cxr.data.sources.chestmnist import read_chestmnist
from cxr.data.sources.chexpert import read_chexpert
from cxr.data.sources.cxr_lt import read_cxr_lt
from cxr.data.sources.mimic_cxr import read_mimic_cxr
from cxr.data.sources.openi import read_openi
from cxr.data.sources.padchest import read_padchest
from cxr.data.sources.rsna import read_rsna
from cxr.data.sources.siim import read_siim
from cxr.data.sources.vinbigdata import read_vinbigdata
from cxr.data.sources.vindr import read_vindr
from cxr.errors import CxrError

CHEXPERT = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
]  # fmt: skip
VINDR = [
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation",
    "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst",
    "Mediastinal shift", "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis", "Rib fracture", "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis",
    "Other diseases", "No finding",
]  # fmt: skip


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def values(catalog: Catalog, column: str) -> list[Any]:
    cells = catalog.table[column].tolist()
    return [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells]


def labelled(**cells: Any) -> list[Any]:
    """A row of the fourteen columns of CheXpert, blank where not given."""
    return [cells.get(name.replace(" ", "_"), "") for name in CHEXPERT]


# ---------------------------------------------------------------- CheXpert


@pytest.fixture
def chexpert(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes `train.csv` of the rows, and a `valid.csv` with one image, into a folder of the root."""

    def writer(rows: Sequence[Sequence[Any]], folder: str = ".") -> Path:
        header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT]
        above = tmp_path / folder
        write(above / "train.csv", header, rows)
        valid = ["CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg", "Male", 73, "Frontal", "AP"]
        write(above / "valid.csv", header, [[*valid, *["0.0"] * 14]])
        return tmp_path

    return writer


def film(patient: int, study: int = 1, view: str = "view1_frontal", about: str = "Female,60,Frontal,AP") -> list[Any]:
    return [f"CheXpert-v1.0/train/patient{patient:05d}/study{study}/{view}.jpg", *about.split(",")]


def test_batches_of_the_full_release_are_searched_for_the_paths_of_its_table(chexpert: Callable[..., Path]) -> None:
    root = chexpert(
        [[*film(1), *labelled(Edema="1.0")], [*film(30000), *labelled()]], "CheXpert-v1.0 batch 1 (v & csv)"
    )
    touch(
        root / "CheXpert-v1.0 batch 1 (v & csv)",
        "../CheXpert-v1.0 batch 2 (train 1)/patient00001/study1/view1_frontal.jpg",
        "../CheXpert-v1.0 batch 3 (train 2)/patient30000/study1/view1_frontal.jpg",
        "valid/patient64541/study1/view1_frontal.jpg",
    )
    catalog = read_chexpert(str(root))
    assert [Path(path).parts[-4] for path in catalog.table["path"]] == [
        "CheXpert-v1.0 batch 2 (train 1)", "CheXpert-v1.0 batch 3 (train 2)", "valid",
    ]  # fmt: skip
    assert values(catalog, "split") == ["train", "train", "val"]


def test_two_copies_of_the_same_images_are_refused(chexpert: Callable[..., Path]) -> None:
    root = chexpert([[*film(1), *labelled()]])
    end = "train/patient00001/study1/view1_frontal.jpg"
    touch(root, f"CheXpert-v1.0/{end}", f"CheXpert-v1.0-small/{end}")
    with pytest.raises(CxrError, match=r"several files below.*give the folder of one copy"):
        read_chexpert(str(root))


def test_age_zero_is_unknown_and_odd_frontal_views_are_kept(chexpert: Callable[..., Path]) -> None:
    root = chexpert(
        [
            [*film(1, 2, about="Unknown,0,Frontal,LL"), *labelled()],
            [*film(1, 1, about="Female,90,Frontal,PA"), *labelled()],
            [*film(1, 1, "view1_lateral", "Female,90,Lateral,"), *labelled()],
        ]
    )
    catalog = read_chexpert(str(root))
    assert values(catalog, "age") == [None, 90, 73] and values(catalog, "sex") == ["", "F", "M"]
    assert values(catalog, "view") == ["", "PA", "AP"] and values(catalog, "followup") == [1, 0, 0]
    assert values(read_chexpert(str(root), views="all"), "view") == ["", "PA", "LATERAL", "AP"]


@pytest.mark.parametrize(
    ("policy", "edema", "effusion", "pneumonia"),
    [("ignore", None, None, None), ("zeros", 0, 0, 0), ("ones", 1, 1, 1), ("mixed", 1, 0, None)],
)
def test_uncertain_cells_follow_the_policy(
    chexpert: Callable[..., Path], policy: str, edema: Any, effusion: Any, pneumonia: Any
) -> None:
    cells = labelled(Edema="-1.0", Pleural_Effusion="-1.0", Pneumonia="-1.0", Atelectasis="1.0", Fracture="0.0")
    catalog = read_chexpert(str(chexpert([[*film(1), *cells]])), uncertain=policy)
    found = [values(catalog, name)[0] for name in ("Edema", "Effusion", "Pneumonia", "Atelectasis", "Fracture")]
    assert found == [edema, effusion, pneumonia, 1, 0]
    assert not [column for column in catalog.table if str(column).startswith("soft:")]


def test_smooth_draws_a_target_of_its_own_for_each_image_and_the_training_loss_alone_sees_it(
    chexpert: Callable[..., Path],
) -> None:
    rows = [[*film(patient), *labelled(Edema="-1.0", Pneumonia="-1.0", Fracture="1.0")] for patient in range(1, 201)]
    first = read_chexpert(str(chexpert(rows)), uncertain="smooth").table.set_index("image")
    again = read_chexpert(str(chexpert(rows[::-1])), uncertain="smooth").table.set_index("image")
    drawn = first["soft:Edema"].iloc[:200]
    assert drawn.between(0.55, 0.85).all() and drawn.nunique() == 200
    assert abs(drawn.mean() - 0.7) < 4 * 0.3 / math.sqrt(12 * 200)  # four standard errors of a uniform draw
    assert abs(np.corrcoef(drawn, first["soft:Pneumonia"].iloc[:200])[0, 1]) < 0.3
    assert (again["soft:Edema"].reindex(drawn.index) == drawn).all()
    assert first["Edema"].iloc[:200].isna().all() and "soft:Fracture" not in first


def test_blank_cells_are_unknown_except_beside_no_finding(chexpert: Callable[..., Path]) -> None:
    root = chexpert([[*film(1), *labelled(No_Finding="1.0")], [*film(2), *labelled(Edema="1.0")]])
    catalog = read_chexpert(str(root))
    assert values(catalog, "Fracture") == [0, None, 0] and values(catalog, "Support Devices") == [None, None, 0]
    zeros = read_chexpert(str(root), blank="zeros")
    assert values(zeros, "Fracture") == [0, 0, 0] and values(zeros, "Support Devices") == [0, 0, 0]
    assert "No Finding" not in catalog.findings


def test_a_finding_counts_where_no_finding_contradicts_it(chexpert: Callable[..., Path], capsys: Any) -> None:
    rows = [[*film(1), *labelled(No_Finding="1.0", Edema="1.0")], [*film(2), *labelled(No_Finding="1.0")]]
    catalog = read_chexpert(str(chexpert(rows)))
    assert values(catalog, "Edema") == [1, 0, 0] and values(catalog, "Fracture") == [None, 0, 0]
    assert "1 image with No Finding beside a finding" in capsys.readouterr().out


def test_unknown_policies_are_refused(chexpert: Callable[..., Path]) -> None:
    root = str(chexpert([[*film(1), *labelled()]]))
    for option, value in (("uncertain", "maybe"), ("blank", "ones"), ("views", "lateral")):
        with pytest.raises(CxrError, match=f"data.{option}={value} must be one of"):
            read_chexpert(root, **{option: value})


def test_a_path_of_another_form_names_its_row(chexpert: Callable[..., Path]) -> None:
    rows = [[*film(1), *labelled()], ["train/one.jpg", "Male", 50, "Frontal", "AP", *labelled()]]
    with pytest.raises(CxrError, match=r"'train/one.jpg' \(row 3\)"):
        read_chexpert(str(chexpert(rows)))


def test_ground_truth_of_a_study_is_that_of_each_of_its_images(chexpert: Callable[..., Path], capsys: Any) -> None:
    root = chexpert([[*film(1), *labelled()]])
    header = ["Study", *CHEXPERT[:3], "Lung Lesion", "Lung Opacity", *CHEXPERT[5:]]  # in another order than train.csv
    studies = [f"CheXpert-v1.0/test/patient6474{n}/study1" for n in (1, 2, 3)]
    cells = ["1.0" if name == "Lung Opacity" else "0.0" for name in header[1:]]
    write(root / "groundtruth.csv", header, [[study, *cells] for study in studies])
    with pytest.raises(CxrError, match=r"has no image of the 3 studies of .*groundtruth.csv"):
        read_chexpert(str(root))
    for name in ("patient64741/study1/view1_frontal", "patient64742/study1/view1_frontal",
                 "patient64742/study1/view2_frontal", "patient64742/study1/view3_lateral"):  # fmt: skip
        touch(root, f"CheXpert/test/{name}.jpg")
    catalog = read_chexpert(str(root))
    assert "1 of 3 studies of" in capsys.readouterr().out
    test = catalog.table[catalog.table["split"] == "test"]
    assert list(test["image"]) == [
        "test/patient64741/study1/view1_frontal.jpg", "test/patient64742/study1/view1_frontal.jpg",
        "test/patient64742/study1/view2_frontal.jpg",
    ]  # fmt: skip
    assert set(test["Lung Opacity"]) == {1} and set(test["Lung Lesion"]) == {0} and (test["path"] != "").all()


def test_other_labels_of_chexpert_are_those_of_training_alone(chexpert: Callable[..., Path], capsys: Any) -> None:
    root = chexpert([[*film(n), *labelled(Edema="1.0", Fracture="0.0")] for n in (1, 2, 3)])
    rows = [[*film(n, about="Male,1,Frontal,PA"), *labelled(Edema="0.0")] for n in (2, 1, 64541)]
    rows[0][0] = rows[0][0].replace("CheXpert-v1.0", "CheXpert-v1.0-small")
    write(root / "train_cheXbert.csv", ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT], rows)
    catalog = read_chexpert(str(root), labels="train_cheXbert.csv")
    assert "lacks them: 1 training image\n" in capsys.readouterr().out
    assert values(catalog, "patient") == ["patient00001", "patient00002", "patient64541"]
    assert values(catalog, "Edema") == [0, 0, 0] and values(catalog, "Fracture") == [None, None, 0]
    assert values(catalog, "age") == [60, 60, 73]
    with pytest.raises(CxrError, match=r"data.labels=none.csv is no file, nor a name below data.root="):
        read_chexpert(str(root), labels="none.csv")
    write(root / "other.csv", ["Path", *CHEXPERT], [[film(9)[0], *labelled()]])
    with pytest.raises(CxrError, match=r"other.csv does not have one row for each training image"):
        read_chexpert(str(root), labels="other.csv")


# ---------------------------------------------------------------- MIMIC-CXR, CXR-LT, BRAX

METADATA = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime")


def mimic(root: Path) -> None:
    rows = [
        ("a1", "10000032", "59", "PA", "21800506", "213014.531"),
        ("a2", "10000032", "51", "AP", "21800626", "90650.5"),  # later, though its number is smaller
        ("a3", "10000032", "52", "AP AXIAL", "21800626", "170000"),
        ("a4", "10000032", "53", "AP", "21800626", "101500.2"),
        ("b1", "10000033", "54", "", "21800626", "101500.2"),
    ]
    write(root / "mimic-cxr-2.0.0-metadata.csv", METADATA, rows)
    header = ["subject_id", "study_id", *sorted(CHEXPERT)]
    cells = ["1.0" if name == "Edema" else "" for name in sorted(CHEXPERT)]
    with gzip.open(root / "mimic-cxr-2.0.0-chexpert.csv.gz", "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, ["10000032", "59", *cells]])
    split = [("a1", "59", "10000032", "validate"), ("a2", "51", "10000032", "validate")]
    write(root / "mimic-cxr-2.0.0-split.csv", ("dicom_id", "study_id", "subject_id", "split"), split)


def test_mimic_joins_labels_by_study_and_orders_studies_by_time(tmp_path: Path) -> None:
    mimic(tmp_path)
    catalog = read_mimic_cxr(str(tmp_path))
    assert values(catalog, "image")[0] == "files/p10/p10000032/s59/a1.jpg"
    assert values(catalog, "view") == ["PA", "AP", "AP"]  # AP AXIAL and blank are left out
    assert values(catalog, "followup") == [0, 1, 2]  # 9:06, though 90650 is a smaller number of digits than 101500
    assert values(catalog, "Edema") == [1, None, None]  # a study without labels is unknown
    assert values(catalog, "split") == ["val", "val", ""]


def test_labels_of_mimic_studies_are_replaced_and_those_of_test_are_a_further_split(tmp_path: Path) -> None:
    mimic(tmp_path)
    split = [("a1", "59", "10000032", "test"), ("a2", "51", "10000032", "test"), ("a4", "53", "10000032", "train")]
    write(tmp_path / "mimic-cxr-2.0.0-split.csv", ("dicom_id", "study_id", "subject_id", "split"), split)
    names = [name.replace("Lung Opacity", "Airspace Opacity") for name in CHEXPERT]
    cells = ["-1.0" if name == "Edema" else "1.0" if name == "Airspace Opacity" else "" for name in names]
    path = tmp_path / "mimic-cxr-2.1.0-test-set-labeled.csv"
    write(path, ("study_id", *names), [["51", *cells]])
    catalog = read_mimic_cxr(str(tmp_path), uncertain="zeros", labels=path.name)
    assert values(catalog, "Edema") == [1, 0, None] and values(catalog, "Lung Opacity") == [None, 1, None]
    assert dict(catalog.tests) == {"relabelled": ("files/p10/p10000032/s51/a2.jpg",)}
    assert not read_mimic_cxr(str(tmp_path)).tests
    negbio = tmp_path / "mimic-cxr-2.0.0-negbio.csv"
    write(
        negbio, ("subject_id", "study_id", *CHEXPERT), [["1", study, *labelled(Edema="0.0")] for study in ("51", "53")]
    )
    catalog = read_mimic_cxr(str(tmp_path), labels=str(negbio))
    assert values(catalog, "Edema") == [1, 0, 0] and not catalog.tests
    write(negbio, ("study_id", *CHEXPERT), [["7", *labelled()]])
    with pytest.raises(CxrError, match=r"negbio.csv has no study of .*metadata.csv"):
        read_mimic_cxr(str(tmp_path), labels=str(negbio))
    write(negbio, ("study_id", *CHEXPERT), [["7", *labelled()]] * 2)
    with pytest.raises(CxrError, match=r"negbio.csv has the study 7 twice"):
        read_mimic_cxr(str(tmp_path), labels=str(negbio))


def test_mimic_takes_age_and_sex_from_the_table_of_patients(tmp_path: Path) -> None:
    mimic(tmp_path)
    assert values(read_mimic_cxr(str(tmp_path)), "age") == [None] * 3
    header = ("subject_id", "gender", "anchor_age", "anchor_year")
    write(tmp_path / "patients.csv", header, [("10000032", "F", 52, 2178)])
    catalog = read_mimic_cxr(str(tmp_path))
    assert values(catalog, "age") == [54] * 3 and values(catalog, "sex") == ["F"] * 3


def test_cxr_lt_reads_labels_by_name_and_drops_normal(tmp_path: Path) -> None:
    about = ["dicom_id", "subject_id", "study_id", "ViewPosition", "ViewCodeSequence_CodeMeaning", "fpath"]
    for name, labels, row in (
        ("train_labeled", ["Normal", "Pleural Effusion", "Mass"], [0, 1, 0]),
        ("development_labeled_task1", ["Mass", "Normal", "Pleural Effusion"], [1, 0, 0]),
        ("test_labeled_task1", ["Mass", "Normal", "Pleural Effusion"], [0, 1, 0]),
    ):
        image = [name, name[:5], f"s5{len(name)}", "AP", "", f"files/p10/p1/s1/{name}.jpg"]
        write(tmp_path / "cxr-lt-2024" / f"{name}.csv", [*about, *labels], [[*image, *row]])
    catalog = read_cxr_lt(str(tmp_path))
    assert catalog.findings == ("Effusion", "Mass") and values(catalog, "split") == ["train", "val", "test"]
    assert values(catalog, "Effusion") == [1, 0, 0] and values(catalog, "Mass") == [0, 1, 0]
    with pytest.raises(CxrError, match=r"cxr-lt-2023/train.csv"):
        read_cxr_lt(str(tmp_path), edition=2023)
    with pytest.raises(CxrError, match=r"data.edition=2022 must be one of 2024, 2023"):
        read_cxr_lt(str(tmp_path), edition=2022)


def test_brax_reads_open_age_groups_and_both_names_of_its_table(tmp_path: Path) -> None:
    header = ["", "DicomPath", "PngPath", "PatientID", "PatientSex", "PatientAge", "AccessionNumber", "StudyDate",
              *CHEXPERT, "ViewPosition"]  # fmt: skip
    rows = [
        [
            n,
            "x",
            f"images/id_{n}/Study_1/Series_1/image-1.png",
            f"id_{n}",
            "O",
            age,
            "1",
            "",
            *labelled(Edema="-1"),
            view,
        ]
        for n, (age, view) in enumerate([("85 or more", "PA"), ("40", "RL"), ("", "AP")])
    ]
    write(tmp_path / "master_spreadsheet.csv", header, rows)
    touch(tmp_path, "images/id_0/Study_1/Series_1/image-1.png", "Anonymized_DICOMs/id_0/Study_1/Series_1/image-1.dcm",
          "images/id_2/Study_1/Series_1/image-1.png")  # fmt: skip
    catalog = read_brax(str(tmp_path), uncertain="ones")
    assert values(catalog, "age") == [85, None] and values(catalog, "patient") == ["id_0", "id_2"]
    assert [path[-3:] for path in catalog.table["path"]] == ["png", "png"] and values(catalog, "Edema") == [1, 1]


# ---------------------------------------------------------------- PadChest


PADCHEST = ("", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
            "Projection", "Labels")  # fmt: skip


def padchest(root: Path, labels: Sequence[str], birth: str = "1950.0", projection: str = "PA") -> Catalog:
    rows = [
        (n, f"{n}.png", 0, f"20{10 + n % 9}0301", n, 10**36 + n, birth, "None", projection, text)
        for n, text in enumerate(labels)
    ]
    write(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", PADCHEST, rows)
    return read_padchest(str(root))


def test_padchest_matches_whole_names(tmp_path: Path) -> None:
    names = ["['nodule', 'kyphosis']", "['pseudonodule']", "['breast mass']", "[' mass', '']",
             "['pericardial effusion']", "['hydropneumothorax']", "['subcutaneous emphysema']"]  # fmt: skip
    catalog = padchest(tmp_path, names)
    assert values(catalog, "Nodule") == [1, 0, 0, 0, 0, 0, 0] and values(catalog, "Mass") == [0, 0, 0, 1, 0, 0, 0]
    assert values(catalog, "Effusion") == values(catalog, "Pneumothorax") == [0, 0, 0, 0, 0, 1, 0]
    assert values(catalog, "Emphysema") == [0] * 7


def test_padchest_knows_what_says_nothing(tmp_path: Path) -> None:
    catalog = padchest(tmp_path, ["", "['unchanged']", "['unchanged', 'mass']", "[]", "['normal']", "['exclude']"])
    assert values(catalog, "Mass") == [None, None, 1, 0, 0]  # the last is left out
    with pytest.raises(CxrError, match=r"row 2, column 'Labels': 'mass' is no list"):
        padchest(tmp_path, ["mass"])


def test_padchest_counts_age_to_the_year_of_the_study_and_keeps_long_patients(tmp_path: Path) -> None:
    catalog = padchest(tmp_path, ["['mass']"] * 3)
    assert values(catalog, "age") == [60, 61, 62] and values(catalog, "patient")[1] == str(10**36 + 1)
    assert values(padchest(tmp_path, ["['mass']"], birth=""), "age") == [None]
    assert values(padchest(tmp_path, ["['mass']"], projection="AP_horizontal"), "view") == ["AP"]
    with pytest.raises(CxrError, match=r"pass data.views=all"):
        padchest(tmp_path, ["['mass']"], projection="L")


# ---------------------------------------------------------------- readers


def vindr(root: Path) -> None:
    def row(image: str, reader: str, *seen: str) -> list[Any]:
        return [image, *([reader] if reader else []), *[int(name in seen) for name in VINDR]]

    train = [
        row("a", "R1", "Edema", "Nodule/Mass"), row("b", "R1"), row("a", "R9", "Edema"), row("a", "R10", "ILD"),
        row("b", "R2"), row("b", "R3", "Rib fracture"),
    ]  # fmt: skip
    write(root / "annotations" / "image_labels_train.csv", ["image_id", "rad_id", *VINDR], train)
    other = ["Other disease" if name == "Other diseases" else name for name in VINDR]
    write(root / "annotations" / "image_labels_test.csv", ["image_id", *other], [row("c", "", "Other diseases")])


@pytest.mark.parametrize(
    ("readers", "edema", "mass", "rib"), [("majority", 1, 0, 0), ("any", 1, 1, 1), ("mean", 1, 0, 0)]
)
def test_vindr_joins_the_readers_of_an_image(tmp_path: Path, readers: str, edema: int, mass: int, rib: int) -> None:
    vindr(tmp_path)
    catalog = read_vindr(str(tmp_path), readers)
    assert values(catalog, "image") == ["train/a.dicom", "train/b.dicom", "test/c.dicom"]
    assert values(catalog, "Edema") == [edema, 0, 0] and values(catalog, "Nodule or Mass") == [mass, 0, 0]
    assert values(catalog, "Rib Fracture") == [0, rib, 0] and values(catalog, "Other diseases") == [0, 0, 1]
    assert "No finding" not in catalog.findings and len(catalog.findings) == 27
    if readers == "mean":
        assert [None if x is None else round(x, 3) for x in values(catalog, "soft:Edema")] == [0.667, 0, None]
        assert round(values(catalog, "soft:Rib Fracture")[1], 3) == 0.333


def test_converted_images_stand_in_for_dicom_files(tmp_path: Path) -> None:
    vindr(tmp_path)
    touch(tmp_path, "train/a.dicom", "png/a.png", "png/b.png")
    catalog = read_vindr(str(tmp_path))
    assert [Path(path).name for path in catalog.table["path"]] == ["a.dicom", "b.png", ""]


def test_vinbigdata_counts_readers_and_not_boxes(tmp_path: Path) -> None:
    box = (10, 10, 20, 20)
    rows = [
        ("a", "Cardiomegaly", 3, "R1", *box), ("a", "Cardiomegaly", 3, "R1", *box),
        ("a", "No finding", 14, "R2", *[""] * 4), ("a", "Nodule/Mass", 8, "R3", *box),
        ("b", "Infiltration", 6, "R1", *box), ("b", "Infiltration", 6, "R2", *box),
        ("b", "No finding", 14, "R3", *[""] * 4),
    ]  # fmt: skip
    header = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")
    write(tmp_path / "train.csv", header, rows)
    catalog = read_vinbigdata(str(tmp_path))
    assert values(catalog, "Cardiomegaly") == [0, 0] and values(catalog, "Infiltration") == [0, 1]
    assert values(read_vinbigdata(str(tmp_path), "any"), "Cardiomegaly") == [1, 0]
    assert "Pneumonia" not in catalog.findings and len(catalog.findings) == 14
    with pytest.raises(CxrError, match=r"data.readers=most must be one of majority, any, mean"):
        read_vinbigdata(str(tmp_path), "most")


# ---------------------------------------------------------------- images of NIH


def nih(root: Path, names: dict[str, str], key: str) -> Path:
    path = root / "mapping.json"
    path.write_text(json.dumps([{key: image, "img_id": name} for image, name in names.items()]))
    return path


def rsna(root: Path) -> None:
    rows = [
        ("i1", 10.0, 20.0, 30.0, 40.0, 1),
        ("i1", 50, 60, 70, 80, 1),
        ("i2", "", "", "", "", 0),
        ("i3", "", "", "", "", 0),
    ]
    write(root / "stage_2_train_labels.csv", ("patientId", "x", "y", "width", "height", "Target"), rows)


def test_rsna_needs_the_patients_of_its_images(tmp_path: Path) -> None:
    rsna(tmp_path)
    with pytest.raises(CxrError, match=r"data.mapping=FILE, or pass data.one_image_a_patient=true"):
        read_rsna(str(tmp_path))
    names = {"i1": "00000013_005.png", "i2": "00000013_004.png", "i3": "00030805_000.png"}
    mapping = nih(tmp_path, names, "subset_img_id")
    catalog = read_rsna(str(tmp_path), str(mapping))
    assert values(catalog, "patient") == ["13", "13", "30805"] and values(catalog, "Lung Opacity") == [1, 0, 0]
    assert len(catalog.boxes) == 2 and set(catalog.boxes["image"]) == {"i1.dcm"}
    assert values(read_rsna(str(tmp_path), one_image_a_patient=True), "patient") == ["i1", "i2", "i3"]
    with pytest.raises(CxrError, match=r"lacks 1 of 3 images: i3"):
        read_rsna(str(tmp_path), str(nih(tmp_path, {"i1": names["i1"], "i2": names["i2"]}, "subset_img_id")))
    with pytest.raises(CxrError, match=r"is not a list of objects with subset_img_id"):
        read_rsna(str(tmp_path), str(nih(tmp_path, names, "image")))
    with pytest.raises(CxrError, match=r"none.json does not exist"):
        read_rsna(str(tmp_path), "none.json")


def test_siim_strips_its_headings_and_cells(tmp_path: Path) -> None:
    rows = [("1.2.3", " -1"), ("1.2.4", "-1"), ("1.2.5", " 557374 2 1015 8"), ("1.2.5", "1 2")]
    write(tmp_path / "train-rle.csv", ("ImageId", " EncodedPixels"), rows)
    touch(tmp_path, "dicom-images-train/9/8/1.2.3.dcm")
    catalog = read_siim(str(tmp_path), one_image_a_patient=True)
    assert values(catalog, "Pneumothorax") == [0, 0, 1]
    assert catalog.table["path"][0].endswith("9/8/1.2.3.dcm")
    assert values(draw_test(catalog, 0.34, 0), "split").count("test") == 1


# ---------------------------------------------------------------- OpenI and ChestMNIST


def test_openi_reads_both_editions(tmp_path: Path) -> None:
    reports = {
        "1": "Cardiomegaly/mild;Thickening/pleura/apex",
        "2": "no indexing",
        "3": "Pericardial Effusion",
        "4": "normal",
    }
    shown = [
        (n, f"{n}_IM-0001-{view}001.dcm.png", side) for n in reports for view, side in ((3, "Frontal"), (4, "Lateral"))
    ]
    write(tmp_path / "indiana_projections.csv", ("uid", "filename", "projection"), shown)
    write(tmp_path / "indiana_reports.csv", ("uid", "MeSH"), list(reports.items()))
    kaggle = read_openi(str(tmp_path))
    folder = tmp_path / "ecgen-radiology"
    folder.mkdir()
    for n, text in reports.items():
        terms = "".join(f"<major>{term}</major>" for term in text.split(";"))
        images = "".join(f'<parentImage id="CXR{n}_{n}_IM-0001-{view}001"/>' for view in (3, 4))
        (folder / f"{n}.xml").write_text(f'<eCitation><uId id="CXR{n}"/><MeSH>{terms}</MeSH>{images}</eCitation>')
    xml = read_openi(str(tmp_path))
    assert values(xml, "image")[0] == "CXR1_1_IM-0001-3001.png" and len(xml) == 4
    for catalog in (kaggle, xml):
        assert values(catalog, "Cardiomegaly") == values(catalog, "Pleural_Thickening") == [1, None, 0, 0]
        assert values(catalog, "Effusion") == [0, None, 0, 0]
        assert values(catalog, "patient") == ["CXR1", "CXR2", "CXR3", "CXR4"]
    (tmp_path / "indiana_projections.csv").unlink()
    with pytest.raises(CxrError, match=r"does not say which views are frontal"):
        read_openi(str(tmp_path))
    assert len(read_openi(str(tmp_path), views="all")) == 8
    (folder / "5.xml").write_text("<eCitation>")
    with pytest.raises(CxrError, match=r"5.xml cannot be read as XML"):
        read_openi(str(tmp_path), views="all")


def test_chestmnist_is_unpacked_once_and_never_unpickled(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
    labels = np.eye(14, dtype=np.int64)[[12, 0, 13, 4]]
    arrays = {}
    for split in ("train", "val", "test"):
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(tmp_path / "chestmnist.npz", **arrays)
    catalog = read_chestmnist(str(tmp_path))
    assert values(catalog, "Pleural_Thickening") == [1, 0, 0, 0] * 3 and values(catalog, "Hernia") == [0, 0, 1, 0] * 3
    from PIL import Image

    with Image.open(catalog.table["path"][5]) as picture:
        assert np.array_equal(np.asarray(picture), images[1])
    before = Path(catalog.table["path"][5]).stat().st_mtime_ns
    assert Path(read_chestmnist(str(tmp_path)).table["path"][5]).stat().st_mtime_ns == before
    (tmp_path / "evil").mkdir()
    objects = np.array([{}], object)
    np.savez(tmp_path / "evil" / "chestmnist_64.npz", **arrays | {"train_labels": objects})
    with pytest.raises(CxrError, match=r"chestmnist_64.npz cannot be read"):
        read_chestmnist(str(tmp_path / "evil"))
    (tmp_path / "evil" / "chestmnist_64.npz").write_bytes(b"none")
    with pytest.raises(CxrError, match=r"chestmnist_64.npz cannot be read"):
        read_chestmnist(str(tmp_path / "evil"))
