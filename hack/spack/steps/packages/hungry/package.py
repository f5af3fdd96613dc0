from spack_repo.builtin.build_systems.generic import Package
from spack.package import *


class Hungry(Package):
    """Three processes at once need 300 MB each."""

    homepage = "https://example.org"
    has_code = False
    version("1.0")

    def install(self, spec, prefix):
        with open("Makefile", "w") as f:
            f.write("all: a b c\na b c:\n\tpython3 -c 'import time; x = b\"x\" * 300000000; time.sleep(8)'\n\ttouch $@\n")
        Executable("make")("-j%d" % make_jobs)
        mkdirp(prefix.bin)
        install("a", prefix.bin)
