# Shared by ./quickstart and ./check: saying things, and installing what this machine lacks.
# shellcheck shell=bash

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  BOLD=$'\e[1m' PLAIN=$'\e[0m'
else
  BOLD='' PLAIN=''
fi

heading() { printf '\n%s== %s ==%s\n' "$BOLD" "$*" "$PLAIN"; }
say() { printf '%s\n' "-- $*"; }
fail() {
  printf '%s\n' "error: $*" >&2
  exit 1
}

# need_package PACKAGE WHY COMMAND...: installs a Debian or Ubuntu package unless COMMAND finds it there already.
need_package() {
  local package=$1 why=$2
  shift 2
  if "$@" >/dev/null 2>&1; then return; fi
  command -v apt-get >/dev/null || fail "install $package ($why) with your system's package manager"
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
    fail "$package is missing ($why), and this is not root and has no sudo; as root, run: apt-get install $package"
  say "installing $package with apt: $why"
  quiet_apt install -y -qq --no-install-recommends "$package" 2>/dev/null ||
    { quiet_apt update -qq && quiet_apt install -y -qq --no-install-recommends "$package"; } ||
    fail "could not install $package; as root, run: apt-get install $package"
  "$@" >/dev/null 2>&1 || fail "$package is installed, yet this still fails: $*"
}

# apt-get as root, without its chatter. Only root and sudo are asked for: need_package has looked.
quiet_apt() {
  if [ "$(id -u)" = 0 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get "$@" >/dev/null
  else
    sudo DEBIAN_FRONTEND=noninteractive apt-get "$@" >/dev/null
  fi
}

have_softhsm() {
  local file
  for file in "${SOFTHSM2_MODULE:-}" /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so; do
    if [ -n "$file" ] && [ -e "$file" ]; then return 0; fi
  done
  return 1
}
