"""TensorBoard and Weights & Biases, in addition to the `metrics.csv` that every run writes."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from inspect import signature
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from cxr.configuration.private import without_places
from cxr.configuration.targets import LOGGERS, accepted_arguments, build
from cxr.errors import CxrError, first_line
from cxr.metrics.curves import roc_curve
from cxr.run.directory import Run
from cxr.run.predictions import Predictions

_CURVE_POINTS = 200  # points of a ROC curve at W&B
_TAG = 64  # longest tag that W&B accepts, in characters


def check_loggers(config: Mapping[str, Any]) -> None:
    """Raises CxrError if a chosen logger or its package is missing, has unknown options, or its file has no package."""
    if "_target_" in (config["logger"] or {}):
        raise CxrError("the option file of a logger must begin with the line '# @package logger.NAME'")
    for name, node in _chosen(config).items():
        for package in ("wandb", "tensorboard"):
            if package in str(node["_target_"]).lower() and find_spec(package) is None:
                raise CxrError(f"logger={name} needs the package {package}, which is missing; pip install {package}")
        accepted_arguments(node, {})  # raises for a class that does not exist or is not allowed
        if str(node["_target_"]).endswith("WandbLogger"):
            import wandb

            known = {*signature(WandbLogger.__init__).parameters, *signature(wandb.init).parameters, "_target_"}
            unknown = sorted(set(node) - known)
            if unknown:
                raise CxrError(f"logger.{name}.{unknown[0]} is not an argument of WandbLogger or wandb.init; remove it")


def build_loggers(config: Mapping[str, Any], run: Run) -> list[Logger]:
    """The loggers of the configuration, which write into the run directory; `metrics.csv` needs none."""
    loggers: list[Logger] = []
    for node in _chosen(config).values():
        if str(node["_target_"]).endswith("WandbLogger"):
            loggers.append(_wandb_logger(node, config, run))
        else:
            loggers.append(build(node, allow=LOGGERS, save_dir=str(run.path)))
        loggers[-1].log_hyperparams(without_places(config)[0])
    return loggers


def _chosen(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The loggers in addition to `metrics.csv`, by name."""
    return {name: node for name, node in (config["logger"] or {}).items() if node and node.get("_target_")}


def _wandb_logger(node: Mapping[str, Any], config: Mapping[str, Any], run: Run) -> Logger:
    """A logger whose W&B run has started, with an id that stays the same on resuming; offline if W&B is unreachable.

    Raises:
        CxrError: the user is not logged in to W&B.
    """
    import wandb

    name = run.path.name
    options = {"save_dir": str(run.path), "name": name, "id": f"{name[:48]}-{config['run_id']}"}
    choices = config.get("choices", {})
    chosen = [choices.get(group) for group in ("experiment", "data", "backbone", "attention", "loss")]
    node = {**node, "tags": [str(tag)[:_TAG] for tag in (*filter(None, chosen), *(node.get("tags") or ()))]}
    try:
        logger = _started(node, options)
    except wandb.errors.CommError as error:
        print(
            f"W&B does not answer ({first_line(error)}); the run continues offline, and "
            f"wandb sync {run.path}/wandb/*run-* uploads it later",
            flush=True,
        )
        wandb.teardown()  # its service still uses the run's id
        logger = _started({**node, "offline": True}, options)
    except wandb.errors.UsageError as error:
        raise CxrError(
            f"W&B refuses: {first_line(error)}; run wandb login, or pass logger=wandb logger.wandb.offline=true, and "
            f"resume with resume=true name={name}"
        ) from error
    return logger


def _started(node: Mapping[str, Any], options: Mapping[str, Any]) -> WandbLogger:
    """Builds the logger and starts its W&B run, which connects to the server unless it is offline."""
    logger: WandbLogger = build(node, allow=LOGGERS, **options)
    logger._wandb_init.pop("anonymous", None)  # Lightning always passes it, and W&B warns
    if node.get("offline"):
        logger._wandb_init.pop("resume", None)  # has no effect offline, and W&B warns
    _ = logger.experiment
    return logger


def log_result(
    loggers: Sequence[Logger], run: Run, metrics: Mapping[str, Any], predictions: Mapping[str, Predictions]
) -> None:
    """Logs the final macro AUROC, and to W&B the AUROC of each finding, ROC curves and the run's figures."""
    for logger in loggers:
        for split in predictions:
            area = metrics[split]["macro_auroc"]
            if area is not None:
                logger.log_metrics({f"best/{split}/macro_auroc": area})
        if isinstance(logger, WandbLogger):
            for upload in (lambda to: _log_wandb(to, run, metrics, predictions), lambda to: to.experiment.finish()):
                try:
                    upload(logger)
                except Exception as error:  # the run is finished, whether or not W&B works
                    print(
                        f"W&B no longer answers ({first_line(error)}); wandb sync {run.path}/wandb/*run-* uploads it "
                        "later",
                        flush=True,
                    )
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.flush()
        logger.finalize("success")


def _log_wandb(
    logger: WandbLogger, run: Run, metrics: Mapping[str, Any], predictions: Mapping[str, Predictions]
) -> None:
    import wandb

    figures = {f"figures/{path.stem}": wandb.Image(str(path)) for path in sorted(run.figures.glob("*.png"))}
    logger.experiment.log(figures)
    findings = predictions["val"].findings
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
