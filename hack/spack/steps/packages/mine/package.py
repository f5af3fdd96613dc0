from spack_repo.builtin.build_systems.generic import Package
from spack.package import *


class Mine(Package):
    """Prints its name."""

    homepage = "https://example.org"
    has_code = False
    version("1.0")
    depends_on('site2', type=('build', 'run'))

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        with open(join_path(prefix.bin, "mine"), "w") as f:
            f.write("#!/bin/sh\necho mine\n")
        set_executable(join_path(prefix.bin, "mine"))
