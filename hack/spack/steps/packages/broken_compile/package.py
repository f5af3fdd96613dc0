from spack_repo.builtin.build_systems.makefile import MakefilePackage
from spack.package import *


class BrokenCompile(MakefilePackage):
    """Its source does not compile."""

    homepage = "https://example.org"
    url = "file:///opt/archives/hello-1.0.tar.gz"
    version("1.0", sha256="@SHA256@")
    depends_on("c", type="build")
