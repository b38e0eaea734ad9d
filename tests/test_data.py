"""The embedded digits, the mini-batches, the labels, and every way in which a data file can be wrong."""

import gzip
import hashlib
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad import data
from minigrad.data import Dataset, batches, digits, mnist, one_hot, read_idx

# The digits -------------------------------------------------------------------------------------------------


def rows(*datasets):
    """The samples as a sorted table, to compare sets whatever their order."""
    table = np.concatenate([np.column_stack([d.x.reshape(len(d), -1), d.y]) for d in datasets])
    return table[np.lexsort(table.T)]


def test_digits_are_scaled_images_with_labels():
    splits = digits()
    assert [len(part) for part in splits] == [1197, 300, 300]
    for part in splits:
        assert part.x.shape[1:] == (1, 8, 8)
        assert part.x.dtype == np.float64
        assert part.y.dtype == np.int64
        assert part.x.min() == 0
        assert part.x.max() == 1
        assert set(part.y) == set(range(10))


def test_digits_are_those_of_scikit_learn():
    bunch = pytest.importorskip("sklearn.datasets").load_digits()
    theirs = Dataset(bunch.images / 16, bunch.target)
    np.testing.assert_array_equal(rows(*digits()), rows(theirs))


def test_the_seed_fixes_the_split_and_changes_nothing_else():
    first, again, other = digits(), digits(), digits(seed=1)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.y, b.y)
    assert not np.array_equal(first.test.x, other.test.x)
    np.testing.assert_array_equal(rows(*first), rows(*other))


def test_the_default_split_stays_what_it_was():
    """A result that somebody wrote down is comparable only as long as this does not change."""
    pixels = b"".join((part.x * 16).astype(np.uint8).tobytes() for part in digits())
    assert (
        hashlib.sha256(pixels).hexdigest()
        == "a32e630d7fe675e3e3b391fd9c1a08fd12065fd09052c7be02008dd718db577d"
    )


def test_the_test_set_does_not_depend_on_the_validation_set():
    np.testing.assert_array_equal(digits(validation=7).test.x, digits(validation=0.4).test.x)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), validation=st.floats(0, 0.45), test=st.integers(0, 800))
def test_every_set_holds_every_class_in_proportion(seed, validation, test):
    splits = digits(seed=seed, validation=validation, test=test)
    assert len(splits.validation) == round(validation * 1797)
    assert len(splits.test) == test
    share = sum(np.bincount(part.y, minlength=10) for part in splits) / 1797
    for part in splits:
        assert np.abs(np.bincount(part.y, minlength=10) - share * len(part)).max() <= 2


def test_digits_in_float32_are_exact():
    np.testing.assert_array_equal(digits(np.float32).train.x, digits().train.x)
    assert digits(np.float32).train.x.dtype == np.float32


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"validation": -0.1}, "validation"),
        ({"test": 1.0}, r"test .* got 1\.0"),
        ({"test": float("nan")}, "nan"),
        ({"test": True}, "True"),
        ({"validation": 1797}, "below 1797"),
        ({"validation": 1000, "test": 0.5}, "leave none of 1797"),
        ({"validation": 1000, "test": 797}, "leave none of 1797"),
    ],
)
def test_digits_refuse_sizes_that_make_no_sense(sizes, message):
    with pytest.raises(ValueError, match=message):
        digits(**sizes)


def test_digits_refuse_integers():
    with pytest.raises(TypeError, match="floating-point dtype, got int64"):
        digits(np.int64)


# Dataset and batches ----------------------------------------------------------------------------------------


@pytest.fixture
def seven():
    return Dataset(np.arange(14.0).reshape(7, 2), np.arange(7))


def test_a_dataset_is_indexed_like_an_array(seven):
    assert len(seven) == 7
    assert np.shares_memory(seven[2:5].x, seven.x)
    np.testing.assert_array_equal(seven[2:5].y, [2, 3, 4])
    np.testing.assert_array_equal(seven[[5, 0]].y, [5, 0])
    np.testing.assert_array_equal(seven[seven.y > 4].x, seven.x[5:])
    assert seven[-1].x.shape == (1, 2)
    assert len(list(seven)) == 7
    assert repr(seven) == "Dataset(7 samples, x (2,) float64)"


def test_a_dataset_takes_labels_of_any_integer_type():
    assert Dataset(np.zeros((3, 1)), np.zeros(3, np.uint8)).y.dtype == np.int64


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (np.zeros((3, 2), np.uint8), np.zeros(3, int), TypeError, "uint8; scale it"),
        (np.zeros((3, 2)), np.zeros(3), TypeError, "integer labels, got float64"),
        (np.zeros((3, 2)), np.zeros(4, int), ValueError, r"got \(3, 2\) and \(4,\)"),
        (np.zeros((3, 2)), np.zeros((3, 1), int), ValueError, "one label a sample"),
        (np.float64(0), np.zeros((), int), ValueError, r"got \(\) and \(\)"),
        (np.zeros((2, 2)), np.array([0, -1]), ValueError, "from 0, got -1"),
    ],
)
def test_a_dataset_checks_its_arrays(x, y, error, message):
    with pytest.raises(error, match=message):
        Dataset(x, y)


