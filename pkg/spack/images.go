package spack

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/spelling"
)

// BaseImages are the images that a container: section comes down to.
type BaseImages struct {
	// Bootstrap is the image in which Spack has to be installed first, or ""
	// if Build has it.
	Bootstrap string
	// Build is the image with Spack, or "" if there is a Bootstrap.
	Build string
	// Final is the image that gets what has been installed.
	Final string
	// PackageManager is the distribution's, or "" if that is not known.
	PackageManager string
}

// A knownOS is an operating system that Spack's project has images for, or can
// be installed in.
type knownOS struct {
	name string
	// build is the repository of the image with Spack; there may be none.
	build string
	// bootstrap and final are the images of the system, where they are not
	// called by its name.
	bootstrap, final string
	manager          string
}

// knownSystems are those of Spack 1.2.
func knownSystems() []knownOS {
	same := func(name, build, image, manager string) knownOS { return knownOS{name, build, image, image, manager} }
	return []knownOS{
		same("alpine:3", "", "alpine:3", "apk"),
		same("amazonlinux:2", "", "amazonlinux:2", "yum_amazon"),
		same("fedora:40", "spack/fedora40", "docker.io/fedora:40", "dnf"),
		same("fedora:39", "spack/fedora39", "docker.io/fedora:39", "dnf"),
		same("rockylinux:9", "spack/rockylinux9", "docker.io/rockylinux:9", "dnf_epel"),
		same("rockylinux:8", "spack/rockylinux8", "docker.io/rockylinux:8", "dnf_epel"),
		same("almalinux:9", "spack/almalinux9", "quay.io/almalinuxorg/almalinux:9", "dnf_epel"),
		same("almalinux:8", "spack/almalinux8", "quay.io/almalinuxorg/almalinux:8", "dnf_epel"),
		same("centos:stream9", "spack/centos-stream9", "quay.io/centos/centos:stream9", "dnf_epel"),
		{"opensuse/leap:15", "spack/leap15", "opensuse/leap:15", "opensuse/leap:latest", "zypper"},
		{"nvidia/cuda:11.2.1", "", "nvidia/cuda:11.2.1-devel", "nvidia/cuda:11.2.1-base", "apt"},
		same("ubuntu:24.04", "spack/ubuntu-noble", "ubuntu:24.04", "apt"),
		same("ubuntu:22.04", "spack/ubuntu-jammy", "ubuntu:22.04", "apt"),
		same("ubuntu:20.04", "spack/ubuntu-focal", "ubuntu:20.04", "apt"),
	}
}

// Base says which images the section means. An os that Spack has no images
// for is an error.
func (c *Container) Base() (BaseImages, error) {
	i := c.Images
	if i.Build != "" {
		return BaseImages{Build: i.Build, Final: i.Final, PackageManager: c.OSPackages.Command}, nil
	}
	systems := knownSystems()
	at := slices.IndexFunc(systems, func(s knownOS) bool { return s.name == i.OS })
	if at < 0 {
		return BaseImages{}, i.unknownOS(systems)
	}
	s := systems[at]
	if s.build == "" || i.Spack.Version == "" {
		return BaseImages{Bootstrap: s.bootstrap, Final: s.final, PackageManager: s.manager}, nil
	}
	return BaseImages{Build: s.build + ":" + i.Spack.Version, Final: s.final, PackageManager: s.manager}, nil
}

func (i Images) unknownOS(systems []knownOS) error {
	names := make([]string, len(systems))
	for n, s := range systems {
		names[n] = s.name
	}
	e := &Error{}
	if i.at != nil {
		*e = *i.at
	}
	e.Path = "container.images.os"
	e.Message = fmt.Sprintf("container.images.os: Spack has no images for %q; name your own with build and final", i.OS)
	e.Suggestion = spelling.Closest(i.OS, names)
	return e
}

// PackageCommands are the shell commands with which Spack's recipes install
// packages of the distribution. Install wants the names behind it.
type PackageCommands struct{ Update, Install, Clean string }

// PackageManagers are the names that os_packages:command may have.
func PackageManagers() []string {
	return []string{"apt", "yum", "zypper", "apk", "yum_amazon", "dnf", "dnf_epel"}
}

// CommandsFor returns the commands of a package manager.
func CommandsFor(manager string) (PackageCommands, error) {
	const dnfClean = "rm -rf /var/cache/dnf && dnf clean all"
	const yumClean = "rm -rf /var/cache/yum && yum clean all"
	switch manager {
	case "apt":
		return PackageCommands{"apt-get -yqq update && apt-get -yqq upgrade", "apt-get -yqq install", "rm -rf /var/lib/apt/lists/*"}, nil
	case "apk":
		return PackageCommands{"apk update", "apk add --no-cache", "true"}, nil
	case "zypper":
		return PackageCommands{"zypper update -y", "zypper install -y", "rm -rf /var/cache/zypp && zypper clean -a"}, nil
	case "dnf":
		return PackageCommands{"dnf update -y", "dnf install -y", dnfClean}, nil
	case "dnf_epel":
		return PackageCommands{"dnf update -y && dnf install -y epel-release && dnf update -y", "dnf install -y", dnfClean}, nil
	case "yum":
		return PackageCommands{"yum update -y && yum install -y epel-release && yum update -y", "yum install -y", yumClean}, nil
	case "yum_amazon":
		return PackageCommands{"yum update -y && amazon-linux-extras install epel -y", "yum install -y", yumClean}, nil
	case "":
		return PackageCommands{}, errors.New("which package manager the image has is not known; say it with container:os_packages:command")
	}
	return PackageCommands{}, fmt.Errorf("%q is not a package manager that is known", manager)
}

// BuildTools are the packages of a distribution that Spack needs in an image:
// what it runs with, what it unpacks sources with, and compilers; see "System
// Prerequisites" in Spack's documentation. Spack's own images have them.
func BuildTools(manager string) []string {
	switch manager {
	case "apt":
		return strings.Fields("build-essential bzip2 ca-certificates curl file gfortran git gnupg patch python3 unzip xz-utils zstd")
	case "apk":
		return strings.Fields("bash bzip2 ca-certificates curl file findutils g++ gcc gfortran git gnupg make patch python3 tar unzip xz zstd")
	case "zypper":
		return strings.Fields("bzip2 curl file findutils gcc gcc-c++ gcc-fortran git gzip make patch python3 tar unzip which xz zstd")
	case "dnf", "dnf_epel", "yum", "yum_amazon":
		// Their images have curl, some as the package curl-minimal.
		return strings.Fields("bzip2 file findutils gcc gcc-c++ gcc-gfortran git gnupg2 hostname make patch python3 tar unzip which xz zstd")
	}
	return nil
}
