from spack.package import *


class HelloTool(Package):
    """A program that needs a library."""

    homepage = "https://example.org/hello"
    has_code = False

    version("0.4.1")

    variant("loud", default=False, description="Shouts")
    variant("languages", default="de,fr", values=("de", "en", "fr"), multi=True, description="What it speaks")

    depends_on("hello-lib", type=("build", "link", "run"))
    depends_on("hello-build", type="build")

    def setup_run_environment(self, env):
        env.set("HELLO_GREETING", "it's a \"day\" & more")
        env.prepend_path("HELLO_PATH", self.prefix.lib)

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        with open(join_path(prefix.bin, "hello"), "w") as f:
            f.write("#!/bin/sh\necho hello\n")
