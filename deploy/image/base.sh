#!/bin/sh
# A base for the build stage where no registry can be reached: Debian's Python from Debian's mirror, by mmdebstrap.
# `base.sh NAME` commits it with podman or buildah; then: make image IMAGE_FLAGS="--build-arg BASE=NAME".
set -eu
name=${1:-localhost/sidecar-base}
for tool in mmdebstrap buildah; do
  command -v $tool > /dev/null || { echo "$tool is needed (Debian: apt-get install $tool)" >&2; exit 1; }
done
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$place/base.tar"
container=$(buildah from scratch)
buildah add --quiet "$container" "$place/base.tar" /
buildah commit --quiet --rm "$container" "$name"
