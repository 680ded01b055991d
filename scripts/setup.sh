#!/usr/bin/env bash
# Installs what Bittern's build and tests need and this machine lacks: Debian packages, Rust, the crates, a Python venv.
# Prints one line for each thing it does and does nothing when its inputs have not changed since the last success.
# With arguments it installs only those Debian packages (make format and make tidy use that). It builds nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PACKAGES=(
  build-essential cmake ninja-build ccache pkg-config git ca-certificates
  python3 python3-venv
  libgtest-dev
  libgmock-dev
  nlohmann-json3-dev
  libcli11-dev
  libspdlog-dev
  libfmt-dev
  libedit-dev
  libinih-dev
  libboost-dev libssl-dev
)
BRIDGE=src/text/bridge                      # the Rust crate
REQUIREMENTS=tests/e2e/requirements.txt     # the client tests
RUST_MIN=1.85                               # used until the crate states its own rust-version
STAMP=build/.setup-stamp
export PATH="$PATH:$HOME/.cargo/bin"

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

# Prints those of the given packages that dpkg does not know as installed.
missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

apt_updated=no
apt_update() {
  [ "$apt_updated" = yes ] && return
  say "refreshing the package lists"
  as_root apt-get update -qq
  apt_updated=yes
}

# install_packages WHY PACKAGE...
install_packages() {
  local why=$1 log
  shift
  command -v apt-get >/dev/null || die "$why needs: $*. Install them with this system's package manager and run again"
  [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || die "$why needs: $*. Run scripts/setup.sh as root, or install sudo"
  apt_update
  say "installing $why: $*"
  log=$(mktemp)
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$log" 2>&1; then
    cat "$log" >&2
    die "apt-get could not install: $*"
  fi
  rm -f "$log"
}

ensure_packages() {
  local missing
  missing=$(missing_packages "$@")
  # shellcheck disable=SC2086  # a list of package names
  [ -z "$missing" ] || install_packages "Debian packages" $missing
}

# at_least HAVE WANT: whether version HAVE is not older than WANT.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

rust_needed() {
  local stated
  stated=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$BRIDGE/Cargo.toml")
  echo "${stated:-$RUST_MIN}"
}

rust_is_new_enough() {
  command -v cargo >/dev/null && command -v rustc >/dev/null &&
    at_least "$(cargo --version | cut -d' ' -f2)" "$1" && at_least "$(rustc --version | cut -d' ' -f2)" "$1"
}

# The version of a package that apt would install, without its Debian revision; empty when there is none.
candidate_version() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9][0-9.]*\).*/\1/p'; }

# Debian 12's cargo is 0.66 (Rust 1.63), too old for the tokenizer crates. Its security archive carries a current
# toolchain for building browsers, cargo-web and rustc-web; newer releases have a new enough cargo, or rustup.
ensure_rust() {
  local need package
  need=$(rust_needed)
  rust_is_new_enough "$need" && return
  command -v apt-get >/dev/null || die "Rust $need or newer is needed; install it from https://rustup.rs and run again"
  apt_update
  for package in cargo-web cargo; do
    if at_least "$(candidate_version "$package")" "$need"; then
      install_packages "Rust" "$package" "${package/cargo/rustc}"
      break
    fi
  done
  if ! rust_is_new_enough "$need" && [ -n "$(candidate_version rustup)" ]; then
    install_packages "Rust" rustup
    say "downloading the stable Rust toolchain with rustup"
    rustup --quiet default stable
  fi
  hash -r
  rust_is_new_enough "$need" ||
    die "no Rust $need or newer in this system's packages (found: $(cargo --version 2>/dev/null || echo none)); " \
      "enable bookworm-security, or install it from https://rustup.rs and put cargo first in PATH"
}

ensure_crates() {
  say "fetching the crates of $BRIDGE"
  cargo fetch --quiet --locked --manifest-path "$BRIDGE/Cargo.toml"
}

ensure_venv() {
  local wanted
  wanted=$(sha256sum <"$REQUIREMENTS")
  [ "$(cat .venv/.requirements 2>/dev/null)" = "$wanted" ] && return
  say "installing $REQUIREMENTS into .venv"
  [ -x .venv/bin/python ] || python3 -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$REQUIREMENTS"
  echo "$wanted" >.venv/.requirements
}

# Everything that decides what there is to do: this script, the crates, the Python packages, and the machine.
inputs_hash() {
  local file
  {
    for file in scripts/setup.sh "$BRIDGE/Cargo.toml" "$BRIDGE/Cargo.lock" "$REQUIREMENTS" /etc/machine-id /etc/debian_version; do
      if [ -r "$file" ]; then cat "$file"; fi
    done
    uname -n
    if [ -x .venv/bin/python ]; then echo venv; fi
  } | sha256sum
}

if [ $# -gt 0 ]; then
  ensure_packages "$@"
  exit
fi
[ "$(cat "$STAMP" 2>/dev/null)" = "$(inputs_hash)" ] && exit
if command -v dpkg-query >/dev/null; then
  ensure_packages "${PACKAGES[@]}"
else
  say "this is not a Debian system: needed are the equivalents of ${PACKAGES[*]}"
fi
if [ -f "$BRIDGE/Cargo.toml" ]; then
  ensure_rust
  ensure_crates
fi
[ -f "$REQUIREMENTS" ] && ensure_venv
mkdir -p build
inputs_hash >"$STAMP"
