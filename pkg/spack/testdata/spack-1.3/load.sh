export ACLOCAL_PATH=/usr/share/aclocal;
export CMAKE_PREFIX_PATH=/tmp/pdibuild-testdata/store/__spack_path_placeholder__/__spack_path_placeholder__/__spack_path_/linux-x86_64/hello-tool-0.4.1-zhmuujnoovabo6wngztudwctg3toajct:/tmp/pdibuild-testdata/store/__spack_path_placeholder__/__spack_path_placeholder__/__spack_path_/linux-x86_64/hello-lib-1.2-zxxx22c2hpxc56hdtgscmqvkd57nkcdc;
export HELLO_GREETING='it'"'"'s a "day" & more';
export HELLO_PATH=/tmp/pdibuild-testdata/store/__spack_path_placeholder__/__spack_path_placeholder__/__spack_path_/linux-x86_64/hello-tool-0.4.1-zhmuujnoovabo6wngztudwctg3toajct/lib;
export MANPATH=/usr/share/man:;
export PATH=/tmp/pdibuild-testdata/store/__spack_path_placeholder__/__spack_path_placeholder__/__spack_path_/linux-x86_64/hello-tool-0.4.1-zhmuujnoovabo6wngztudwctg3toajct/bin:/tmp/pdibuild-testdata/store/__spack_path_placeholder__/__spack_path_placeholder__/__spack_path_/linux-x86_64/hello-tool-0.4.1-zhmuujnoovabo6wngztudwctg3toajct/bin:/usr/local/bin:/usr/bin:/bin;
export PKG_CONFIG_PATH=/usr/share/pkgconfig:/usr/lib/pkgconfig;
export SPACK_LOADED_HASHES=zhmuujnoovabo6wngztudwctg3toajct;
