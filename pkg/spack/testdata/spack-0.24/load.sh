export ACLOCAL_PATH=/usr/share/aclocal:/usr/share/aclocal;
export CMAKE_PREFIX_PATH=/tmp/pdibuild-testdata/store/__spack_path_placeholder__/__spack_path_placeholder__/__spack_path_/linux-debian12-x86_64/gcc-12.2.0/hello-tool-0.4.1-er3cihir6lqbrc3qpryocuovgfvbharf:/tmp/pdibuild-testdata/store/__spack_path_placeholder__/__spack_path_placeholder__/__spack_path_/linux-debian12-x86_64/gcc-12.2.0/hello-lib-1.2-sig5mp5tdqfjcalp5u34ejrol6fft5t6:/tmp/pdibuild-testdata/store/__spack_path_placeholder__/__spack_path_placeholder__/__spack_path_/linux-debian12-x86_64/gcc-12.2.0/gcc-runtime-12.2.0-tchodvtaqxzufupz6ljb42ud3pbs6vew;
export HELLO_GREETING='it'"'"'s a "day" & more';
export HELLO_PATH=/tmp/pdibuild-testdata/store/__spack_path_placeholder__/__spack_path_placeholder__/__spack_path_/linux-debian12-x86_64/gcc-12.2.0/hello-tool-0.4.1-er3cihir6lqbrc3qpryocuovgfvbharf/lib;
export MANPATH=/usr/share/man:/usr/share/man:;
export PATH=/tmp/pdibuild-testdata/store/__spack_path_placeholder__/__spack_path_placeholder__/__spack_path_/linux-debian12-x86_64/gcc-12.2.0/hello-tool-0.4.1-er3cihir6lqbrc3qpryocuovgfvbharf/bin:/tmp/pdibuild-testdata/store/__spack_path_placeholder__/__spack_path_placeholder__/__spack_path_/linux-debian12-x86_64/gcc-12.2.0/hello-tool-0.4.1-er3cihir6lqbrc3qpryocuovgfvbharf/bin:/usr/local/bin:/usr/bin:/bin;
export PKG_CONFIG_PATH=/usr/share/pkgconfig:/usr/lib/pkgconfig:/usr/share/pkgconfig:/usr/lib/pkgconfig;
export SPACK_LOADED_HASHES=er3cihir6lqbrc3qpryocuovgfvbharf;
