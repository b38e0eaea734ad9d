"""Data: the embedded handwritten digits, readers of the MNIST family, mini-batches and one-hot labels.

Index letters: n samples, c channels, (h, w) pixels, K classes. Images are (n, c, h, w) in [0, 1], labels are
(n,) integers from 0. Nothing is downloaded unless asked, and no function has a random state of its own.
"""

import gzip
import hashlib
import io
import math
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["Dataset", "Splits", "batches", "digits", "mnist", "one_hot", "read_idx"]

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]
_Where = str | os.PathLike[str]  # the path or the address that a message names


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Samples and their labels: `x` (n, ...) floating point, `y` (n,) int64.

    `len(dataset)` is n. `dataset[index]` is a Dataset again, for a slice (a view, nothing is copied), an
    array of positions, a mask, or one position (n is then 1).

    Raises TypeError where x is not floating point or y not integer, ValueError where y is not (n,) or has a
    label below 0.
    """

    x: FloatArray
    y: IntArray

    def __post_init__(self) -> None:
        x, y = np.asarray(self.x), np.asarray(self.y)
        if x.dtype.kind != "f":
            raise TypeError(f"Dataset: expected floating-point x, got {x.dtype}; scale it, e.g. x / 255")
        if x.ndim == 0 or y.shape != x.shape[:1]:
            raise ValueError(
                f"Dataset: expected x (n, ...) and y (n,), got {x.shape} and {y.shape}; one label a sample"
            )
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", _as_labels("Dataset", y))

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> "Dataset":
        at = [index] if isinstance(index, int | np.integer) else index
        return Dataset(self.x[at], self.y[at])

    def __repr__(self) -> str:
        return f"Dataset({len(self)} samples, x {self.x.shape[1:]} {self.x.dtype})"


class Splits(NamedTuple):
    """Three disjoint sets: to fit the weights, to choose when to stop, to report."""

    train: Dataset
    validation: Dataset
    test: Dataset


def digits(
    dtype: DTypeLike = np.float64,
    seed: int | np.random.Generator = 0,
    validation: int | float = 300,
    test: int | float = 300,
) -> Splits:
    """The 1,797 embedded handwritten digits: x (n, 1, 8, 8) in [0, 1], y (n,) in 0..9.

    `validation` and `test` are sizes: an int counts samples, a float is a fraction of all. Each set holds
    every class in proportion. The seed changes only the split, and the test set does not depend on
    `validation`. Within a set the samples keep the order of the file.

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, doi 10.24432/C50P49, CC BY 4.0 (`minigrad/datasets/LICENSE`).

    Raises ValueError for sizes that are negative or leave nothing to train on, TypeError for a dtype that is
    not floating point.
    """
    with np.load(Path(__file__).with_name("datasets") / "digits.npz") as file:
        images, labels = file["images"], file["labels"]
    sizes = _sizes("digits", len(labels), test=test, validation=validation)
    tested, validated, trained = (
        _images(images[part], labels[part], largest=16, dtype=dtype)
        for part in stratified(labels, sizes, np.random.default_rng(seed))
    )
    return Splits(trained, validated, tested)


def batches(
    dataset: Dataset,
    batch_size: int | None,
    rng: np.random.Generator | None = None,
    drop_last: bool = False,
) -> Iterator[tuple[FloatArray, IntArray]]:
    """One epoch of mini-batches (x, y), each made when it is asked for (TC-19, Tomasi 2019, section 4).

    `batch_size=1` is online training, `None` the whole set as one batch. Without `rng` the samples come in
    order and the batches are views; with it they are shuffled, anew for each call. A last short batch is
    kept, and a mean over it divides by its own size; `drop_last=True` leaves it out.

    Raises TypeError or ValueError at the call, not at the first batch.
    """
    n = len(dataset)
    size = max(n, 1) if batch_size is None else batch_size
    if not isinstance(size, int | np.integer) or isinstance(size, bool):
        raise TypeError(f"batches: expected batch_size to be an int or None for all, got {batch_size!r}")
    if size < 1:
        raise ValueError(f"batches: expected batch_size >= 1, got {size}; None is the whole set")
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"batches: expected a Generator as rng, got {rng!r}; use np.random.default_rng(seed)")
    order = None if rng is None else rng.permutation(n)
    stop = n - n % size if drop_last else n
    parts = (slice(start, start + size) for start in range(0, stop, size))
    x, y = dataset.x, dataset.y
    if order is None:
        return ((x[part], y[part]) for part in parts)
    return ((x[order[part]], y[order[part]]) for part in parts)


def one_hot(labels: ArrayLike, num_classes: int, dtype: DTypeLike = np.float64) -> FloatArray:
    """Labels (n,) in 0..K-1 to the rows (n, K) of the identity matrix.

    Raises TypeError for labels that are not integers, ValueError for labels out of range or not (n,).
    """
    y = _as_labels("one_hot", np.asarray(labels))
    if y.ndim != 1:
        raise ValueError(f"one_hot: expected labels of shape (n,), got {y.shape}; try labels.ravel()")
    if y.size and y.max() >= num_classes:
        raise ValueError(
            f"one_hot: expected labels in 0..{num_classes - 1}, got {y.max()}; are they 1-based?"
        )
    rows: FloatArray = np.zeros((len(y), num_classes), _floating("one_hot", dtype))
    rows[np.arange(len(y)), y] = 1
    return rows


# The MNIST family -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Family:
    """Where a data set is published, and the MD5 of its files, decompressed: mirrors compress differently."""

    mirrors: tuple[str, ...]
    md5: dict[str, str]


_AGAIN = "delete it and fetch it again"

_FAMILIES = {
    "MNIST": _Family(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        md5={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "FashionMNIST": _Family(
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        md5={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
}


def mnist(
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    name: str = "MNIST",
    *,
    dtype: DTypeLike = np.float64,
    seed: int | np.random.Generator = 0,
    validation: int | float = 10_000,
) -> Splits:
    """MNIST or FashionMNIST (`name`) from IDX files: x (n, 1, 28, 28) in [0, 1], y (n,) in 0..9.

    The files, gzipped or not, lie in `<root>/<name>/raw` or in `<root>` itself; `root` is the argument, else
    the environment variable MINIGRAD_DATA, else `minigrad` in the user's cache folder. Missing files are
    downloaded to `<root>/<name>/raw` only where `download=True`. The published test files are the test set;
    the validation set is carved from the training files by the seed, every class in proportion, and is a
    number of samples (int) or a fraction of them (float). float64 takes 0.4 GB, float32 half of it.

    Raises FileNotFoundError where files are missing, ValueError where a file is damaged or is not the one
    that was published, ModuleNotFoundError where a download needs pooch, OSError where no mirror delivers.
    """
    if name not in _FAMILIES:
        raise ValueError(f"mnist: expected name to be one of {', '.join(_FAMILIES)}, got {name!r}")
    md5 = _FAMILIES[name].md5
    home = _data_root(root)
    found = {file: _find(home, name, file) for file in md5}
    missing = [file for file, path in found.items() if path is None]
    if missing and not download:
        raise FileNotFoundError(
            f"mnist: no {', '.join(missing)} (or .gz) in {home / name / 'raw'} or {home}; put them there, "
            f"name another folder by root= or MINIGRAD_DATA, or download them by "
            f"mnist({str(home)!r}, download=True, name={name!r})"
        )
    paths = [path or _download(home / name / "raw", name, file) for file, path in found.items()]
    train_images, train_labels, test_images, test_labels = (
        _published(path.read_bytes(), path, name, file) for path, file in zip(paths, found, strict=True)
    )
    sizes = _sizes("mnist", len(train_labels), validation=validation)
    validated, trained = (
        _images(train_images[part], train_labels[part], largest=255, dtype=dtype)
        for part in stratified(train_labels, sizes, np.random.default_rng(seed))
    )
    return Splits(trained, validated, _images(test_images, test_labels, largest=255, dtype=dtype))


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file, gzipped or not; it is read-only.

    Raises ValueError that tells apart: a gzip stream that ends early or is damaged, a web page in place of
    data, another kind of file, and more or fewer bytes than the header promises.
    """
    return _parse_idx(_decompress(Path(path).read_bytes(), path), path)


