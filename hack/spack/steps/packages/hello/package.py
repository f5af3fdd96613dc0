from spack_repo.builtin.build_systems.generic import Package
from spack.package import *


class Hello(Package):
    """A compiled program."""

    homepage = "https://example.org"
    has_code = False
    version("1.0")
    depends_on("c", type="build")

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        with open("hello.c", "w") as f:
            f.write('#include <stdio.h>\nint main(void) { return puts("hello from a package") < 0; }\n')
        Executable(self.compiler.cc if hasattr(self, "compiler") and self.compiler else "cc")("hello.c", "-o", join_path(prefix.bin, "hello"))
