"""The program `cache`: builds or verifies the cache of a data set."""

from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.plugins import user_configuration
from cxr.configuration.schema import CacheAlone
from cxr.errors import CxrError, counted


def job(config: DictConfig) -> float:
    """Builds or verifies the cache; returns its number of usable images."""
    from cxr.data.cache import CacheSettings
    from cxr.data.cache.verify import verify
    from cxr.training.catalog import read_catalog
    from cxr.training.prepare import cached

    chosen = plain(config, CacheAlone)
    root, settings = chosen["data"]["root"], CacheSettings.of(chosen)
    with user_configuration():
        catalog = read_catalog(chosen)
    if not config.verify:
        made = cached(catalog, chosen, check=False)
        found, usable = made.cache, len(made.catalog)
        print(
            f"{found.folder}: {counted(len(found.names), 'image')} at {found.size} px, {usable:,} of them usable",
            flush=True,
        )
        return usable
    folder, differences = verify(catalog, root, settings)
    for image, reason in differences.items():
        print(f"{image}: {reason}")
    if differences:
        raise CxrError(
            f"{folder} differs in {counted(len(differences), 'image')}; build again without verify=true, which reuses "
            "unchanged images (if rows of the cache have changed, remove that folder first)"
        )
    print(f"{folder} matches its manifest in {counted(len(catalog), 'image')}", flush=True)
    return len(catalog)


PROGRAM = Program(
    about="Decodes the images of a data set once, for all training runs with this image size.",
    examples=(
        ("data=nih data.root=DIR cache.size=256", ""),
        ("data=nih data.root=DIR cache.size=256 verify=true", "lists changed images and builds nothing"),
    ),
    options=(
        "data.root", "image_size", "cache.size", "cache.dir", "cache.on_error", "cache.processes", "verify",
        "data.on_missing",
    ),
    schema=CacheAlone,
    job=job,
)  # fmt: skip
