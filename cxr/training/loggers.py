"""TensorBoard and Weights & Biases beside the `metrics.csv` that every run writes."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from cxr.errors import CxrError, first_line
from cxr.metrics.curves import roc_curve
from cxr.predictions import Predictions
from cxr.private import without_places
from cxr.runs import Run
from cxr.targets import LOGGERS, build

_CURVE_POINTS = 200  # of a ROC curve in a dashboard


def check_logger(config: Mapping[str, Any]) -> None:
    """Raises CxrError if the package of the chosen logger is not installed."""
    target = str(config["logger"].get("_target_"))
    for package in ("wandb", "tensorboard"):
        if package in target.lower() and find_spec(package) is None:
            raise CxrError(f"logger={package} needs the package {package}, which is missing; pip install {package}")


def build_logger(config: Mapping[str, Any], run: Run) -> Logger | bool:
    """The logger of the configuration with its files in the run directory; false for `logger=csv`."""
    node = config["logger"]
    if node.get("_target_") is None:
        return False
    if node["_target_"].endswith("WandbLogger"):
        logger: Logger = _wandb_logger(node, run, str(config["run_id"]))
    else:
        logger = build(node, acting=LOGGERS, save_dir=str(run.path))
    logger.log_hyperparams(without_places(config)[0])
    return logger


def _wandb_logger(node: Mapping[str, Any], run: Run, run_id: str) -> Logger:
    """A run that has begun at W&B, with the id that it has whenever it goes on; offline where W&B does not answer.

    Raises:
        CxrError: W&B knows no key of this user.
    """
    import wandb

    name = run.path.name
    options = {"save_dir": str(run.path), "name": name, "id": f"{name[:48]}-{run_id}"}
    try:
        logger: WandbLogger = build(node, acting=LOGGERS, **options)
        _ = logger.experiment  # says hello to the server
    except wandb.errors.CommError as error:
        print(
            f"W&B does not answer ({first_line(error)}); the run goes on offline, and "
            f"wandb sync {run.path}/wandb/*run-* sends it later",
            flush=True,
        )
        wandb.teardown()  # its service still holds the run's id
        logger = build({**node, "offline": True}, acting=LOGGERS, **options)
    except wandb.errors.UsageError as error:
        raise CxrError(
            f"W&B refuses: {first_line(error)}; run wandb login, or pass logger.offline=true, and go on with "
            f"resume=true name={name}"
        ) from error
    return logger


def log_result(
    loggers: Sequence[Logger], run: Run, metrics: Mapping[str, Any], predictions: Mapping[str, Predictions]
) -> None:
    """Adds the final numbers: to W&B as a summary, a table of AUROC a finding, and ROC curves."""
    for logger in loggers:
        for split in predictions:
            area = metrics[split]["macro_auroc"]
            if area is not None:
                logger.log_metrics({f"best/{split}/macro_auroc": area})
        if isinstance(logger, WandbLogger):
            for step in (lambda to: _log_wandb(to, metrics, predictions), lambda to: to.experiment.finish()):
                try:
                    step(logger)
                except Exception as error:  # whatever happens to a dashboard, the run is finished
                    print(
                        f"W&B does not answer any more ({first_line(error)}); wandb sync {run.path}/wandb/*run-* sends "
                        "it later",
                        flush=True,
                    )
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.flush()
        logger.finalize("success")


def _log_wandb(logger: WandbLogger, metrics: Mapping[str, Any], predictions: Mapping[str, Predictions]) -> None:
    import wandb

    findings = predictions["test"].findings
    rows = [[name, *(metrics[split]["auroc"][name] for split in predictions)] for name in findings]
    logger.experiment.log({"auroc": wandb.Table(columns=["finding", *predictions], data=rows)})
    for split, predicted in predictions.items():
        curves = []
        for position, name in enumerate(findings):
            fpr, tpr, _ = roc_curve(predicted.target[:, position], predicted.score[:, position])
            if not (np.isnan(fpr).any() or np.isnan(tpr).any()):
                keep = np.unique(np.linspace(0, len(fpr) - 1, _CURVE_POINTS).astype(int))
                curves += [[name, float(fpr[k]), float(tpr[k])] for k in keep]
        table = wandb.Table(columns=["finding", "false positive rate", "true positive rate"], data=curves)
        chart = wandb.plot.line(
            table, "false positive rate", "true positive rate", stroke="finding", title=f"ROC, {split}"
        )
        logger.experiment.log({f"roc/{split}": chart})
