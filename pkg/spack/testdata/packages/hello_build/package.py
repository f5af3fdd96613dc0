from spack.package import *


class HelloBuild(Package):
    """What is needed to build, and not to run."""

    homepage = "https://example.org/hello"
    has_code = False

    version("3.0")

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        with open(join_path(prefix.bin, "hello-build"), "w") as f:
            f.write("#!/bin/sh\n")
