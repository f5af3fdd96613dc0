from spack.package import *


class HelloCompiled(Package):
    """A program that is compiled."""

    homepage = "https://example.org/hello"
    has_code = False

    version("1.0")

    depends_on("c", type="build")
    depends_on("hello-lib", type="run")

    phases = ["edit", "build", "install"]

    def edit(self, spec, prefix):
        with open("hello.c", "w") as f:
            f.write("int main(void) { return 0; }\n")

    def build(self, spec, prefix):
        Executable(spack_cc)("hello.c", "-o", "hello")

    def install(self, spec, prefix):
        mkdirp(prefix.bin)
        install("hello", prefix.bin)
