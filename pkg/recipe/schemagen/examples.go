package main

// wholeExample is a small recipe. A test parses it and the examples below.
const wholeExample = `version: 1
name: registry.example.org/site/hello
stages:
  - name: build
    from: docker.io/library/gcc:15
    steps:
      - copy: hello.c
        to: /src/
      - run: gcc -O2 -static -o /hello /src/hello.c
  - name: final
    from: scratch
    steps:
      - copy: /hello
        from: build
        to: /hello
      - check: [/hello]
    entrypoint: [/hello]
`

// examples are steps, by their verb. They may refer to the stage build, the
// secret token and the argument VERSION.
func examples() map[string]string {
	return map[string]string{
		"run": `  - run: apt-get update && apt-get install -y libopenmpi3
  - run: [make, install]
    workdir: /src
    network: none
  - run: curl -H @/run/secrets/token https://example.org/data.tar | tar -xC /srv
    secrets: [token]
    mounts:
      - {type: cache, target: /root/.cache}
      - {type: cache, target: /opt/cache, id: site-app, owner: app}
      - {type: bind, source: patches, target: /patches}
`,
		"copy": `  - copy: ["*.py", data]
    to: /opt/app/
    exclude: ["*.pyc"]
  - copy: /usr/local/bin/app
    from: build
    to: /usr/local/bin/app
    owner: root:root
    mode: 0755
  - copy: https://example.org/app-${VERSION}.tar.gz
    to: /srv/app.tar.gz
    checksum: sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
`,
		"file": `  - file: /etc/profile.d/app.sh
    mode: 0644
    content: |
      export APP_HOME=/opt/app
`,
		"env": `  - env:
      PATH: /opt/app/bin:${PATH}
      APP_VERSION: ${VERSION}
`,
		"workdir": `  - workdir: /opt/app
`,
		"user": `  - user: nobody
  - user: {name: pdi, uid: 1001, home: /opt/pdi}
`,
		"check": `  - check: app --version
  - check: [/usr/bin/id, -u]
    user: root
`,
		"spack": `  - spack:
      environment: spack.yaml
      buildcache: {push: [site-mirror], password: token}
      strip: true
  - spack:
      name: tools
      environment:
        spack:
          specs: [hdf5@1.14 +mpi]
          concretizer: {unify: true}
`,
		"environment": `  - environment: build
`,
	}
}
