if [ ! -z ${SPACK_ENV+x} ]; then
unset SPACK_ENV; export SPACK_ENV;
fi;
if [ ! -z ${SPACK_ENV_VIEW+x} ]; then
unset SPACK_ENV_VIEW; export SPACK_ENV_VIEW;
fi;
alias despacktivate > /dev/null 2>&1 && unalias despacktivate;
if [ ! -z ${SPACK_OLD_PS1+x} ]; then
    if [ "$SPACK_OLD_PS1" = '$$$$' ]; then
        unset PS1; export PS1;
    else
        export PS1="$SPACK_OLD_PS1";
    fi;
    unset SPACK_OLD_PS1; export SPACK_OLD_PS1;
fi;
export SPACK_ENV=/tmp/pdibuild-testdata/env;
export SPACK_ENV_VIEW=default;
alias despacktivate='spack env deactivate';
export ACLOCAL_PATH=/usr/share/aclocal:/tmp/pdibuild-testdata/env/.spack-env/view/share/aclocal;
export CMAKE_PREFIX_PATH=/tmp/pdibuild-testdata/env/.spack-env/view;
export HELLO_GREETING='it'"'"'s a "day" & more';
export HELLO_PATH=/tmp/pdibuild-testdata/env/.spack-env/view/lib;
export MANPATH=/usr/share/man:/tmp/pdibuild-testdata/env/.spack-env/view/share/man:/tmp/pdibuild-testdata/env/.spack-env/view/man:;
export PATH=/tmp/pdibuild-testdata/env/.spack-env/view/bin:/usr/local/bin:/usr/bin:/bin;
export PKG_CONFIG_PATH=/usr/share/pkgconfig:/usr/lib/pkgconfig:/tmp/pdibuild-testdata/env/.spack-env/view/share/pkgconfig:/tmp/pdibuild-testdata/env/.spack-env/view/lib64/pkgconfig:/tmp/pdibuild-testdata/env/.spack-env/view/lib/pkgconfig;
