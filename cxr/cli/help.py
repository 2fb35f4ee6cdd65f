"""The help of a program, generated from the files in `conf` and their comments.

The options of a group are its files, each with the first line of its comment. A key is explained by the comment at the
end of its line.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cxr.cli import conf_dir
from cxr.cli.mistakes import ADDABLE, groups_of
from cxr.cli.program import program_of
from cxr.configuration.kinds import as_override
from cxr.configuration.private import leaves

_WIDTH = 120  # maximum length of a line about an option file
_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?: .*?)?(?:\s# (?P<comment>.*))?")


def help_text(name: str, spelled: str, overrides: Sequence[str], everything: bool = False) -> str:
    """The help of a program.

    Args:
        spelled: the command that starts it, for the examples.
        overrides: of the command line; the help shows the values with them.
        everything: list all options, not only the common ones.
    """
    program = program_of(name)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(name, list(overrides), return_hydra_config=True)
    runtime = config.hydra.runtime
    folders = [Path(source.path) for source in runtime.config_sources if source.schema == "file"]
    groups = {group: _files(folders, group) for group in groups_of(name)}
    chosen = {group: _chosen(group, files, config, runtime.choices) for group, files in groups.items()}
    explained = _explanations((conf_dir() / f"{name}.yaml").read_text(encoding="utf-8"))
    for group, files in groups.items():
        for option in chosen[group]:
            explained = _of_option(group, option, files) | explained
    values = {
        key: value for key, value in leaves(OmegaConf.to_container(config), lists=False) if not key.startswith("hydra.")
    }
    shown = [key for key in (values if everything else program.options) if key in values]
    options = [(f"{key}={as_override(values[key])}", explained.get(key, "")) for key in shown]
    more = [(f"{spelled} help=all", "lists every option")] * (not everything) + [
        (f"{spelled} --cfg job", "shows the configuration and runs nothing"),
        (f"{spelled} --hydra-help", "lists Hydra's own flags"),
        ("docs/configuration.md", "explains each option"),
    ]
    examples = [(f"{spelled} {words}".rstrip(), note) for words, note in program.examples]
    parts = [program.about, _table("Examples", examples, limit=72)]
    parts += ["Groups (group=option; * is chosen)"] * bool(groups)
    parts += ["\n".join([f"  {group}", *_option_lines(files, chosen[group])]) for group, files in groups.items()]
    parts.append(_table("All options (key=value)" if everything else "Common options (key=value)", options))
    if everything and name == "train":
        parts.append(f"Further arguments of Lightning's Trainer (+trainer.<name>=value)\n  {', '.join(ADDABLE)}")
    return "\n\n".join([*parts, _table("More", more)])


def _files(folders: Sequence[Path], group: str) -> dict[str, Path]:
    """A group's option files by name; as in Hydra, earlier folders take precedence."""
    found = {file.stem: file for folder in reversed(folders) for file in (folder / group).glob("*.yaml")}
    return dict(sorted(found.items()))


def _chosen(group: str, files: Mapping[str, Path], config: DictConfig, choices: Mapping[str, Any]) -> list[str]:
    """The chosen options of a group; Hydra's `choices` are None for a list of options."""
    if choices.get(group) is not None:
        return [str(choices[group])]
    node = OmegaConf.select(config, group)
    return [option for option in files if isinstance(node, DictConfig) and option in node]


def _option_lines(files: Mapping[str, Path], chosen: Sequence[str]) -> Iterator[str]:
    width = max(map(len, files), default=0)
    for option, file in files.items():
        about = shorten(_first_comment(file), _WIDTH - width - 8, placeholder=" ...")
        yield f"    {'*' if option in chosen else ' '} {option:{width}}  {about}".rstrip()


def _first_comment(file: Path) -> str:
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            return line.removeprefix("#").strip()
    return ""


def _of_option(group: str, option: str, files: Mapping[str, Path]) -> dict[str, str]:
    """Explanations in an option file and in the files of its group that it includes."""
    if option not in files:
        return {}
    text = files[option].read_text(encoding="utf-8")
    package = re.search(r"^# @package (\S+)", text, re.MULTILINE)
    prefix = {"_global_": ""}.get(package[1], f"{package[1]}.") if package else f"{group.replace('/', '.')}."
    explained: dict[str, str] = {}
    content = OmegaConf.create(text)
    for entry in content.get("defaults") or [] if isinstance(content, DictConfig) else []:
        if isinstance(entry, str) and entry != "_self_":
            explained |= _of_option(group, entry, files)
    return explained | {prefix + key: comment for key, comment in _explanations(text).items()}


def _explanations(text: str) -> dict[str, str]:
    """The comment at the end of each key's line, by dotted key."""
    explained, above = {}, list[tuple[int, str]]()
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        indent = len(match["indent"])
        above = [*((column, key) for column, key in above if column < indent), (indent, match["key"])]
        if match["comment"]:
            explained[".".join(key for _, key in above)] = match["comment"].strip()
    return explained


def _table(title: str, rows: Sequence[tuple[str, str]], limit: int = 40) -> str:
    """A title and two columns; entries wider than `limit` do not widen the first."""
    width = max((len(left) for left, _ in rows if len(left) <= limit), default=0)
    return "\n".join([title, *(f"  {left:{width}}  {right}".rstrip() for left, right in rows)])
