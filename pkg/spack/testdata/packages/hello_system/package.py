from spack.package import *


class HelloSystem(Package):
    """A package of the system."""

    homepage = "https://example.org/hello"
    has_code = False

    version("2.1")
