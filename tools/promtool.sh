#!/usr/bin/env bash
# Puts promtool, which checks metrics and alert rules, at $1: out of Debian's package `prometheus`, which is unpacked and not
# installed, so no root is needed and no service starts. Elsewhere: install Prometheus, so that promtool is on the PATH.
set -euo pipefail
target=$1
if ! command -v apt-get > /dev/null || ! command -v dpkg > /dev/null; then
  echo "promtool cannot be had by itself on this system: install Prometheus, which brings it" >&2
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
apt-get -qq download prometheus
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
cd - > /dev/null
mkdir -p "$(dirname "$target")"
mv "$folder/usr/bin/promtool" "$target"
