"""Where the recordings of N-MNIST are: in folders, in archives, in archives inside archives, or rows of MATLAB files."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lsm.datasets.containers import Archive, Container, open_container
from lsm.datasets.nmnist_mat import Binned, find_mat, open_binned
from lsm.datasets.recordings import Sensor

PARTS = ("Train", "Test")
MEMBER = re.compile(r"(?:^|/)(train|test)/([0-9])/([0-9]+)\.bin$", re.IGNORECASE)


@dataclass(frozen=True)
class Recording:
    """Where one recording is: `id` counts from 1 in its part, `member` is its name inside the container.

    Of a MATLAB file, `container` is the part and `id - 1` the row.
    """

    id: int
    label: int
    member: str
    container: Container | Binned


def containers_in(place: Path, stack: ExitStack) -> list[Container]:
    """A folder and the archives in it, or an archive; with the archives inside these."""
    outer = [open_container(place, stack)]
    if place.is_dir():
        archives = sorted(p for p in place.iterdir() if p.suffix.lower() == ".zip")
        outer += [open_container(p, stack) for p in archives]
    return outer + [inner for c in outer if isinstance(c, Archive) for inner in c.nested(stack)]


def list_recordings(container: Container) -> dict[str, list[Recording]]:
    """The recordings of a container by part and id; raises `ValueError` where an id occurs twice."""
    parts: dict[str, dict[int, Recording]] = {part: {} for part in PARTS}
    for member in container.files:
        if match := MEMBER.search(member):
            by_id, number = parts[match[1].capitalize()], int(match[3])
            if number in by_id:
                raise ValueError(f"{container.path}: {member} and {by_id[number].member} are the same recording")
            by_id[number] = Recording(number, int(match[2]), member, container)
    return {part: [by_id[k] for k in sorted(by_id)] for part, by_id in parts.items()}


def list_mat(places: list[Path], sensor: Sensor, stack: ExitStack) -> dict[str, list[Recording]]:
    """The recordings in the first pair of MATLAB files of several folders, by part and row; raises as `open_binned`."""
    for place in places:
        paths = find_mat(place)
        if len(paths) < len(PARTS):
            continue
        parts = {part: open_binned(path, sensor, stack) for part, path in paths.items()}
        return {
            part: [Recording(k + 1, int(c), f"image[{k}]", binned) for k, c in enumerate(binned.labels)]
            for part, binned in parts.items()
        }
    return {}
