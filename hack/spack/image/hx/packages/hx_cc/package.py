from spack_repo.builtin.build_systems.generic import Package
from spack.package import *


class HxCc(Package):
    """Sets a compiler's variables."""

    homepage = "https://example.org"
    has_code = False
    version("1.0")

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        with open(join_path(prefix.bin, "hxcc"), "w") as f:
            f.write("#!/bin/sh\necho hxcc\n")
        set_executable(join_path(prefix.bin, "hxcc"))

    def setup_run_environment(self, env):
        env.set("CC", join_path(self.prefix.bin, "hxcc"))
        env.set("HX_FLAGS", "-spack")
        env.set("OMP_NUM_THREADS", "4")
        env.set("SPACK_STACK_HX", "mine")
        env.prepend_path("HX_PATH", self.prefix.bin)
