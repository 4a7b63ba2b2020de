"""MNIST and Fashion-MNIST from their IDX files: train 50,000, validation 10,000, test 10,000 images of 28x28.

Splits and rates as in the published code of Ivanov & Michmizos, NeurIPS 2021.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from lsm.datasets.fetch import Progress, RemoteFile, check_digest, digest_of, fetch
from lsm.datasets.idx import GZIP_MAGIC, parse_images, parse_labels
from lsm.datasets.subsets import STRICT, SubsetOptions
from lsm.encode import Dataset, Split, brightest_share, image_rates

VALID_SHARE = 6  # the last sixth of the training images is for validation: 10,000 of 60,000
FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


@dataclass(frozen=True, config=STRICT)
class IdxImages(SubsetOptions):
    """Options and loader that the IDX data sets share; raises pydantic's `ValidationError` on a bad value."""

    name: str = "images"
    path: str | None = None
    verify: bool = True
    own_test_maximum: bool = False

    kind: ClassVar[str] = "images"
    folders: ClassVar[tuple[str, ...]]
    class_names: ClassVar[tuple[str, ...]]
    mirrors: ClassVar[tuple[str, ...]]
    digests: ClassVar[dict[str, tuple[str, str]]]
    """md5 of each file: as published (gzip), and unpacked."""

    def load(self, root: Path, seed: int, progress: Progress | None = None, maximum: float | None = None) -> Dataset:
        """Read, check, split and encode the set; missing files are downloaded unless `path` is given.

        `maximum` replaces the brightest pixel share of the complete training images as the constant of the rates.
        Raises `ValueError` for a bad file or subset, `FileNotFoundError` for a missing one.
        """
        folder = self._folder(root)
        checksums: dict[str, str] = {}
        arrays = []
        for part in ("train", "t10k"):
            images, labels = self._read(folder, part, checksums, progress)
            arrays.append((images, labels))
        (images, labels), (test_images, test_labels) = arrays
        used = brightest_share(images) if maximum is None else maximum
        test_maximum = brightest_share(test_images) if self.own_test_maximum else used
        first_valid = len(images) - len(images) // VALID_SHARE
        parts = {
            "train": (images, labels, slice(None, first_valid), used),
            "valid": (images, labels, slice(first_valid, None), used),
            "test": (test_images, test_labels, slice(None), test_maximum),
        }
        splits = {}
        for part, (pixels, classes, section, scale) in parts.items():
            first = section.start or 0
            index = first + self.choose(part, classes[section], seed)
            stem = "t10k" if part == "test" else "train"
            names = tuple(f"{stem}-images[{k}]" for k in index)
            splits[part] = Split(image_rates(pixels[index], scale), classes[index], names)
        n_classes = max(len(self.class_names), 1 + int(max(labels.max(), test_labels.max())))
        return Dataset(
            name=self.name,
            class_names=self.class_names + tuple(str(c) for c in range(len(self.class_names), n_classes)),
            **splits,
            encoding={
                "kind": "images",
                "height": int(images.shape[1]),
                "width": int(images.shape[2]),
                "maximum": used,
                "invert": False,
            },
            source=str(folder),
            checksums=checksums,
            notes={"events_per_ms": 1 / used, "events_per_ms_test": 1 / test_maximum},
        )

    def _folder(self, root: Path) -> Path:
        """The folder that holds any of the files, else the one to download into."""
        if self.path is not None:
            folder = Path(self.path).expanduser()
            if not folder.is_dir():
                raise FileNotFoundError(f"data.path={self.path}: no such folder")
            return folder
        for name in self.folders:
            if any((root / name / f"{stem}{end}").exists() for stem in FILES for end in (".gz", "")):
                return root / name
        return root / self.folders[0]

    def _read(
        self, folder: Path, part: str, checksums: dict[str, str], progress: Progress | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        image_path = self._file(folder, f"{part}-images-idx3-ubyte", progress)
        label_path = self._file(folder, f"{part}-labels-idx1-ubyte", progress)
        image_data, label_data = image_path.read_bytes(), label_path.read_bytes()
        images, labels = parse_images(image_data, image_path), parse_labels(label_data, label_path)
        if len(images) != len(labels):
            raise ValueError(f"{image_path} has {len(images)} images, {label_path.name} has {len(labels)} labels")
        for path, data in ((image_path, image_data), (label_path, label_data)):
            checksums[path.name] = digest_of(data, "md5")
            if self.verify:
                packed, plain = self.digests[path.name.removesuffix(".gz")]
                check_digest(path, checksums[path.name], packed if data.startswith(GZIP_MAGIC) else plain)
        return images, labels

    def _file(self, folder: Path, stem: str, progress: Progress | None) -> Path:
        for name in (f"{stem}.gz", stem):
            if (folder / name).exists():
                return folder / name
        if self.path is None:
            urls = tuple(f"{base}{stem}.gz" for base in self.mirrors)
            return fetch(RemoteFile(f"{stem}.gz", self.digests[stem][0], urls), folder, progress)
        there = sorted(p.name for p in folder.iterdir() if p.is_file())
        listing = ", ".join(there[:6]) + (", ..." if len(there) > 6 else "") if there else "no files"
        raise FileNotFoundError(f"{folder / stem}(.gz) is missing; found there: {listing}")


@dataclass(frozen=True, config=STRICT)
class Mnist(IdxImages):
    """Handwritten digits (LeCun, Cortes & Burges)."""

    name: str = "mnist"

    folders: ClassVar[tuple[str, ...]] = ("mnist", "MNIST/raw", "MNIST")
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    digests: ClassVar[dict[str, tuple[str, str]]] = {
        "train-images-idx3-ubyte": ("md5:f68b3c2dcbeaaa9fbdd348bbdeb94873", "md5:6bbc9ace898e44ae57da46a324031adb"),
        "train-labels-idx1-ubyte": ("md5:d53e105ee54ea40749a09fcbcd1e9432", "md5:a25bea736e30d166cdddb491f175f624"),
        "t10k-images-idx3-ubyte": ("md5:9fb629c4189551a2d022fa330f9573f3", "md5:2646ac647ad5339dbf082846283269ea"),
        "t10k-labels-idx1-ubyte": ("md5:ec29112dd5afa0611ce80d1b7f02629c", "md5:27ae3e4e09519cfbb04c329615203637"),
    }


@dataclass(frozen=True, config=STRICT)
class FashionMnist(IdxImages):
    """Clothing (Xiao, Rasul & Vollgraf, arXiv:1708.07747)."""

    name: str = "fashion_mnist"

    folders: ClassVar[tuple[str, ...]] = ("fashion-mnist", "FashionMNIST/raw", "FashionMNIST", "fashion_mnist")
    class_names: ClassVar[tuple[str, ...]] = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    mirrors: ClassVar[tuple[str, ...]] = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    )
    digests: ClassVar[dict[str, tuple[str, str]]] = {
        "train-images-idx3-ubyte": ("md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d", "md5:f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        "train-labels-idx1-ubyte": ("md5:25c81989df183df01b3e8a0aad5dffbe", "md5:9018921c3c673c538a1fc5bad174d6f9"),
        "t10k-images-idx3-ubyte": ("md5:bef4ecab320f06d8554ea6380940ec79", "md5:8181f5470baa50b63fa0f6fddb340f0a"),
        "t10k-labels-idx1-ubyte": ("md5:bb300cfdad3c16e7a12a480ee83cd310", "md5:15d484375f8d13e6eb1aabb0c3f46965"),
    }
