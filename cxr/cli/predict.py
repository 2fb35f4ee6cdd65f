"""The program `predict`: scores new images."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr.cli.program import Program
from cxr.configuration.programs import Predict
from cxr.errors import CxrError, counted
from cxr.files.reading import expanded

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from cxr.run.directory import Run
    from cxr.use.scoring import Model


def job(config: "DictConfig") -> None:
    """Writes the table of scores."""
    from cxr.cli.options import plain

    chosen = plain(config, Predict)
    predict(chosen, lambda: _model(chosen))


def predict(chosen: dict[str, Any], open_model: "Callable[[], Model]") -> None:
    """Writes the table of scores.

    Args:
        chosen: see `conf/predict.yaml`.
        open_model: the model; called after the files were found.

    Raises:
        CxrError: the files or the model cannot be read, or the table cannot be written.
    """
    from cxr.data.sources.inputs import list_images
    from cxr.use.files import Inputs, score_files
    from cxr.use.parts import check_out, folder_of

    out = expanded(chosen["out"])
    check_out(out)
    maps = None if chosen["maps"] is None else expanded(chosen["maps"])
    own = [folder_of(out)] if maps is None else [folder_of(out), maps]  # of a call that was stopped
    if maps is not None and maps.is_dir() and any(maps.iterdir()) and not folder_of(out).exists():
        raise CxrError(f"maps={maps} has files, and pictures might replace them; choose a new or empty folder")
    inputs = Inputs(*list_images(chosen["images"], chosen["root"], own))
    model = open_model()
    workers = 0 if chosen["workers"] == "auto" else chosen["workers"]
    batch_size = (1 if model.digest else 8) if chosen["batch_size"] == "auto" else chosen["batch_size"]
    refused = score_files(model, inputs, out, batch_size, workers, maps)
    result = f"{refused:,} of them could not be used; their rows have status refused and a reason"
    print(f"{out}: {counted(len(inputs.paths), 'file')}, {result if refused else 'all scored'}", flush=True)


def _model(chosen: dict[str, Any]) -> "Model":
    if (chosen["run"] is None) == (chosen["bundle"] is None):
        raise CxrError("pass either run=runs/a or bundle=runs/a/bundle")
    if chosen["bundle"] is not None:
        if chosen["tta"] != "none":
            raise CxrError(
                "a bundle scores as it was exported; leave out tta, or export the run that evaluate tta=... made"
            )
        from cxr.use.bundle import load_bundle

        return load_bundle(chosen["bundle"], chosen["digest"], threads=1)
    if chosen["digest"] is not None:
        raise CxrError(f"digest={chosen['digest']} is for a bundle; leave it out with run")
    import torch

    from cxr.export.opened import open_run
    from cxr.run.directory import Run
    from cxr.training.devices import device_of

    run, tta = chosen["run"], chosen["tta"]
    run = run if tta == "none" else str(_averaging(Run(Path(run)), tta).path)
    torch.set_num_threads(1)  # of each thread that scores
    return open_run(run).model(device_of(chosen["accelerator"]))


def _averaging(run: "Run", tta: str) -> "Run":
    """The run `<run>-<tta>`, which has operating points and calibration for such scores."""
    from cxr.training.averaged import averaged

    made = averaged(run, tta)
    if "val" not in made.metrics():
        raise CxrError(
            f"{made.path} has no operating points for scores with tta={tta}; run python -m cxr evaluate run={run.path} "
            f"tta={tta} first"
        )
    return made


PROGRAM = Program(
    about="Scores new images with a run, an ensemble or a bundle, and writes a row for each file.",
    examples=(
        ("run=runs/a images=DIR out=scores.parquet", "every file below a folder"),
        ("run=runs/both images=films.csv root=DIR out=scores.csv", "an ensemble; age, sex and view from the table"),
        ("bundle=runs/a/bundle images=film.png out=film.csv", "without PyTorch"),
    ),
    options=("run", "bundle", "digest", "images", "root", "out", "maps", "batch_size", "workers", "tta", "accelerator"),
    schema=Predict,
    job=job,
)
