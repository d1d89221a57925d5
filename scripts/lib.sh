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
  say "installing $package with apt: $why"
  as_root apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
    { as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends "$package" >/dev/null; } ||
    fail "could not install $package"
  "$@" >/dev/null 2>&1 || fail "$package is installed, yet this still fails: $*"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    DEBIAN_FRONTEND=noninteractive "$@"
  elif command -v sudo >/dev/null; then
    sudo DEBIAN_FRONTEND=noninteractive "$@"
  else
    fail "not root and no sudo; as root, run: $*"
  fi
}

have_softhsm() {
  local file
  for file in "${SOFTHSM2_MODULE:-}" /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so; do
    if [ -n "$file" ] && [ -e "$file" ]; then return 0; fi
  done
  return 1
}
