"""Build the kernels: every `kernels/NAME.pyx` becomes the compiled module `minigrad._NAME`.

Everything else about the package stands in pyproject.toml. Three environment variables steer the build:

    MINIGRAD_REQUIRE_KERNELS=1   a kernel that does not build is an error; without it, the package installs
                                 all the same and runs on its NumPy reference
    MINIGRAD_NATIVE=1            compile for this very processor (-march=native), not for a wheel that travels
    CC                           the compiler, as everywhere

-ffast-math is no option: linked in, it flushes denormal numbers to zero in the whole process, NumPy included.
"""

import os
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext as setuptools_build_ext
from setuptools.errors import CCompilerError, CompileError, LinkError

KERNELS = Path("kernels")
BUILD = Path("build")

# What lets a compiler vectorize and still keeps NumPy's semantics: errno and floating-point traps are
# observed by nobody, the order of a sum and the treatment of NaN are. -g0 makes a module a fifth as large.
OPTIMIZE = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-g0"]
OPENMP = ["-fopenmp"]
NATIVE = ["-march=native"]

OPENMP_PROBE = "#include <omp.h>\nint probe(void) { return omp_get_max_threads(); }\n"


def switched_on(variable):
    return os.environ.get(variable, "0") not in ("", "0")


def kernel_extensions():
    """One extension for each source; `optional` makes setuptools warn and go on where it does not compile."""
    shared = sorted(str(path) for pattern in ("*.pxd", "*.h") for path in KERNELS.glob(pattern))
    return [
        Extension(
            f"minigrad._{source.stem}",
            [str(source)],
            include_dirs=[str(KERNELS)],
            depends=shared,
            optional=not switched_on("MINIGRAD_REQUIRE_KERNELS"),
        )
        for source in sorted(KERNELS.glob("*.pyx"))
    ]


class build_ext(setuptools_build_ext):
    """Translate to C inside `build/`, not beside the sources, and ask the compiler what it can do."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        from Cython.Build import cythonize

        flags = self.flags()
        stamp = self.stamp(flags)
        for extension in self.extensions:
            # One at a time, and of the result the C file alone: cythonize returns copies without `optional`.
            (translated,) = cythonize(extension, include_path=[str(KERNELS)], build_dir=str(BUILD / "cython"))
            extension.sources = translated.sources
            extension.depends = [*translated.depends, stamp]
            extension.extra_compile_args = flags
            extension.extra_link_args = [flag for flag in flags if flag in OPENMP]
        super().build_extensions()

    def flags(self):
        if self.compiler.compiler_type == "msvc":
            return ["/O2"]
        native = NATIVE if switched_on("MINIGRAD_NATIVE") else []
        openmp = OPENMP if self.compiles(OPENMP_PROBE, OPENMP) else []
        return OPTIMIZE + native + openmp

    def compiles(self, code, flags):
        """Whether a small program compiles and links with these flags."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(code)
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                self.compiler.link_shared_object(objects, str(Path(folder, "probe.so")), extra_postargs=flags)
            except (CCompilerError, CompileError, LinkError):
                return False
        return True

    def stamp(self, flags):
        """A file that is newer than the modules when the flags have changed, which timestamps do not see."""
        path, text = BUILD / "flags", " ".join(flags)
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return str(path)


setup(ext_modules=kernel_extensions(), cmdclass={"build_ext": build_ext})