def _decompress(raw: bytes, where: _Where) -> bytes:
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except EOFError:
        raise ValueError(f"{where}: the gzip stream ends early, after {len(raw):,} bytes; {_AGAIN}") from None
    except (OSError, zlib.error) as error:
        raise ValueError(f"{where}: the gzip stream is damaged ({error}); {_AGAIN}") from error


def _parse_idx(raw: bytes, where: _Where) -> NDArray[np.uint8]:
    """The header: two zero bytes, 8 for unsigned bytes, the number of axes; then each length, big-endian."""
    if raw[:64].lstrip().startswith(b"<"):
        raise ValueError(f"{where}: a web page and not data: a server answered with an error; {_AGAIN}")
    if raw[:3] != b"\0\0\x08":
        raise ValueError(
            f"{where}: expected an IDX file of bytes, magic number 000008.., "
            f"got {raw[:4].hex() or 'an empty file'}; {_AGAIN}"
        )
    start = 4 + 4 * raw[3] if len(raw) > 3 else 4
    shape = tuple(int.from_bytes(raw[at : at + 4], "big") for at in range(4, start, 4))
    promised = start + math.prod(shape)
    if len(raw) != promised:
        raise ValueError(
            f"{where}: the header promises {promised:,} bytes for shape {shape}, the file has {len(raw):,}; "
            f"{_AGAIN}"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _data_root(root: str | os.PathLike[str] | None) -> Path:
    if root is not None:
        return Path(root).expanduser()
    if from_environment := os.environ.get("MINIGRAD_DATA"):
        return Path(from_environment).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "minigrad"


def _find(home: Path, name: str, file: str) -> Path | None:
    """The file below `home`, in torchvision's folder or directly, decompressed or not."""
    candidates = (folder / f"{file}{end}" for folder in (home / name / "raw", home) for end in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _published(raw: bytes, where: _Where, name: str, file: str) -> NDArray[np.uint8]:
    """The array in the bytes of a file, if it is to the bit the one that was published."""
    raw = _decompress(raw, where)
    array = _parse_idx(raw, where)
    expected, got = _FAMILIES[name].md5[file], hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if got != expected:
        raise ValueError(
            f"{where}: a sound IDX file of shape {array.shape}, but not the {file} of {name}: expected "
            f"decompressed bytes with MD5 {expected}, got {got}; is it another data set or a changed copy?"
        )
    return array


def _download(folder: Path, name: str, file: str) -> Path:
    """Fetch a file from the first mirror that delivers it; only what passes the checks reaches the disk."""
    try:
        import pooch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "mnist: a download needs the package pooch; pip install 'minigrad[datasets]'", name="pooch"
        ) from error
    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty())
    target, problems = folder / f"{file}.gz", []
    for mirror in _FAMILIES[name].mirrors:
        url, received = f"{mirror}{file}.gz", io.BytesIO()
        try:
            fetch(url, received, None)
            _published(received.getvalue(), url, name, file)
        except (OSError, ValueError) as error:
            problems.append(f"  {url}: {error}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        part.write_bytes(received.getvalue())
        return part.replace(target)
    raise OSError(f"mnist: no mirror delivered {file}; put it into {folder} by hand\n" + "\n".join(problems))


# What the readers share -------------------------------------------------------------------------------------


def _as_labels(who: str, y: NDArray[Any]) -> IntArray:
    if y.dtype.kind not in "iu":
        raise TypeError(f"{who}: expected integer labels, got {y.dtype}; try labels.astype(np.int64)")
    if y.size and y.min() < 0:
        raise ValueError(f"{who}: expected labels from 0, got {y.min()}")
    return y.astype(np.int64, copy=False)


def _floating(who: str, dtype: DTypeLike) -> np.dtype[Any]:
    kind = np.dtype(dtype)
    if kind.kind != "f":
        raise TypeError(f"{who}: expected a floating-point dtype, got {kind}; try np.float64 or np.float32")
    return kind


def _images(images: NDArray[np.uint8], labels: NDArray[np.uint8], largest: int, dtype: DTypeLike) -> Dataset:
    """Grey levels (n, h, w) in 0..largest to a Dataset with one channel and x in [0, 1]."""
    x = images[:, np.newaxis].astype(_floating("data", dtype))
    x /= largest
    return Dataset(x, labels.astype(np.int64))


def _sizes(who: str, n: int, **sizes: int | float) -> list[int]:
    """Numbers of samples from counts (int) and fractions (float), some of the n left over."""
    counts = []
    for name, size in sizes.items():
        fraction = isinstance(size, float | np.floating)
        if isinstance(size, bool) or not 0 <= size < (1 if fraction else n):
            raise ValueError(
                f"{who}: expected {name} to be a number of samples below {n} (int) or a fraction in [0, 1) "
                f"(float), got {size!r}"
            )
        counts.append(round(size * n) if fraction else int(size))
    if sum(counts) >= n:
        asked = " and ".join(f"{name}={size!r}" for name, size in sizes.items())
        raise ValueError(f"{who}: {asked} leave none of {n} samples to train on; choose them smaller")
    return counts


def stratified(labels: NDArray[np.uint8], sizes: list[int], rng: np.random.Generator) -> list[IntArray]:
    """Disjoint sets of positions of the given sizes, then the rest, each with every class in proportion.

    The members of each class, shuffled, are spread evenly over [0, 1); whatever stretch of that interval is
    cut out, it holds its share of every class, to within a sample or two.
    """
    shuffled = rng.permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    spread = shuffled[np.argsort(place, kind="stable")]
    return [np.sort(part) for part in np.split(spread, np.cumsum(sizes))]
