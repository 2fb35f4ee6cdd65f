"""The model card of a bundle: Markdown with the metadata of Hugging Face's hub, written from the run.

Sections follow Mitchell et al., "Model Cards for Model Reporting", FAccT 2019. What only the author knows is marked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]

from cxr.errors import counted
from cxr.evaluation.tables import tables
from cxr.export.opened import Opened
from cxr.export.verify import differences
from cxr.figures.tables import escaped
from cxr.metrics.plain import interval_of
from cxr.run.ancestry import unknown_note, unknown_of

_AVERAGED = {
    "flip": " Scores are means over each image and its mirror image.",
    "crops": " Scores are means over five crops of {} px of each image: the middle and the corners.",
}
FILL = "**The author must fill this in:**"
_METRICS = {"macro_auroc": "roc_auc", "macro_average_precision": "average_precision", "macro_brier": "brier_score"}


def model_card(opened: Opened, about: Mapping[str, Any], verified: Mapping[str, Any]) -> str:
    """The text of `MODEL_CARD.md`.

    Args:
        opened: the run.
        about: content of `bundle.json`.
        verified: content of `verify.json`.
    """
    metrics = opened.run.metrics()
    split = "test" if metrics.get("test") else "val"
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(_metadata(opened, metrics, split), sort_keys=False, allow_unicode=True)}---",
            f"# {escaped(opened.system.name)}",
            "",
            *_use(opened),
            *_data(opened, metrics),
            *_training(opened, metrics),
            *_results(opened, metrics, split),
            *_limits(opened, about, verified),
        ]
    )


def _metadata(opened: Opened, metrics: Mapping[str, Any], split: str) -> dict[str, Any]:
    values = {key: interval_of(metrics.get(split, {}).get(key))[0] for key in _METRICS}
    results = [
        {"type": _METRICS[key], "name": key, "value": round(value, 4)}
        for key, value in values.items()
        if value == value
    ]
    return {
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["chest-x-ray", "radiology", "multi-label-image-classification"],
        "license": "other",
        "license_name": "the author must fill this in",
        "model-index": [
            {
                "name": opened.system.name,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"type": "other", "name": "the author must fill this in", "split": split},
                        "metrics": results,
                    }
                ],
            }
        ],
    }


def _use(opened: Opened) -> list[str]:
    names = ", ".join(escaped(name) for name in opened.system.findings)
    return [
        f"Scores a frontal chest radiograph for {counted(len(opened.system.findings), 'finding')}: {names}.",
        "",
        "## Intended use",
        "",
        "Research on the classification of chest radiographs, with images like those that it was trained on.",
        "",
        f"{FILL} who may use it, on which patients and for which question.",
        "",
        "## Not intended for",
        "",
        "- Diagnosis, triage, or any other decision about a patient. It is not a medical device.",
        "- Lateral radiographs, other parts of the body, children or photographs of a screen, if the training data had "
        "none.",
        "- Images of a hospital, scanner or time on which it was not evaluated.",
        "",
    ]


def _data(opened: Opened, metrics: Mapping[str, Any]) -> list[str]:
    counts = {name: metrics.get(name, {}).get("n") for name in ("train", "val", "test")}
    known = [f"{counted(count, 'image')} for {name}" for name, count in counts.items() if isinstance(count, int)]
    config = opened.loaded[0].config["data"]
    lines = ["## Data", "", f"Read with `{config['source']['_target_']}`. {'; '.join(known)}."]
    lines.append(f"Split: {escaped(metrics['split'])}." if metrics.get("split") else "The test split was not scored.")
    lines.append(f"Fingerprint of the split `{metrics.get('split_fingerprint')}`, of the labels "
                 f"`{metrics.get('labels_sha256')}`.")  # fmt: skip
    lines += unknown_note({opened.system.name: unknown_of(metrics)})
    return [
        *lines,
        "",
        f"{FILL} name, origin, years, equipment and population of the data, how the labels were made and by whom, and "
        "under which licence and approval the data were used.",
        "",
    ]


def _training(opened: Opened, metrics: Mapping[str, Any]) -> list[str]:
    lines = ["## Training and selection", ""]
    for member, loaded in zip(opened.system.members, opened.loaded, strict=True):
        config, monitor = loaded.config, loaded.task.monitor
        backbone = config["backbone"].get("name") or config["backbone"]["_target_"]
        parts = [config[part]["_target_"].rpartition(".")[2] for part in ("attention", "head", "loss")]
        better = "largest" if monitor.mode == "max" else "smallest"
        lines.append(
            f"- {escaped(member.name)}: {escaped(backbone)}, {', '.join(parts)}, {member.preprocessing.size} px, seed "
            f"{config['seed']}, epoch {loaded.epoch + 1} of {config['trainer']['max_epochs']}: the {better} "
            f"{monitor.name}. Weights `{loaded.sha256}`." + _AVERAGED.get(loaded.tta, "").format(loaded.size)
        )
    if len(opened.members) > 1:
        lines += ["", f"They are combined by the method {escaped(metrics.get('method', ''))}, fitted on validation."]
    return [*lines, ""]


def _results(opened: Opened, metrics: dict[str, Any], split: str) -> list[str]:
    lines = ["## Results", ""]
    if split == "val":
        lines += ["The test split was not scored. Checkpoint and operating points were chosen on these images.", ""]
    elif "intervals" not in metrics["test"]:
        lines += ["`python -m cxr evaluate` adds confidence intervals and subgroups to the run before an export.", ""]
    if metrics.get(split):
        for table in tables(metrics, opened.system.findings, opened.system.name, (), split).values():
            lines += [table.as_markdown()]
    return lines


def _limits(opened: Opened, about: Mapping[str, Any], verified: Mapping[str, Any]) -> list[str]:
    scaling = opened.system.scaling
    calibrated = "There are no calibrated scores."
    if scaling is not None:
        method = scaling.method.replace("platt", "Platt")
        calibrated = f"Calibrated scores are by {method} scaling, fitted on the validation split."
        if scaling.identity:
            calibrated += f" They equal the scores for: {', '.join(map(escaped, scaling.identity))}."
    absent, joins = _without_threshold(opened), any(member.attributes for member in opened.system.members)
    return [
        "## Limits",
        "",
        f"- {calibrated} A calibration holds for the prevalence of the data that it was fitted on.",
        "- Thresholds were chosen on validation images of the same data; elsewhere sensitivity and specificity differ.",
        f"- {_unusual(about['detectors'])}",
        "- Aspect ratio is not kept, and 16-bit images are reduced to 8 bits.",
        *[f"- Too few validation images for a threshold of: {', '.join(map(escaped, absent))}."] * bool(absent),
        *["- Age, sex and view are inputs; scores without them differ."] * joins,
        "",
        f"{FILL} known failures, ethical considerations, contact.",
        "",
        "## Files",
        "",
        f"The ONNX networks {differences(verified)}. {_int8(verified)}Versions: "
        + ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        + ".",
        "",
    ]  # fmt: skip


def _int8(verified: Mapping[str, Any]) -> str:
    known = verified.get("validation_macro_auroc")
    if known is None:
        return ""
    return (
        "They have 8-bit weights and activations. The results above are those of the run, without 8 bits; the macro "
        f"AUROC on validation is {known['bundle']:.4f} with 8 bits and {known['run']:.4f} without. "
    )


def _unusual(detectors: Mapping[str, Any] | None) -> str:
    if detectors is None:
        return "Unusual images are not detected: the run has too few images."
    return (
        "`predict`, `serve` and the page warn of rotated, inverted and other unusual images, and of "
        f"{detectors['false_alarms']:.1%} of the validation images. They do not find mirrored radiographs. They find "
        "blur and noise only with some networks, and lateral views only by a DICOM header."
    )


def _without_threshold(opened: Opened) -> Sequence[str]:
    """Findings that lack a threshold at some operating point."""
    columns = zip(opened.system.findings, zip(*opened.system.points.values(), strict=True), strict=False)
    return [name for name, thresholds in columns if None in thresholds]
