"""A finished run on another data set: its scores of that set, in a folder that is evaluated like a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from cxr.configuration.kinds import checked
from cxr.configuration.plugins import user_configuration
from cxr.configuration.schema import Data
from cxr.data.catalog import Catalog, check_images_exist, some
from cxr.data.copies import without_trained
from cxr.data.datamodule import LoaderSettings, RadiographData
from cxr.data.sources.merged import hides_common_images, ids_of, owner, reader_of, renamed
from cxr.data.split import split_fingerprint
from cxr.errors import CxrError, counted
from cxr.evaluation.scored import Scored
from cxr.findings import unified
from cxr.run.ancestry import Ancestry
from cxr.run.directory import Run
from cxr.run.predictions import Predictions
from cxr.training.catalog import read_source, split_source
from cxr.training.checkpoint import LoadedNetwork, load_network
from cxr.training.devices import device_of, loader_processes
from cxr.training.finished_run import FinishedRun
from cxr.training.predict import predict
from cxr.training.prepare import Prepared, cached
from cxr.training.reopen import open_data


class External(Scored):
    """Scores of another data set by a finished run, with the run's own validation.

    Operating points and calibration are fitted on that validation. Findings that only one of the two has are left out,
    and so are the metrics of the run's task and its attention maps.

    Args:
        source: the run whose weights are evaluated.
        options: of the program `evaluate`; `data` is the configuration of the other data set.
        name: of the other data set, for messages.
    """

    def __init__(self, source: Run, options: Mapping[str, Any], name: str) -> None:
        self.source, self.options, self.name = source, options, name
        nothing = dict.fromkeys(("root", "file", "roles", "train_list", "val_list", "test_list"))
        self._data: dict[str, str] = {}
        self._finished = FinishedRun(source, {**options, "data": {**nothing, "test_lists": {}}})

    @property
    def about(self) -> dict[str, Any]:
        """For `metrics.json`: the run, the data set with its fingerprints, and what evaluation needs of the run."""
        tree = {"hierarchy": self.source.hierarchy} if self.source.hierarchy else {}
        place = {"run": self.source.path.name, "data": self.name, "images": self.options["images"]}
        return self._data | tree | {"external": place}

    @property
    def ancestry(self) -> Ancestry:
        """The data that the weights were trained on."""
        return self._finished.ancestry

    def predictions(self) -> tuple[dict[str, Predictions], frozenset[str]]:
        """The run's validation and the images of the other data set, as `val` and `test`.

        Raises:
            CxrError: the run has no checkpoint or no validation scores, the data set cannot be read or has none of
                the run's findings, or the weights were trained on images or patients of it.
        """
        if not self.source.best.exists():
            raise CxrError(
                f"{self.source.path} has no checkpoints/best.ckpt, so it cannot score another data set; evaluate the "
                "runs that it was made from"
            )
        loaded = load_network(self.source.best)
        self._check_images(loaded.config["data"])
        catalog = in_words_of(loaded.findings, self._catalog())
        common = tuple(name for name in loaded.findings if name in catalog.findings)
        if not common:
            raise CxrError(
                f"{self.source.path} and {catalog.origin} have no finding in common: {some(loaded.findings, 20)}; "
                f"{some(catalog.findings, 20)}"
            )
        ids = ids_of(catalog.rows("test"))
        self.ancestry.check(str(self.source.path), "test", ids["patient"].tolist(), ids["image"].tolist())
        self._check_merged(loaded.config["data"], ids["patient"].tolist())
        absent = [name for name in loaded.findings if name not in catalog.findings]
        table = catalog.table.drop(columns=[name for name in catalog.findings if name not in common])
        catalog = replace(catalog, table=table.assign(**dict.fromkeys(absent, np.nan)), findings=loaded.findings)
        preprocessing = loaded.network.preprocessing
        cache = {"size": preprocessing.cached, "on_error": "fail", "processes": None, **self.options["cache"]}
        prepared = cached(catalog, {"data": self.options["data"], "cache": cache}, check=False)
        catalog = self._without_trained(prepared, loaded, str(cache["on_error"]))
        scored = replace(catalog, findings=common)
        self._data = {"split_fingerprint": split_fingerprint(scored), "labels_sha256": scored.labels_sha256}
        settings = LoaderSettings(
            int(loaded.config["batch_size"]), loader_processes(self.options["data"]["workers"], "cpu")
        )
        data = RadiographData(catalog, prepared.cache, preprocessing, settings)
        test = predict(loaded, data, "test", device_of(str(self.options["accelerator"])))
        val = self._finished.predictions(("val",))[0]["val"]
        unscored = [name for name in catalog.findings if name not in common]
        numbers = f"{counted(len(test), 'image')} of {self.name}, {counted(len(common), 'finding')}"
        print(f"{numbers} in common: {some(common, 20)}", flush=True)
        if unscored:
            print(f"not in {self.name}: {some(unscored, 20)}", flush=True)
        return {"val": only(val, common), "test": only(test, common)}, frozenset({"val", "test"})

    def _check_merged(self, trained: Mapping[str, Any], patients: Sequence[str]) -> None:
        """Refuses patients that the run was trained with under the name of a merged set with the same reader."""
        source = self.options["data"]["source"]
        for name, options in (trained.get("sets") or {}).items():
            owners = owner(name, options["source"]), owner(name, source)
            if owners[0] == owners[1] and (owners[0] != name or options["source"]["_target_"] == source["_target_"]):
                named = [f"{owners[0]}/{patient}" for patient in patients]
                self.ancestry.check(str(self.source.path), "test", named, [])

    def _check_images(self, trained: Mapping[str, Any]) -> None:
        """Refuses a data set that has the run's images under other names, which ancestry cannot tell."""
        pairs = product(*([data, *(data.get("sets") or {}).values()] for data in (trained, self.options["data"])))
        for one, other in pairs:
            if hides_common_images(one["source"], other["source"]):
                readers = [reader_of(each["source"]) for each in (one, other)]
                raise CxrError(
                    f"{self.source.path} was trained on {readers[0]}, and {readers[1]} has the same radiographs under "
                    "other names, so that it may contain training images; evaluate on another data set, or, for rsna "
                    "and siim, pass data.mapping in place of data.one_image_a_patient=true"
                )

    def _without_trained(self, prepared: Prepared, loaded: LoadedNetwork, on_error: str) -> Catalog:
        """The images to score without those that the run was trained with under other names, if its cache exists."""
        try:
            own = open_data(self.source, loaded, {})
        except CxrError as error:
            print(
                f"WARNING: whether images of {self.name} are training images under other names was not checked: "
                f"{str(error).partition(';')[0]}",
                flush=True,
            )
            return prepared.catalog
        trained = [image for split in ("train", "val") for image in own.catalog.rows(split)["image"]]
        return without_trained(prepared.catalog, prepared.cache, trained, own.cache, on_error, str(self.source.path))

    def _catalog(self) -> Catalog:
        """The images to score as the split `test`: the test split of the data set, or all of its images."""
        config = {"data": checked(Data, self.options["data"]), "cache": self.options["cache"]}
        with user_configuration():
            read = read_source(config)
        if self.options["images"] == "test":
            catalog = split_source(read, config)
            return catalog.only((catalog.table["split"] == "test").to_numpy())
        read = replace(read, table=read.table.assign(split="test"), tests={})
        return check_images_exist(read, config["data"]["on_missing"])


def in_words_of(findings: Sequence[str], catalog: Catalog) -> Catalog:
    """A catalog whose findings have the names of `findings` where both are written differently; see `unified`."""
    own = {unified(name): name for name in findings if name not in catalog.findings}
    return renamed(catalog, lambda name: name if name in findings else own.get(unified(name), name))


def only(p: Predictions, findings: Sequence[str]) -> Predictions:
    """The predictions of some findings, in their order."""
    columns = [p.findings.index(name) for name in findings]
    return replace(p, findings=tuple(findings), score=p.score[:, columns], target=p.target[:, columns])
