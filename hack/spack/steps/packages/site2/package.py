from spack_repo.builtin.build_systems.generic import Package
from spack.package import *


class Site2(Package):
    """Prints its name."""

    homepage = "https://example.org"
    has_code = False
    version("1.0")
    depends_on('site1', type=('build', 'run'))

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        with open(join_path(prefix.bin, "site2"), "w") as f:
            f.write("#!/bin/sh\necho site2\n")
        set_executable(join_path(prefix.bin, "site2"))
