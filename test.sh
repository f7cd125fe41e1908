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
-long) export CLUSTERCA_LONG=1; timeout=55m ;;
*) echo "usage: ./test.sh [-long]" >&2; exit 2 ;;
esac

say() { printf '\n== %s\n' "$*"; }
fail() { echo "test.sh: $*" >&2; exit 1; }

command -v go >/dev/null || fail "go is missing: install Go 1.26 or newer from your distribution or go.dev"

# --- what is missing --------------------------------------------------------------------------------------------------
cache="${XDG_CACHE_HOME:-$HOME/.cache}/clusterca/debian"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# missing names the Debian packages of what is not here. The C compiler is for the race detector, and without the C
# library's headers it can build nothing; openssl and certtool judge our certificates; the roots are for Go's downloads.
missing() {
  local cc
  cc=$(go env CC)
  if ! command -v "$cc" >/dev/null; then
    echo gcc libc6-dev
  elif ! printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | "$cc" -x c -o "$scratch/a.out" - 2>/dev/null; then
    echo libc6-dev
  fi
  command -v openssl >/dev/null || echo openssl
  command -v certtool >/dev/null || echo gnutls-bin
  # Only Debian is known to keep them in this package alone.
  if [ -e /etc/debian_version ] && [ ! -e /etc/ssl/certs/ca-certificates.crt ] && [ -z "${SSL_CERT_DIR:-}${SSL_CERT_FILE:-}" ]; then
    echo ca-certificates
  fi
}

# use_cache puts what was unpacked on the paths of programs, libraries and headers.
use_cache() {
  local lib usr="$cache/usr"
  [ -d "$usr" ] || return 0
  export PATH="$PATH:$usr/bin" C_INCLUDE_PATH="$usr/include"
  for lib in "$usr"/lib/*-linux-gnu "$cache"/lib/*-linux-gnu; do
    [ -d "$lib" ] || continue
    export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$lib" LIBRARY_PATH="${LIBRARY_PATH:+$LIBRARY_PATH:}$lib"
    C_INCLUDE_PATH="$C_INCLUDE_PATH:$usr/include/${lib##*/}"
  done
  [ ! -e "$cache/etc/ssl/openssl.cnf" ] || export OPENSSL_CONF="$cache/etc/ssl/openssl.cnf"
  [ -e /etc/ssl/certs/ca-certificates.crt ] || [ ! -d "$usr/share/ca-certificates/mozilla" ] || export SSL_CERT_DIR="$usr/share/ca-certificates/mozilla"
}

# unpack gets packages, with whatever they need and the system lacks, into the cache; apt's lists go there too.
unpack() {
  local deb own=(-qq -o "Dir::State::lists=$cache/lists" -o "Dir::Cache=$cache/apt" -o Debug::NoLocking=1)
  # Called as a condition, where a failing command ends nothing by itself.
  mkdir -p "$cache/lists/partial" "$cache/apt/archives/partial" &&
    apt-get "${own[@]}" update &&
    apt-get "${own[@]}" install --download-only -y --no-install-recommends "$@" >/dev/null || return 1
  for deb in "$cache"/apt/archives/*.deb; do
    # Never a second C library: the system's loader would not fit it.
    case "$deb" in */libc6_*) ;; *) dpkg -x "$deb" "$cache" || return 1 ;; esac
  done
  # The linker's scripts name their archives by absolute paths.
  sed -i "s| /usr/lib/| $cache/usr/lib/|g" "$cache"/usr/lib/*-linux-gnu/lib[cm].so 2>/dev/null || true
}

lack=$(missing | xargs)
if [ -n "$lack" ]; then
  say "missing: $lack"
  use_cache
  # shellcheck disable=SC2086 # a list of names
  if [ -z "$(missing)" ]; then
    echo "found in $cache"
  elif ! command -v apt-get >/dev/null; then
    echo "install your system's counterparts of these Debian packages: $lack"
  elif [ "$(id -u)" = 0 ]; then
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $lack >/dev/null; } || echo "apt-get failed"
  else
    if unpack $lack; then use_cache; echo "unpacked into $cache"; else echo "apt-get failed"; fi
  fi
fi
lack=$(missing | xargs)
linter="go run $staticcheck"
$linter -version >/dev/null 2>"$scratch/why" || { cat "$scratch/why"; linter=true; lack="${lack:+$lack }staticcheck"; }
if [ -n "$lack" ]; then
  [ -z "${CI:-}" ] || fail "with CI set nothing may be missing: $lack"
  echo "what needs these is left out: $lack"
fi
race=-race
case "$lack" in *libc6-dev*) race=; echo "without a C compiler there is no race detector" ;; esac

# --- checks -----------------------------------------------------------------------------------------------------------
modules=$(find . -name go.mod -not -path './.git/*' -exec dirname {} \; | sort)
say "gofmt, vet, staticcheck"
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || fail "gofmt would change: $unformatted"
for module in $modules; do
  (cd "$module" && go vet ./... && $linter ./...) || fail "checks failed in $module"
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
    # The counter sees each module end, so that one whose tests never began is not taken for one without tests.
    (cd "$module" && go test $race -json -timeout "$timeout" ./...) && status=0 || status=$?
    printf '{"Action":"module","Package":"%s","Status":%d}\n' "$module" "$status"
  done
}
run | go run ./internal/testcount
