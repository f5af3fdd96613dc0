from spack_repo.builtin.build_systems.generic import Package

from spack.package import *


class PdibLeaf(Package):
    """A package for tests."""

    homepage = "https://example.org"
    has_code = False

    version("1.2")

    def install(self, spec, prefix):
        mkdirp(prefix.share)
        with open(join_path(prefix.share, "pdib-leaf"), "w", encoding="utf-8") as f:
            f.write(f"prefix={prefix}\n")
