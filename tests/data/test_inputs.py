"""Images to be scored are found in folders, lists and tables."""

from pathlib import Path

import numpy as np
import pytest

from cxr.data.sources.inputs import list_images
from cxr.errors import CxrError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.png", "b/1.png", "a.txt", "b/.hidden", "cxr-cache/x.npy"):
        (tmp_path / "films" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "films" / name).touch()
    return tmp_path / "films"


def test_a_folder_gives_every_file_below_it_in_order(folder: Path) -> None:
    names, paths, attributes = list_images(str(folder))
    assert list(names) == ["a.txt", "b/1.png", "b/2.png"] and attributes is None
    assert list(paths) == [str(folder / name) for name in names]
    for left in ("scores.csv.parts/plan.json", "b/maps/0.png"):  # of an interrupted call
        (folder / left).parent.mkdir()
        (folder / left).touch()
    assert list_images(str(folder), None, [folder / "scores.csv.parts", folder / "b" / "maps"])[0] == names


def test_one_file(folder: Path) -> None:
    assert list_images(str(folder / "b" / "1.png")) == (["1.png"], [str(folder / "b" / "1.png")], None)


def test_a_list_is_relative_to_itself_or_searched_below_the_root(folder: Path) -> None:
    listed = folder.parent / "list.txt"
    listed.write_text("films/b/2.png\n\nabsent.png\n/x/y.png\nfilms/b/2.png\n")
    names, paths, _ = list_images(str(listed))
    assert names == ["films/b/2.png", "absent.png", "/x/y.png", "films/b/2.png"]
    assert paths == [str(folder / "b/2.png"), str(folder.parent / "absent.png"), "/x/y.png", str(folder / "b/2.png")]
    (folder / "~nobody.png").touch()
    odd = ["~nobody.png", "/" + "x" * 5000, "a\0.png"]
    listed.write_text("\n".join(["2", "absent", *odd]))
    assert list_images(str(listed), str(folder))[1] == [f"{folder}/b/2.png", "", f"{folder}/~nobody.png", "", ""]
    assert list_images(str(listed))[1][2:] == [f"{folder.parent}/~nobody.png", odd[1], f"{folder.parent}/{odd[2]}"]


def test_a_table_may_have_age_sex_and_view(folder: Path) -> None:
    table = folder.parent / "films.csv"
    table.write_text("Image Index,Patient Age,Sex,View Position,Mass\n1.png,060Y,female,PA,1\n2.png,,?,AP,0\n")
    names, paths, attributes = list_images(str(table), str(folder))
    assert names == ["1.png", "2.png"] and paths == [str(folder / "b" / name) for name in names]
    np.testing.assert_allclose(attributes, [[0.6, 0, 1, 1, 0], [np.nan, 0, 0, 0, 1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "root", "said"),
    [
        ("absent", None, "does not exist; give a folder, an image, a list"),
        ("films.csv", None, "has no column for the images, such as image"),
        ("empty.txt", None, "has no images"),
        ("films", "films", "is for the images of a list or table"),
        ("list.txt", "absent", "is not a folder"),
    ],
)
def test_what_cannot_be_listed_is_said(folder: Path, name: str, root: str | None, said: str) -> None:
    (folder.parent / "films.csv").write_text("a,b\n1,2\n")
    (folder.parent / "empty.txt").write_text("\n")
    (folder.parent / "list.txt").write_text("a.png\n")
    with pytest.raises(CxrError, match=said):
        list_images(str(folder.parent / name), root and str(folder.parent / root))


def test_a_home_folder_of_nobody_is_a_path(folder: Path) -> None:
    with pytest.raises(CxrError, match="~nobody"):
        list_images("~nobody/films")
    with pytest.raises(CxrError, match="root=~nobody is not a folder"):
        list_images(str(folder / "a.txt"), "~nobody")
