from spack_repo.builtin.build_systems.generic import Package
from spack.package import *


class HxMulti(Package):
    """Versions."""

    homepage = "https://example.org"
    has_code = False
    version("3.0")
    version("1.0")

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        with open(join_path(prefix.bin, "hxmulti"), "w") as f:
            f.write("#!/bin/sh\necho multi %s\n" % spec.version)
        set_executable(join_path(prefix.bin, "hxmulti"))
