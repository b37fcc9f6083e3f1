# Where builds go: sourced by the other scripts. Outside the checkout, so that
# a clean checkout builds on what the last one left.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cumulet_cache=${XDG_CACHE_HOME:-$HOME/.cache}/cumulet
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cumulet_cache/target}
export CUMULET_BIN=$CARGO_TARGET_DIR/release/cumulet
export CUMULET_ROUNDTRIP=$CARGO_TARGET_DIR/debug/examples/roundtrip
export CUMULET_TINY_IMAGE=$cumulet_cache/guests/tiny.qcow2
export CUMULET_DEBIAN_IMAGE=$cumulet_cache/guests/debian.qcow2
