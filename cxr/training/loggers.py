"""TensorBoard and Weights & Biases beside the `metrics.csv` that every run writes."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from cxr.errors import CxrError
from cxr.metrics.curves import roc_curve
from cxr.predictions import Predictions
from cxr.runs import Run
from cxr.targets import build

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
        name = run.path.name
        logger: Logger = build(node, save_dir=str(run.path), name=name, id=f"{name[:48]}-{config['run_id']}")
    else:
        logger = build(node, save_dir=str(run.path))
    logger.log_hyperparams(dict(config))
    return logger


def log_result(loggers: Sequence[Logger], metrics: Mapping[str, Any], predictions: Mapping[str, Predictions]) -> None:
    """Adds the final numbers: to W&B as a summary, a table of AUROC a finding, and ROC curves."""
    for logger in loggers:
        for split in predictions:
            area = metrics[split]["macro_auroc"]
            if area is not None:
                logger.log_metrics({f"best/{split}/macro_auroc": area})
        if isinstance(logger, WandbLogger):
            _log_wandb(logger, metrics, predictions)
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
    logger.experiment.finish()
