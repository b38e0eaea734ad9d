"""The package as others get it: what it declares and, under `-m slow`, what its distributions hold and do."""

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

import minigrad

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
KERNELS = sorted(path.stem for path in (ROOT / "kernels").glob("*.pyx"))


def distribution_name(requirement):
    return re.match(r"[\w-]+", requirement).group()


def test_the_version_is_the_same_wherever_it_is_told():
    number = minigrad.__version__
    assert version("minigrad") == number
    assert f"\nversion: {number}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{number}]" in (ROOT / "CHANGELOG.md").read_text()


def test_everything_that_is_imported_is_declared():
    extras = PROJECT["project"]["optional-dependencies"]
    optional = ("datasets", "distributed", "lectures", "sklearn")
    requirements = PROJECT["project"]["dependencies"] + [one for extra in optional for one in extras[extra]]
    # mpmath comes with SymPy, which is built on it, and Pillow with Matplotlib.
    declared = {distribution_name(requirement) for requirement in requirements} | {"mpmath", "PIL"}
    imported = {}
    for path in (ROOT / "minigrad").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            imported.update((name.split(".")[0], path.name) for name in names)
    unknown = imported.keys() - sys.stdlib_module_names - declared - {"minigrad"}
    unknown -= {"sklearn"} if "scikit-learn" in declared else set()  # the one that is named otherwise
    assert not unknown, {name: imported[name] for name in unknown}


def test_lower_bounds_only():
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    for requirement in itertools.chain(*groups):
        assert re.fullmatch(r"[\w-]+(>=[\d.]+|\[[\w,]+\])", requirement), requirement


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_has_a_stub(kernel):
    assert (ROOT / "minigrad" / f"_{kernel}.pyi").is_file()


# Distributions ----------------------------------------------------------------------------------------------


def run(*command, cwd, **environment):
    """Run a command; its output is in the message where it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def fresh_venv(folder):
    """The path of the Python of a new virtual environment."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


@pytest.fixture
def checkout(tmp_path):
    """The sources, without anything that was built from them."""
    made = shutil.ignore_patterns(
        ".git", ".venv*", ".*_cache", "__pycache__", "*.so", "*.egg-info", "build", "runs"
    )
    return shutil.copytree(ROOT, tmp_path / "checkout", ignore=made)


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    """A Python that has what a build needs and nothing else."""
    folder = tmp_path_factory.mktemp("builder")
    python = fresh_venv(folder / "venv")
    run(python, "-m", "pip", "install", "-q", *PROJECT["build-system"]["requires"], cwd=folder)
    return python


def install(python, what, cwd, *options, **environment):
    run(python, "-m", "pip", "install", "-q", *options, what, cwd=cwd, **environment)


def modules_in(folder):
    """The kernels that have a compiled module in the folder."""
    return sorted(path.name.split(".")[0].removeprefix("_") for path in folder.glob("_*.so"))


@pytest.mark.slow
def test_from_sdist_to_wheel_to_a_fresh_venv(checkout, builder, tmp_path):
    build = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    run(builder, "-c", build, cwd=checkout)
    (archive,) = (checkout / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}

    for folder in ("kernels", "minigrad", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if (
                path.suffix in {".py", ".pyi", ".pyx", ".pxd", ".h", ".npz", ".typed"}
                or path.name == "LICENSE"
            ):
                assert str(path.relative_to(ROOT)) in packed
    assert packed >= {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "setup.py", "pyproject.toml"}
    assert not [name for name in packed if name.endswith((".c", ".so", ".pyc", ".o"))]

    run(builder, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "wheels", archive, cwd=tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("minigrad-*.whl")
    python = fresh_venv(tmp_path / "venv")
    install(python, wheel, tmp_path)
    check = (
        "import importlib, pathlib, minigrad.data as data\n"
        f"for kernel in {KERNELS}: importlib.import_module(f'minigrad._{{kernel}}')\n"
        "data.digits()\n"
        "package = pathlib.Path(data.__file__).parent\n"
        "assert 'site-packages' in package.parts, package\n"
        "assert (package / 'py.typed').exists() and (package / 'datasets' / 'LICENSE').exists()"
    )
    run(python, "-c", check, cwd=tmp_path)


@pytest.mark.slow
def test_an_editable_install_builds_in_place(checkout, builder):
    install(builder, ".", checkout, "--no-deps", "--no-build-isolation", "-e", MINIGRAD_REQUIRE_KERNELS="1")
    assert modules_in(checkout / "minigrad") == KERNELS
    assert not list((checkout / "kernels").glob("*.c"))


@pytest.mark.slow
def test_without_a_compiler_it_installs_and_has_no_kernels(checkout, builder, tmp_path):
    options = "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "target")
    install(builder, ".", checkout, *options, CC="/bin/false", MINIGRAD_REQUIRE_KERNELS="0")
    package = tmp_path / "target" / "minigrad"
    assert (package / "data.py").exists()
    assert modules_in(package) == []


@pytest.mark.slow
@pytest.mark.skipif(not KERNELS, reason="there is no kernel that could fail")
def test_a_required_kernel_that_does_not_build_is_an_error(checkout, builder, tmp_path):
    options = "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "target")
    with pytest.raises(AssertionError, match="/bin/false"):
        install(builder, ".", checkout, *options, CC="/bin/false", MINIGRAD_REQUIRE_KERNELS="1")


@pytest.mark.slow
def test_without_any_kernel_source_it_still_builds(checkout, builder, tmp_path):
    shutil.rmtree(checkout / "kernels", ignore_errors=True)
    options = "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "target")
    install(builder, ".", checkout, *options, MINIGRAD_REQUIRE_KERNELS="1")
    assert (tmp_path / "target" / "minigrad" / "data.py").exists()
