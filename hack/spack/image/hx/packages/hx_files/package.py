import os

from spack_repo.builtin.build_systems.generic import Package
from spack.package import *


class HxFiles(Package):
    """A program that is setuid, and one with data behind it."""

    homepage = "https://example.org"
    has_code = False
    version("1.0")

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        for name in ("hxdata", "hxsuid"):
            with open("main.c", "w") as f:
                f.write("int main(void) { return 0; }\n")
            Executable("/usr/bin/gcc")("-g", "-o", join_path(prefix.bin, name), "main.c")
        with open(join_path(prefix.bin, "hxdata"), "ab") as f:
            f.write(b"data behind it")
        os.chmod(join_path(prefix.bin, "hxsuid"), 0o4755)

    def setup_run_environment(self, env):
        env.set("HX_FILES_HOME", self.prefix)
