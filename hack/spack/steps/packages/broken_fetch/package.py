from spack_repo.builtin.build_systems.makefile import MakefilePackage
from spack.package import *


class BrokenFetch(MakefilePackage):
    """Its archive cannot be had."""

    homepage = "https://example.org"
    url = "http://127.0.0.1:9/hello-1.0.tar.gz"
    version("1.0", sha256="eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee")
    depends_on("c", type="build")
