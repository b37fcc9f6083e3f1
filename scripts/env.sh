# shellcheck shell=bash
# Where builds go, and cargo where a login shell would find it: sourced by the
# other scripts. Builds are outside the checkout, so that a clean checkout
# builds on what the last one left.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
# rustup puts it into the home directory; sudo's PATH knows nothing of that.
if ! command -v cargo >/dev/null; then
    for cargo_home in "$HOME" ${SUDO_USER:+"$(getent passwd "$SUDO_USER" | cut -d : -f 6)"}; do
        [ ! -x "$cargo_home/.cargo/bin/cargo" ] || { PATH=$PATH:$cargo_home/.cargo/bin && break; }
    done
    unset cargo_home
fi
cumulet_cache=${XDG_CACHE_HOME:-$HOME/.cache}/cumulet
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cumulet_cache/target}
export CUMULET_BIN=$CARGO_TARGET_DIR/release/cumulet
export CUMULET_ROUNDTRIP=$CARGO_TARGET_DIR/debug/examples/roundtrip
export CUMULET_TINY_IMAGE=$cumulet_cache/guests/tiny.qcow2
export CUMULET_BENCH_IMAGE=$cumulet_cache/guests/bench.qcow2
export CUMULET_DEBIAN_IMAGE=$cumulet_cache/guests/debian.qcow2
