"""Copies of a cache on a disk of this host: made once, and only of images that match their checksums."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.data.cache import Cache, CacheSettings, open_or_build
from cxr.data.cache.local import local_copy
from cxr.data.catalog import Catalog
from cxr.errors import CxrError
from tests.conftest import picture


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for position, path in enumerate(paths):
        Image.fromarray(picture(position, 16)).save(path)
    table = pd.DataFrame({"image": [path.name for path in paths], "path": list(map(str, paths))})
    return open_or_build(Catalog(table, (), "t.csv"), tmp_path, CacheSettings(16, str(tmp_path / "shared")))[0]


def test_the_copy_has_the_same_images_and_is_made_once(
    cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = [local_copy(cache, str(tmp_path / "local")) for _ in range(2)]
    assert copies[0] == copies[1] and copies[0].folder.parent == tmp_path / "local"
    np.testing.assert_array_equal(copies[0].open(), [picture(position, 16) for position in range(3)])
    assert capsys.readouterr().out.count("copying") == 1
    assert [path.name for path in (tmp_path / "local").iterdir()] == [cache.folder.name]


def test_a_damaged_cache_is_not_copied(cache: Cache, tmp_path: Path) -> None:
    content = bytearray(cache.array_path.read_bytes())
    content[-1] ^= 1
    cache.array_path.chmod(0o644)
    cache.array_path.write_bytes(content)
    with pytest.raises(CxrError, match=r"2\.png in .* does not match its checksum"):
        local_copy(cache, str(tmp_path / "local"))
    assert list((tmp_path / "local").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CxrError, match="cannot write"):
        local_copy(cache, str(tmp_path / "file"))
