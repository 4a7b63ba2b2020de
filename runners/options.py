"""The choices of the command line: the groups and options found in `conf/` and in a user's own `--config-dir`.

Reads folder names and first comment lines only, so that `lsmrun --help` and error messages need neither Hydra nor YAML.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

CONF = Path(__file__).resolve().parent.parent / "conf"
"""The folder of the built-in choices."""

Groups = dict[str, dict[str, str]]
"""Group name -> option name -> one line that describes it."""


def find_groups(config_dir: str | Path | None = None) -> Groups:
    """Every group with its options and their descriptions; those of `config_dir` are added to the built-in ones."""
    groups: Groups = {}
    for root in (CONF, *([Path(config_dir)] if config_dir else [])):
        for path in sorted(root.glob("*/**/*.yaml")):
            group, *rest = path.relative_to(root).with_suffix("").parts
            if group != "hydra":
                groups.setdefault(group, {}).setdefault("/".join(rest), describe_file(path))
    return groups


def describe_file(path: Path) -> str:
    """The first comment line of a YAML file that is not a `# @package` header; empty without one."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("# @package") or not line.strip():
                continue
            return line.lstrip("# ").strip() if line.startswith("#") else ""
    return ""


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that `name` most likely stands for, or None; a matching last part of a dotted key wins."""
    candidates = list(allowed)
    leaf = name.rpartition(".")[2]
    if same_leaf := [c for c in candidates if c.rpartition(".")[2] == leaf]:
        return max(same_leaf, key=lambda c: difflib.SequenceMatcher(None, name, c).ratio())
    if close := difflib.get_close_matches(name, candidates, n=1, cutoff=0.6):
        return close[0]
    by_leaf = {c.rpartition(".")[2]: c for c in candidates}
    close = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.75)
    return by_leaf[close[0]] if close else None


def suggest(name: str, allowed: Sequence[str], shown: int = 12, also: Iterable[str] = ()) -> str:
    """`; did you mean x? (allowed: ...)`, the end of a message, with no more than `shown` names.

    Those nearest to `name` come first. The guess may also be one of `also`, names that are not listed.
    """
    best = nearest(name, [*allowed, *also])
    names = sorted(allowed)
    if len(names) > shown:
        names = sorted(names, key=lambda n: -difflib.SequenceMatcher(None, name, n).ratio())[:shown]
        names.append("...")
    listing = f"(allowed: {', '.join(names)})" if names else "(none is allowed)"
    return f"; did you mean {best}? {listing}" if best else f" {listing}"
