from spack_repo.builtin.build_systems.generic import Package
from spack.package import *


class HxUsesprivate(Package):
    """A tiny package."""

    homepage = "https://example.org"
    has_code = False
    version("1.0")
    depends_on("hx-private")

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        with open(join_path(prefix.bin, self.name.replace("-", "")), "w") as f:
            f.write("#!/bin/sh\necho " + self.name + " " + str(spec.version) + "\n")
        set_executable(join_path(prefix.bin, self.name.replace("-", "")))
