"""TensorBoard and Weights & Biases beside the `metrics.csv` that every run writes."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from inspect import signature
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from cxr.configuration.private import without_places
from cxr.configuration.targets import LOGGERS, build, taken
from cxr.errors import CxrError, first_line
from cxr.metrics.curves import roc_curve
from cxr.run.directory import Run
from cxr.run.predictions import Predictions

_CURVE_POINTS = 200  # of a ROC curve in a dashboard
_TAG = 64  # characters that W&B takes of a tag


def check_loggers(config: Mapping[str, Any]) -> None:
    """Raises CxrError if a chosen logger or its package is not there, or an option file is of no named logger."""
    if "_target_" in (config["logger"] or {}):
        raise CxrError("the option file of a logger begins with the line '# @package logger.NAME', and one lacks it")
    for name, node in _chosen(config).items():
        for package in ("wandb", "tensorboard"):
            if package in str(node["_target_"]).lower() and find_spec(package) is None:
                raise CxrError(f"logger={name} needs the package {package}, which is missing; pip install {package}")
        taken(node, {})  # refuses a class that does not exist, or may not be named
        if str(node["_target_"]).endswith("WandbLogger"):
            import wandb

            known = {*signature(WandbLogger.__init__).parameters, *signature(wandb.init).parameters, "_target_"}
            strange = sorted(set(node) - known)
            if strange:
                raise CxrError(f"logger.{name}.{strange[0]} is no argument of WandbLogger or wandb.init; leave it out")


def build_loggers(config: Mapping[str, Any], run: Run) -> list[Logger]:
    """The loggers of the configuration with their files in the run directory; `metrics.csv` needs none."""
    loggers: list[Logger] = []
    for node in _chosen(config).values():
        if str(node["_target_"]).endswith("WandbLogger"):
            loggers.append(_wandb_logger(node, config, run))
        else:
            loggers.append(build(node, acting=LOGGERS, save_dir=str(run.path)))
        loggers[-1].log_hyperparams(without_places(config)[0])
    return loggers


def _chosen(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Name to node of the loggers beside `metrics.csv`."""
    return {name: node for name, node in (config["logger"] or {}).items() if node and node.get("_target_")}


def _wandb_logger(node: Mapping[str, Any], config: Mapping[str, Any], run: Run) -> Logger:
    """A run that has begun at W&B, with the id that it has whenever it goes on; offline where W&B does not answer.

    Raises:
        CxrError: W&B knows no key of this user.
    """
    import wandb

    name = run.path.name
    options = {"save_dir": str(run.path), "name": name, "id": f"{name[:48]}-{config['run_id']}"}
    choices = config.get("choices", {})
    chosen = [choices.get(group) for group in ("experiment", "data", "backbone", "attention", "loss")]
    node = {**node, "tags": [str(tag)[:_TAG] for tag in (*filter(None, chosen), *(node.get("tags") or ()))]}
    try:
        logger = _begun(node, options)
    except wandb.errors.CommError as error:
        print(
            f"W&B does not answer ({first_line(error)}); the run goes on offline, and "
            f"wandb sync {run.path}/wandb/*run-* sends it later",
            flush=True,
        )
        wandb.teardown()  # its service still holds the run's id
        logger = _begun({**node, "offline": True}, options)
    except wandb.errors.UsageError as error:
        raise CxrError(
            f"W&B refuses: {first_line(error)}; run wandb login, or pass logger=wandb logger.wandb.offline=true, and "
            f"go on with resume=true name={name}"
        ) from error
    return logger


def _begun(node: Mapping[str, Any], options: Mapping[str, Any]) -> WandbLogger:
    """Builds the logger and begins its run, which says hello to the server where there is one."""
    logger: WandbLogger = build(node, acting=LOGGERS, **options)
    logger._wandb_init.pop("anonymous", None)  # Lightning always passes it, and W&B warns of it
    if node.get("offline"):
        logger._wandb_init.pop("resume", None)  # W&B warns that it is of no effect offline
    _ = logger.experiment
    return logger


def log_result(
    loggers: Sequence[Logger], run: Run, metrics: Mapping[str, Any], predictions: Mapping[str, Predictions]
) -> None:
    """Adds the final numbers: to W&B as a summary, a table of AUROC a finding, ROC curves, and the run's figures."""
    for logger in loggers:
        for split in predictions:
            area = metrics[split]["macro_auroc"]
            if area is not None:
                logger.log_metrics({f"best/{split}/macro_auroc": area})
        if isinstance(logger, WandbLogger):
            for step in (lambda to: _log_wandb(to, run, metrics, predictions), lambda to: to.experiment.finish()):
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


def _log_wandb(
    logger: WandbLogger, run: Run, metrics: Mapping[str, Any], predictions: Mapping[str, Predictions]
) -> None:
    import wandb

    pictures = {f"figures/{path.stem}": wandb.Image(str(path)) for path in sorted(run.figures.glob("*.png"))}
    logger.experiment.log(pictures)
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
