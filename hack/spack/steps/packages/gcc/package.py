from spack_repo.builtin.build_systems.compiler import CompilerPackage
from spack_repo.builtin.build_systems.generic import Package
from spack.package import *


class Gcc(Package, CompilerPackage):
    """The system's compiler, as a package that Spack installs."""

    homepage = "https://example.org"
    has_code = False
    version("15.2.0")
    version("12.2.0")

    variant("languages", default="c,c++,fortran", multi=True, description="languages")
    provides("c", "cxx", "fortran")
    depends_on("c", type="build")

    compiler_languages = ["c", "cxx", "fortran"]
    c_names = ["gcc"]
    cxx_names = ["g++"]
    fortran_names = ["gfortran"]
    compiler_version_argument = "-dumpfullversion"
    compiler_version_regex = r"(.*)"

    compiler_wrapper_link_paths = {"c": "gcc/gcc", "cxx": "gcc/g++", "fortran": "gcc/gfortran"}
    debug_flags = ["-g"]
    opt_flags = ["-O0", "-O2"]
    implicit_rpath_libs = ["libgcc", "libgfortran"]
    stdcxx_libs = ("-lstdc++",)

    @classmethod
    def determine_variants(cls, exes, version_str):
        paths = {}
        for exe in exes:
            for language, name in (("c", "gcc"), ("cxx", "g++"), ("fortran", "gfortran")):
                if exe.endswith("/" + name):
                    paths[language] = exe
        return "", {"compilers": paths}

    def _cc_path(self):
        return str(self.prefix.bin.gcc)

    def _cxx_path(self):
        return join_path(self.prefix.bin, "g++")

    def _fortran_path(self):
        return str(self.prefix.bin.gfortran)

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        for name in ("gcc", "g++", "gfortran"):
            with open(join_path(prefix.bin, name), "w") as f:
                f.write('#!/bin/sh\nexec /usr/bin/%s "$@"\n' % name)
            set_executable(join_path(prefix.bin, name))
