from spack_repo.builtin.packages.gcc.package import Gcc as BuiltinGcc
from spack.package import *

SOURCES = "/usr/src/gcc-12"


class Gcc(BuiltinGcc):
    """Spack's own package, with the sources that Debian 12's gcc-12-source has."""

    # A number of its own, so that the system's 12.2.0 is not taken for it.
    version(
        "12.2.0.1",
        url=f"file://{SOURCES}/gcc-12.2.0-dfsg.tar.xz",
        sha256="50c63ff82919323c25fbbb4a9eae259edc974118a0fb30c905190cb782ec11c2",
    )

    def url_for_version(self, version):
        return f"file://{SOURCES}/gcc-12.2.0-dfsg.tar.xz"

    def patch(self):
        super().patch()
        # The manuals are left out there: this is how Debian does without them.
        which("patch", required=True)("-p2", "-i", f"{SOURCES}/patches/gcc-gfdl-build.diff")
