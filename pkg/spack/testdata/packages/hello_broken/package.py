from spack.package import *


class HelloBroken(Package):
    """A package whose second phase fails."""

    homepage = "https://example.org/hello"
    has_code = False

    version("6.6")

    phases = ["configure", "install"]

    def configure(self, spec, prefix):
        print("checking whether it works... yes")

    def install(self, spec, prefix):
        Executable("/bin/sh")("-c", "echo making; echo 'hello.c:3:1: error: nothing works' >&2; exit 2")
