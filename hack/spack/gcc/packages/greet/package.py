from spack_repo.builtin.build_systems.generic import Package
from spack.package import *


class Greet(Package):
    """A program in C++, which needs the compiler's runtime library."""

    homepage = "https://example.org"
    has_code = False
    version("1.0")
    depends_on("c", type="build")
    depends_on("cxx", type="build")

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        with open("greet.cc", "w") as f:
            f.write('#include <iostream>\nint main() { std::cout << "compiled by " __VERSION__ "\\n"; }\n')
        which(spack_cxx, required=True)("greet.cc", "-o", join_path(prefix.bin, "greet"))
