from spack_repo.builtin.build_systems.makefile import MakefilePackage
from spack.package import *


class BrokenChecksum(MakefilePackage):
    """Its archive is another one."""

    homepage = "https://example.org"
    url = "file:///opt/archives/hello-1.0.tar.gz"
    version("1.0", sha256="ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff")
    depends_on("c", type="build")
