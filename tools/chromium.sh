#!/bin/sh
# Prints the path of a Chromium for tests of web pages: $CHROMIUM, or the one in
# PATH. If there is none, installs Debian's first.
set -eu

find_chromium() {
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" && return
  done
  return 1
}

fail() {
  echo "There is no Chromium, and $1. Install Chromium or Chrome, and set CHROMIUM to its path if it is not in PATH." >&2
  exit 1
}

if [ -n "${CHROMIUM:-}" ]; then
  command -v "$CHROMIUM" || { echo "CHROMIUM is $CHROMIUM, which is no program." >&2; exit 1; }
  exit
fi
find_chromium && exit
command -v apt-get >/dev/null || fail "this system has no apt-get to install it with"
if [ "$(id -u)" = 0 ]; then
  as_root=""
elif sudo -n true 2>/dev/null; then
  as_root="sudo -n"
else
  fail "apt-get needs root, or sudo without a password"
fi
echo "Installing Chromium…" >&2
{
  $as_root apt-get update --quiet=2
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends chromium
} >&2 || fail "apt-get could not install it"
find_chromium || fail "apt-get installed none"
