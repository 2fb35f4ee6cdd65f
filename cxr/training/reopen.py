"""Opening a finished run: its network and the data to score it on."""

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
    """The network of a run's best checkpoint, and loaders of the run's images with its preprocessing.

    The folders of the run's configuration, which is untrusted, are only read. Phantoms are drawn and caches built only
    in a folder that the user names.

    Args:
        run: may be untrusted.
        named: the user's values instead of those of the run: `data` with root and lists, `cache` with dir; null keeps
            the run's.

    Raises:
        CxrError: the checkpoint is broken; data or cache are missing and no folder is named for them; or the
            configuration is not that of a run.
    """
    loaded = load_network(run.best, content)
    return loaded, open_data(run, loaded, named)


def open_data(run: Run, loaded: LoadedNetwork, named: Mapping[str, Any]) -> RadiographData:
    """Loaders of the images of a run whose network is loaded; see `open_finished`."""
    places, directory = _places(named)
    try:
        config = here(run, loaded, named)
        data, trained = config["data"], loaded.config["data"].get("test_lists") or {}
        sets = {f"data.sets.{name}.root": options["root"] for name, options in (data.get("sets") or {}).items()}
        roots = sets or ({} if "root" in places else {"data.root": data["root"]})
        for key, root in roots.items():
            folder = Path(str(root)).expanduser()
            if not (folder.is_dir() and any(folder.iterdir())):
                remedy = "restore the folder" if sets else "pass data.root=DIR"
                raise CxrError(f"{run.path} cannot be scored: its {key}={folder} does not exist; {remedy}")
        prepared = prepare(config, build=bool(directory or "root" in places))
        _check_split(run, loaded, prepared, data["test_lists"].keys() - trained.keys())
        settings = LoaderSettings(int(config["batch_size"]), loader_processes(data["workers"], "cpu"))
        return RadiographData(prepared.catalog, prepared.cache, loaded.network.preprocessing, settings)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise CxrError(f"the data of {run.path} cannot be read with its configuration: {first_line(error)}") from error


def here(run: Run, loaded: LoadedNetwork, named: Mapping[str, Any]) -> dict[str, Any]:
    """The run's configuration with the user's folders and lists, see `open_finished`.

    Raises:
        CxrError: a path of the run is hidden, and no other is named.
    """
    places, directory = _places(named)
    config = run.with_places(loaded.config)
    data = {**config["data"], **places}
    data["test_lists"] = {**data["test_lists"], **((named.get("data") or {}).get("test_lists") or {})}
    moved = {key: data[key] for key in ("root", "file", "roles") if key in data["source"]}
    data["source"] = {**data["source"], **moved}
    cache = {**config["cache"], "size": loaded.network.preprocessing.cached}
    if directory or "root" in places:
        cache["dir"] = directory
    refuse_elsewhere({"data": data, "cache": cache}, str(run.path))
    return {**config, "data": data, "cache": cache}


def _places(named: Mapping[str, Any]) -> tuple[dict[str, str], Any]:
    """The user's values of `data`, without further test lists, and of `cache.dir`."""
    where = {key: value for key, value in (named.get("data") or {}).items() if key != "test_lists"}
    places = {key: str(value) for key, value in where.items() if value is not None}
    return places, (named.get("cache") or {}).get("dir")


def _check_split(run: Run, loaded: LoadedNetwork, prepared: Prepared, new: Set[str]) -> None:
    """Raises CxrError if the run's splits have other images than in training; test splits in `new` are not compared."""
    catalog = prepared.catalog
    trained = replace(catalog, tests={name: images for name, images in catalog.tests.items() if name not in new})
    if loaded.split_fingerprint and split_fingerprint(trained) != loaded.split_fingerprint:
        raise CxrError(
            f"the images or lists given for {run.path} result in another split than the one it was trained with; pass "
            "the same ones, and further test lists as data.test_lists.NAME=FILE"
        )
