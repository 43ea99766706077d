#!/usr/bin/env bash
# fetch-consul.sh DIR: puts a real Consul at DIR/consul, without touching the machine's own package state.
#
# Debian packaged Consul up to "bullseye" (1.8.7). The package is taken from the mirror that this machine's apt already
# uses, verified by the archive's own keyring, and unpacked; nothing is installed. CONSUL_DEB may name a copy of a
# package to fall back on.
set -euo pipefail

dir=$(mkdir -p "$1" && cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

unpack() {
  dpkg-deb -x "$1" "$work/unpacked" && install -m 0755 "$work/unpacked/usr/bin/consul" "$dir/consul"
  "$dir/consul" version | sed -n 1p >&2
}

# The first Debian mirror that apt is set up with, in either of apt's two formats.
mirror() {
  local from=(/etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list)
  # Which of these exist differs from machine to machine.
  { cat "${from[@]}" 2>/dev/null || true; } | awk '
    $1 == "URIs:" { for (i = 2; i <= NF; i++) if ($i ~ /\/debian\/?$/) print $i }
    $1 == "deb"   { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z+]+:.*\/debian\/?$/) print $i }' | sed -n 1p
}

download() {
  local mirror
  mirror=$(mirror) && [ -n "$mirror" ] && command -v apt-get >/dev/null || return 1
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bullseye main" >"$work/sources.list"
  cat >"$work/apt.conf" <<EOF
Dir::State::Lists "$work/lists";
Dir::Cache "$work/cache";
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
EOF
  (
    cd "$work"
    export APT_CONFIG=$work/apt.conf
    # Root's apt drops to a user of its own, who must be able to write here.
    chmod 0755 "$work" && { chown -R _apt "$work/lists" "$work/cache" 2>/dev/null || true; }
    apt-get -q update >&2 && apt-get -q download consul >&2
  )
}

if download; then
  unpack "$work"/consul_*.deb
elif [ -f "${CONSUL_DEB:-}" ]; then
  unpack "$CONSUL_DEB"
else
  echo "no package of Consul to be had" >&2
  exit 69
fi
