"""Folders by class: which files of a container are samples, of what kind, class and part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lsm.datasets.containers import Container

SUFFIXES = {"images": (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".tif", ".tiff"), "events": (".bin",)}
PART_FOLDERS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}


@dataclass(frozen=True)
class Labelled:
    """One file of the user's: the part it was put into (`None`: not said), its class and its name."""

    part: str | None
    label: str
    member: str


def find_labelled(container: Container) -> list[Labelled]:
    """Every usable file of the container with its class; raises `ValueError` for an empty class or a wrong layout."""
    tops = [f for f in container.folders if "/" not in f]
    by_part = any(f.lower() == "train" for f in tops)
    if by_part and (strange := [f for f in tops if f.lower() not in PART_FOLDERS]):
        raise ValueError(f"{container.path}: folder '{strange[0]}' beside 'train'; expected train, valid, test")
    depth = 2 if by_part else 1  # how many folders lead to a class folder, itself included
    classes = [f for f in container.folders if f.count("/") == depth - 1]
    if not classes:
        raise ValueError(f"{container.path}: no class folders in there; expected <class>/<file>")
    usable = sum(SUFFIXES.values(), ())
    files, n_usable, n_others = [], Counter[str](), Counter[str]()
    for member in container.files:
        steps = member.split("/")
        if len(steps) <= depth:
            continue
        folder = "/".join(steps[:depth])
        if member.lower().endswith(usable):
            n_usable[folder] += 1
            files.append(Labelled(PART_FOLDERS[steps[0].lower()] if by_part else None, steps[depth - 1], member))
        else:
            n_others[folder] += 1
    for folder in classes:
        if not n_usable[folder]:
            raise ValueError(
                f"{container.path}: class folder '{folder}' has no *{', *'.join(usable)}; {n_others[folder]} other files"
            )
    return files


def kind_of(files: list[Labelled], where: str) -> str:
    """Whether the files are images or events; raises `ValueError` where they are both."""
    names = [f.member for f in files]
    examples = {kind: next((n for n in names if n.lower().endswith(s)), None) for kind, s in SUFFIXES.items()}
    if all(examples.values()):
        raise ValueError(f"{where}: images and recordings mixed: {examples['images']} and {examples['events']}")
    return next(kind for kind, example in examples.items() if example)


def class_names_of(files: list[Labelled], where: str) -> tuple[str, ...]:
    """Class names in the order of numbers if all are numbers, else of the alphabet.

    Raises `ValueError` for fewer than two classes and for a class without training files.
    """
    names = {f.label for f in files if f.part in (None, "train")}
    if len(names) < 2:
        raise ValueError(f"{where}: {len(names)} class folder ({', '.join(names)}); at least 2 are needed")
    for f in files:
        if f.label not in names:
            raise ValueError(f"{where}: class '{f.label}' of the {f.part} part has no training files")
    by_number = all(n.isdecimal() for n in names)
    return tuple(sorted(names, key=(lambda n: (int(n), n)) if by_number else (lambda n: (0, n))))
