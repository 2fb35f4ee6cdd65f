"""A finished run again: its network and the data to score it on."""

from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxr.configuration.private import refuse_elsewhere
from cxr.data.datamodule import LoaderSettings, RadiographData
from cxr.data.split import split_fingerprint
from cxr.errors import CxrError, first_line
from cxr.run.directory import Run
from cxr.training.checkpoint import LoadedNetwork, load_network
from cxr.training.devices import loader_processes
from cxr.training.prepare import Prepared, prepare


def open_finished(
    run: Run, named: Mapping[str, Any], content: dict[str, Any] | None = None
) -> tuple[LoadedNetwork, RadiographData]:
    """The network of a run's best checkpoint, and loaders of the run's images as that network wants them.

    Training alone writes where a run's configuration says. Here its folders are read; data are drawn or a cache is
    built only in a folder that the user names.

    Args:
        run: which may come from anybody.
        named: what the user says in its place: `data` with root and lists, `cache` with dir; null where it says none.
        content: of its best checkpoint, if that was read already.

    Raises:
        CxrError: the checkpoint is broken; data or cache are missing and no folder is named for them; or the
            configuration is not a run's.
    """
    loaded = load_network(run.best, content)
    config, preprocessing = run.with_places(loaded.config), loaded.network.preprocessing
    where = dict(named.get("data") or {})
    further = where.pop("test_lists", None) or {}
    places = {key: str(value) for key, value in where.items() if value is not None}
    directory = (named.get("cache") or {}).get("dir")
    try:
        data = {**config["data"], **places}
        data["test_lists"] = {**data["test_lists"], **further}
        moved = {key: data[key] for key in ("root", "file", "roles") if key in data["source"]}
        data["source"] = {**data["source"], **moved}
        cache = {**config["cache"], "size": preprocessing.cached}
        if directory or "root" in places:
            cache["dir"] = directory
        refuse_elsewhere({"data": data, "cache": cache}, str(run.path))
        root = Path(str(data["root"])).expanduser()
        if "root" not in places and not (root.is_dir() and any(root.iterdir())):
            raise CxrError(f"{run.path} has to be scored, and its data.root={root} is not there; pass data.root=DIR")
        changed = {**config, "data": data, "cache": cache}
        prepared = prepare(changed, build=bool(directory or "root" in places))
        _check_split(run, loaded, prepared, data["test_lists"].keys() - (config["data"].get("test_lists") or {}).keys())
        settings = LoaderSettings(int(config["batch_size"]), loader_processes(data["workers"], "cpu"))
        return loaded, RadiographData(prepared.catalog, prepared.cache, preprocessing, settings)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise CxrError(
            f"the data of {run.path} cannot be read as its configuration says: {first_line(error)}"
        ) from error


def _check_split(run: Run, loaded: LoadedNetwork, prepared: Prepared, new: Set[str]) -> None:
    """Refuses lists that are not the run's own; test splits that are `new` may come beside them.

    Raises:
        CxrError: another image is in one of the run's splits than when it was trained.
    """
    catalog = prepared.catalog
    own = replace(catalog, tests={name: images for name, images in catalog.tests.items() if name not in new})
    if loaded.split_fingerprint and split_fingerprint(own) != loaded.split_fingerprint:
        raise CxrError(
            f"the images or lists that are named for {run.path} give another split than the one it was trained with; "
            "give its own, and further ones as data.test_lists.NAME=FILE"
        )
