from spack_repo.builtin.build_systems.makefile import MakefilePackage
from spack.package import *


class BrokenPatch(MakefilePackage):
    """Its patch does not fit."""

    homepage = "https://example.org"
    url = "file:///opt/archives/hello-1.0.tar.gz"
    version("1.0", sha256="@SHA256@")
    depends_on("c", type="build")
    patch("fix.patch")
