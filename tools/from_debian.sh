#!/usr/bin/env bash
# Puts a program out of a Debian package at $3: $1 is the package, $2 the program's path in it. The package is unpacked and
# not installed, so no root is needed and no service starts. Elsewhere: install what has it, so that it is on the PATH.
set -euo pipefail
package=$1 path=$2 target=$3
if ! command -v apt-get > /dev/null || ! command -v dpkg > /dev/null; then
  echo "$(basename "$target") cannot be had by itself on this system: install what brings it ($package of Debian)" >&2
  exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The package lists of our own: those of the system may be absent or old, and renewing them takes root.
mkdir -p "$folder/state/lists/partial" "$folder/cache/archives/partial"
printf 'Dir::State "%s";\nDir::Cache "%s";\nAPT::Sandbox::User "";\n' "$folder/state" "$folder/cache" > "$folder/apt.conf"
export APT_CONFIG="$folder/apt.conf"
cd "$folder"
apt-get -qq update
apt-get -qq download "$package"
dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x "./$path"
cd - > /dev/null
mkdir -p "$(dirname "$target")"
mv "$folder/$path" "$target"
