from spack_repo.builtin.build_systems.generic import Package
from spack.package import *


class HxDev(Package):
    """A program of a directory of sources."""

    homepage = "https://example.org"
    git = "https://example.org/hx-dev.git"
    version("main", branch="main")
    depends_on("c", type="build")
    depends_on("hx-leaf")

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        Executable("gcc")("dev.c", "-o", join_path(prefix.bin, "hxdev"))
