"""Whose attention a picture and a localisation show: the finding's own map where there is one, else the heads' mean."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import cxr.model
from cxr.errors import CxrError
from cxr.imaging.preprocessing import Preprocessing
from cxr.model.network import Network
from cxr.training.predict import attention_of
from tests.parts import add

OWN = '''
import torch
from torch import Tensor, nn


class OwnMaps(nn.Module):
    """The map of finding k is one at cell k, and nothing elsewhere."""

    attention_of = "findings"

    def __init__(self, in_features: int, findings: int) -> None:
        super().__init__()
        self.out_features, self.findings = in_features, findings

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        cells = features.shape[2] * features.shape[3]
        maps = torch.eye(self.findings, cells).unflatten(1, features.shape[2:])
        return features.mean(dim=(2, 3)), maps.expand(len(features), -1, -1, -1)
'''


class Fixed(nn.Module):
    """Four maps, the k-th of which is k everywhere."""

    def __init__(self, attention_of: str | None = None, maps: int = 4) -> None:
        super().__init__()
        self.maps, self.out_features = maps, 3
        if attention_of:
            self.attention_of = attention_of

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        maps = torch.arange(float(self.maps)).reshape(1, self.maps, 1, 1)
        return features.mean(dim=(2, 3)), maps.expand(len(features), -1, 2, 3)


class Images:
    """The image of row r is r everywhere."""

    def batch(self, positions: np.ndarray) -> dict[str, Tensor]:
        image = torch.from_numpy(positions.astype(np.uint8))[:, None, None, None].expand(-1, 1, 8, 8)
        return {"image": image, "index": torch.from_numpy(positions)}


def network(attention: nn.Module) -> Network:
    return Network(nn.Conv2d(1, 3, 3), attention, nn.Linear(3, 4), Preprocessing(8, 8, mean=0.5, std=0.5))  # type: ignore[arg-type]


def maps_of(attention: nn.Module, findings: list[int]) -> np.ndarray:
    loaded = SimpleNamespace(network=network(attention), tta="none")
    found = attention_of(
        loaded, Images(), np.arange(len(findings)), np.array(findings), torch.device("cpu")  # type: ignore[arg-type]
    )  # fmt: skip
    assert found is not None
    return found


@pytest.mark.parametrize("count", [3, 70, 130])
def test_maps_of_findings_are_their_own_and_maps_of_heads_their_mean(count: int) -> None:
    findings = np.random.default_rng(0).integers(0, 4, count).tolist()
    own, mean = maps_of(Fixed("findings"), findings), maps_of(Fixed(), findings)
    assert own.shape == mean.shape == (count, 2, 3)
    assert own[:, 1, 2].tolist() == findings and np.ptp(own, axis=(1, 2)).max() == 0
    assert (mean == 1.5).all() and (maps_of(Fixed("heads"), findings) == mean).all()


def test_maps_that_are_not_one_a_finding_and_maps_of_something_else_are_refused() -> None:
    with pytest.raises(CxrError, match="Fixed returns 3 maps for 4 findings"):
        maps_of(Fixed("findings", maps=3), [0])
    with pytest.raises(CxrError, match=r"Fixed\.attention_of is 'lungs'; it must be heads or findings"):
        network(Fixed("lungs"))


@pytest.mark.slow
def test_pictures_and_localisation_of_a_run_show_the_findings_own_maps(
    train: Callable[..., Any], here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(cxr.model, OWN, tmp_path, monkeypatch)
    drawn: list[Any] = []
    judged: list[np.ndarray] = []
    judging: list[np.ndarray] = []
    from cxr.training import localise, pictures

    real_localise, real_by_finding = localise.localise, localise.by_finding
    monkeypatch.setattr(pictures, "attention_maps", lambda cases, *_: drawn.extend(cases))
    monkeypatch.setattr(localise, "localise", lambda maps, *rest: judged.append(maps) or real_localise(maps, *rest))

    def by_finding(values: np.ndarray, columns: np.ndarray, *rest: Any) -> Any:
        judging.append(columns)
        return real_by_finding(values, columns, *rest)

    monkeypatch.setattr(localise, "by_finding", by_finding)
    done = train("attention=none", "attention._target_=cxr.model.mine.OwnMaps", "image_size=128", "name=a",
                 "trainer.max_epochs=1", "augment=none")  # fmt: skip
    assert done.code == 0, done.err
    columns = pd.read_parquet(here / "runs" / "a" / "predictions" / "test.parquet").columns
    findings = [name.removeprefix("score:") for name in columns if name.startswith("score:")]
    assert len({case.finding for case in drawn}) > 1
    assert [case.attention.argmax() for case in drawn] == [findings.index(case.finding) for case in drawn]
    assert len(set(judging[0].tolist())) > 1
    assert judged[0].reshape(len(judged[0]), -1).argmax(axis=1).tolist() == judging[0].tolist()