def test_batches_in_order_are_views_and_keep_the_short_one(seven):
    parts = list(batches(seven, 3))
    assert [len(y) for _, y in parts] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in parts]), seven.x)
    assert all(np.shares_memory(x, seven.x) for x, _ in parts)
    assert [len(y) for _, y in batches(seven, 3, drop_last=True)] == [3, 3]


@pytest.mark.parametrize(
    ("batch_size", "lengths"), [(1, [1] * 7), (None, [7]), (100, [7]), (np.int64(7), [7])]
)
def test_online_and_batch_are_the_same_parameter(seven, batch_size, lengths):
    assert [len(y) for _, y in batches(seven, batch_size)] == lengths


@settings(deadline=None)
@given(n=st.integers(0, 40), size=st.integers(1, 50), seed=st.integers(0, 9), drop_last=st.booleans())
def test_a_shuffled_epoch_sees_every_sample_once(n, size, seed, drop_last):
    dataset = Dataset(np.arange(float(n))[:, np.newaxis], np.arange(n))
    parts = list(batches(dataset, size, np.random.default_rng(seed), drop_last))
    seen = np.concatenate([y for _, y in parts]) if parts else np.empty(0, int)
    assert len(seen) == (n // size * size if drop_last else n)
    assert len(set(seen)) == len(seen)
    for x, y in parts:
        np.testing.assert_array_equal(x[:, 0], y)


def test_a_generator_shuffles_each_epoch_anew_and_reproducibly(seven):
    def epochs(rng):
        return [np.concatenate([y for _, y in batches(seven, 2, rng)]).tolist() for _ in range(2)]

    first, second = epochs(np.random.default_rng(3))
    assert first != second != list(range(7))
    assert [first, second] == epochs(np.random.default_rng(3))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "batch_size >= 1, got 0"),
        ((2.0,), TypeError, "got 2.0"),
        ((True,), TypeError, "got True"),
        ((2, 0), TypeError, r"np\.random\.default_rng"),
    ],
)
def test_batches_refuse_at_the_call(seven, arguments, error, message):
    with pytest.raises(error, match=message):
        batches(seven, *arguments)


def test_one_hot():
    np.testing.assert_array_equal(one_hot([2, 0], 3), [[0, 0, 1], [1, 0, 0]])
    assert one_hot([0], 2, np.float32).dtype == np.float32
    assert one_hot(np.empty(0, int), 4).shape == (0, 4)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([1, 3], ValueError, r"labels in 0\.\.2, got 3; are they 1-based"),
        ([-1], ValueError, "from 0, got -1"),
        ([0.0], TypeError, "integer labels, got float64"),
        ([True], TypeError, "integer labels, got bool"),
        ([[0]], ValueError, r"got \(1, 1\)"),
    ],
)
def test_one_hot_refuses(labels, error, message):
    with pytest.raises(error, match=message):
        one_hot(labels, 3)


# The MNIST family -------------------------------------------------------------------------------------------


def idx(array):
    """The bytes of an IDX file."""
    lengths = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.astype(np.uint8).tobytes()


@pytest.fixture
def tiny(monkeypatch):
    """A data set of 40 training and 10 test images, 4 x 3 pixels, as the contents of four files."""
    rng = np.random.default_rng(0)
    files = {}
    for kind, n in (("train", 40), ("t10k", 10)):
        files[f"{kind}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (n, 4, 3)))
        files[f"{kind}-labels-idx1-ubyte"] = idx(np.arange(n) % 10)
    md5 = {file: hashlib.md5(content).hexdigest() for file, content in files.items()}
    mirrors = ("https://one.example/", "https://two.example/")
    monkeypatch.setitem(data._FAMILIES, "Tiny", data._Family(mirrors, md5))
    return files


def write(folder, files, compress):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / (name + ".gz" * compress)).write_bytes(gzip.compress(content) if compress else content)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("layout", ["Tiny/raw", "."])
def test_mnist_reads_both_layouts_compressed_or_not(tiny, tmp_path, layout, compress):
    write(tmp_path / layout, tiny, compress)
    splits = mnist(tmp_path, name="Tiny", validation=10)
    assert [part.x.shape for part in splits] == [(30, 1, 4, 3), (10, 1, 4, 3), (10, 1, 4, 3)]
    np.testing.assert_array_equal(np.bincount(splits.validation.y), np.ones(10))
    pixels = np.frombuffer(tiny["t10k-images-idx3-ubyte"], np.uint8, offset=16)
    np.testing.assert_array_equal(splits.test.x.ravel(), pixels / 255)
    assert mnist(tmp_path, name="Tiny", validation=0.25, dtype=np.float32).train.x.dtype == np.float32


