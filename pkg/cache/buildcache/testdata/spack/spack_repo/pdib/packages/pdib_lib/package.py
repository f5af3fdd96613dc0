import os

from spack_repo.builtin.build_systems.generic import Package

from spack.package import *


class PdibLib(Package):
    """A package for tests."""

    homepage = "https://example.org"
    has_code = False

    version("1.2")

    depends_on("pdib-leaf", type="link")
    depends_on("pdib-tool", type="build")

    def install(self, spec, prefix):
        mkdirp(prefix.share)
        with open(join_path(prefix.share, "pdib-lib"), "w", encoding="utf-8") as f:
            f.write(f"prefix={prefix}\n")
        # What has to be changed when the package is installed elsewhere.
        leaf = spec["pdib-leaf"].prefix
        mkdirp(prefix.bin)
        with open(join_path(prefix.bin, "script"), "w", encoding="utf-8") as f:
            f.write(f"#!/bin/sh\nLD=-L{leaf}/lib:{prefix}/lib\ncat {leaf}/share/pdib-leaf /not{prefix}\n")
        os.chmod(join_path(prefix.bin, "script"), 0o755)
        with open(join_path(prefix.bin, "program"), "wb") as f:
            f.write(b"\x7fELF\x02\x01\x01" + bytes(57))
            for text in (f"{prefix}/share/pdib-lib", str(leaf), f"{leaf}/lib:{prefix}/lib"):
                f.write(text.encode() + b"\0")
        os.link(join_path(prefix.bin, "program"), join_path(prefix.bin, "again"))
        os.symlink(leaf.share, join_path(prefix.share, "leaf"))
        os.symlink("../bin/script", join_path(prefix.share, "relative"))
