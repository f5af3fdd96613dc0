from spack.package import *


class HelloLib(Package):
    """A library that is a text file."""

    homepage = "https://example.org/hello"
    has_code = False

    version("1.2")
    version("1.1")

    variant("shared", default=True, description="Says that it is shared")

    depends_on("hello-system", type="link")

    def install(self, spec, prefix):
        mkdirp(prefix.lib)
        with open(join_path(prefix.lib, "hello.txt"), "w") as f:
            f.write("hello\n")