def test_mnist_finds_its_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path / "cache" / "minigrad", tiny, compress=True)
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    mnist(name="Tiny", validation=10)
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        mnist(name="Tiny")
    mnist(tmp_path / "cache" / "minigrad", name="Tiny", validation=10)


def test_missing_files_are_named_with_folder_and_call(tiny, tmp_path):
    del tiny["t10k-labels-idx1-ubyte"]
    write(tmp_path, tiny, compress=True)
    with pytest.raises(FileNotFoundError) as caught:
        mnist(tmp_path, name="Tiny")
    message = str(caught.value)
    assert "no t10k-labels-idx1-ubyte (or .gz)" in message
    assert str(tmp_path / "Tiny" / "raw") in message
    assert f"mnist({str(tmp_path)!r}, download=True, name='Tiny')" in message


def test_mnist_refuses_a_name_it_does_not_know():
    with pytest.raises(ValueError, match="MNIST, FashionMNIST, got 'mnist'"):
        mnist(name="mnist")


def flip(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: gzip.compress(content)[:-9], "gzip stream ends early"),
        (lambda content: gzip.compress(content)[:5], "gzip stream ends early"),
        (lambda content: flip(gzip.compress(content)), "gzip stream is damaged"),
        (lambda content: b"\x1f\x8b\x08\0\0\0\0\0\0\0" + b"\xff" * 40, "gzip stream is damaged"),
        (lambda content: b"<!DOCTYPE html><html>403</html>", "a web page"),
        (lambda content: gzip.compress(b"\n <html>404</html>"), "a web page"),
        (lambda content: b"\0\0\x0d\x01" + content[4:], "magic number .* got 00000d01"),
        (lambda content: b"", "an empty file"),
        (lambda content: b"\0\0\x08", "header promises"),
        (lambda content: content[:6], "header promises"),
        (lambda content: content[:-1], r"promises 48 bytes for shape \(40,\), the file has 47"),
        (lambda content: content + b"\0", r"promises 48 bytes for shape \(40,\), the file has 49"),
        (flip, r"sound IDX file of shape \(40,\), but not the train-labels-idx1-ubyte of Tiny"),
    ],
)
def test_the_reader_tells_the_damages_apart(tiny, tmp_path, damage, message):
    write(tmp_path, tiny, compress=False)
    file = tmp_path / "train-labels-idx1-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        mnist(tmp_path, name="Tiny", validation=10)
    assert str(file) in str(caught.value)


def test_read_idx_reads_any_array_of_bytes(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "array").write_bytes(gzip.compress(idx(array)))
    np.testing.assert_array_equal(read_idx(tmp_path / "array"), array)


def test_a_download_without_pooch_says_what_to_install(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'minigrad\[datasets\]'"):
        mnist(tmp_path, download=True, name="Tiny")


@pytest.fixture
def web(monkeypatch):
    """What the addresses answer, in place of a network; and the addresses that were asked."""
    answers, asked = {}, []

    def fetch(url, output, _):
        asked.append(url)
        if url not in answers:
            raise ConnectionError("no route to host")
        output.write(answers[url])

    pooch = types.SimpleNamespace(HTTPDownloader=lambda progressbar: fetch)
    monkeypatch.setitem(sys.modules, "pooch", pooch)
    return answers, asked


def test_a_download_goes_on_to_the_next_mirror_and_happens_once(tiny, tmp_path, web):
    answers, asked = web
    first, *others = tiny
    answers[f"https://one.example/{first}.gz"] = b"<html>Forbidden</html>"
    answers[f"https://two.example/{first}.gz"] = gzip.compress(tiny[first], mtime=1)
    for file in others:
        answers[f"https://one.example/{file}.gz"] = gzip.compress(tiny[file])
    splits = mnist(tmp_path, download=True, name="Tiny", validation=10)
    assert len(asked) == 5
    assert sorted(path.name for path in (tmp_path / "Tiny" / "raw").iterdir()) == sorted(
        f"{f}.gz" for f in tiny
    )

    again = mnist(tmp_path, download=True, name="Tiny", validation=10)
    assert len(asked) == 5
    np.testing.assert_array_equal(again.train.x, splits.train.x)


def test_a_wrong_download_stays_nowhere(tiny, tmp_path, web):
    answers, _ = web
    file = next(iter(tiny))
    answers[f"https://one.example/{file}.gz"] = gzip.compress(flip(tiny[file]))
    with pytest.raises(OSError, match="no mirror delivered") as caught:
        mnist(tmp_path, download=True, name="Tiny")
    assert "MD5" in str(caught.value)
    assert "no route to host" in str(caught.value)
    assert not list(tmp_path.rglob("*ubyte*"))


def test_nothing_is_downloaded_unless_asked(tiny, tmp_path, web):
    with pytest.raises(FileNotFoundError):
        mnist(tmp_path, name="Tiny")
    assert web[1] == []
