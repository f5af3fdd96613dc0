# For those who look for one: hack/ has the scripts, and says more.
SHELL = /bin/bash
PREFIX = /usr/local

.PHONY: build test lint install

# The tags are those of hack/lib.sh.
build:
	. hack/lib.sh && find_go && build_binary

test:
	hack/test

# Linters and formatter, as CI has them.
lint:
	.ci/run --lint

install: build
	install -D -m 755 bin/pdibuild $(DESTDIR)$(PREFIX)/bin/pdibuild
