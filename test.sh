#!/usr/bin/env bash
# All tests, in every module, with the race detector. "./test.sh -long" is what does not fit into ten minutes.
# It first gets what is missing: as root by apt-get; without root it unpacks Debian's packages into a cache directory of
# yours; elsewhere it names them and leaves those tests out. With CI set, anything missing is a failure.
set -euo pipefail
cd "$(dirname "$0")"
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
timeout=9m
case "${1:-}" in
"") ;;
-long) export CLUSTERCA_LONG=1; timeout=58m ;;
*) echo "usage: ./test.sh [-long]" >&2; exit 2 ;;
esac

say() { printf '\n== %s\n' "$*"; }
fail() { echo "test.sh: $*" >&2; exit 1; }

command -v go >/dev/null || fail "go is missing: install Go 1.26 or newer from your distribution or go.dev"

# --- what is missing --------------------------------------------------------------------------------------------------
# tool:package, for Debian. The C compiler is for the race detector; the others judge our certificates.
needs=(gcc:gcc gcc:libc6-dev openssl:openssl certtool:gnutls-bin)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/clusterca/debian"

# use_cache puts what was unpacked on the paths.
use_cache() {
  export PATH="$PATH:$cache/usr/bin"
  local lib
  for lib in "$cache"/usr/lib/*-linux-gnu "$cache"/lib/*-linux-gnu; do
    [ -d "$lib" ] && export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$lib"
  done
  return 0
}

missing() {
  local need
  for need in "${needs[@]}"; do
    command -v "${need%%:*}" >/dev/null || echo "${need##*:}"
  done
  # A compiler without the C library's headers cannot link the race detector.
  if command -v gcc >/dev/null && ! echo 'int main(void){return 0;}' | gcc -x c -o /dev/null - 2>/dev/null; then
    echo libc6-dev
  fi
}

# unpack gets packages, and those that they need and the system lacks, without root and without touching the system.
unpack() {
  local all package
  mkdir -p "$cache/debs"
  all=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$@" | grep '^[a-z0-9]' | sort -u)
  for package in $all; do
    dpkg -s "$package" >/dev/null 2>&1 && continue
    (cd "$cache/debs" && apt-get download -qq "$package" 2>/dev/null) || true
  done
  for package in "$cache"/debs/*.deb; do
    [ -e "$package" ] && dpkg -x "$package" "$cache"
  done
  use_cache
}

use_cache
lack=$(missing | sort -u | tr '\n' ' ')
if [ -n "${lack// /}" ]; then
  say "missing: $lack"
  if ! command -v apt-get >/dev/null; then
    echo "install the counterparts of these Debian packages: $lack"
  elif [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $lack >/dev/null
  else
    # shellcheck disable=SC2086
    unpack $lack
  fi
fi
lack=$(missing | sort -u | tr '\n' ' ')
if [ -n "${lack// /}" ]; then
  [ -z "${CI:-}" ] || fail "with CI set nothing may be missing: $lack"
  echo "tests that need these are left out: $lack"
fi
race=-race
command -v gcc >/dev/null || { race=; echo "without a C compiler there is no race detector"; }

# --- checks -----------------------------------------------------------------------------------------------------------
modules=$(find . -name go.mod -not -path './.git/*' -exec dirname {} \; | sort)
say "gofmt, vet, staticcheck"
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || fail "gofmt would change: $unformatted"
for module in $modules; do
  (cd "$module" && go vet ./... && go run "$staticcheck" ./...) || fail "checks failed in $module"
done

say "builds: alone, without cgo, for other systems"
GOWORK=off go build ./...
CGO_ENABLED=0 go build ./...
for os in windows darwin freebsd; do
  GOOS=$os CGO_ENABLED=0 go vet ./fingerprint ./keystore ./ca ./verify ./rotation/...
done

say "a consumer of package ca alone"
(cd internal/consumer && GOWORK=off go build ./...)
count=$(cd internal/consumer && GOWORK=off go list -m all | wc -l)
[ "$count" -le 10 ] || fail "a consumer of ca has $count modules in its graph, at most 10"
echo "$count modules in its graph"

# --- tests ------------------------------------------------------------------------------------------------------------
say "tests${race:+ with the race detector}${CLUSTERCA_LONG:+, the long ones too}"
run() {
  for module in $modules; do
    (cd "$module" && go test $race -json -timeout "$timeout" ./...) || true
  done
}
run | go run ./internal/testcount
