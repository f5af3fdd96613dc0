from spack.package import *


class HelloNeedsBroken(Package):
    """A package that cannot be built because of another."""

    homepage = "https://example.org/hello"
    has_code = False

    version("1.0")

    depends_on("hello-broken", type="link")

    def install(self, spec, prefix):
        mkdirp(prefix.lib)
