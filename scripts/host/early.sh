# shellcheck shell=bash
# What can fail before anything is installed or compiled, checked first: each
# failure is one sentence with its cure. Sourced, never run.

# What a first build leaves in the target directory, and another one adds; what
# cargo keeps of the crates' sources; what the images of a cloud and its first
# guests take. MiB, measured, with a third on top.
first_build_mib=3500
next_build_mib=1000
crates_mib=1000
state_mib=2048

check_root() {
    [ "$(id -u)" = 0 ] || fail "the cloud makes network namespaces and guests, so run this as root: sudo make run"
}

# check_cargo : cargo and the toolchain that rust-toolchain.toml names.
check_cargo() {
    local wanted have
    wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    command -v cargo >/dev/null ||
        fail "there is no cargo here: curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain $wanted"
    if command -v rustup >/dev/null && ! rustup toolchain list 2>/dev/null | grep -q "^$wanted"; then
        say "fetching Rust $wanted; a minute or so"
        rustup toolchain install "$wanted" --no-self-update --profile minimal --component clippy,rustfmt >&2 ||
            fail "rustup could not fetch Rust $wanted, see above; when the network is there: rustup toolchain install $wanted"
    fi
    have=$(rustc --version 2>&1) || fail "rustc does not run here ($(tail -n 1 <<<"$have")): rustup toolchain install $wanted"
    have=$(awk '{ print $2 }' <<<"$have")
    [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ] ||
        fail "rustc is $have and $wanted is needed (Debian's own is older); get it from https://rustup.rs: curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y --default-toolchain $wanted"
}

# own_address ADDRESS : whether it is of this host, as far as that can be known already.
own_address() {
    ! command -v ip >/dev/null || ip -o address show | awk -v wanted="$1" '{ sub(/\/.*/, "", $4) } $4 == wanted { found = 1 } END { exit !found }'
}

# is_answered HOST PORT : whether a connection is accepted. Hardly anything is installed yet that could ask the kernel.
is_answered() {
    timeout 2 bash -c "exec 3<>'/dev/tcp/$1/$2'" 2>/dev/null
}

# check_listen ADDRESS:PORT : that it can be listened on.
check_listen() {
    local host=${1%:*} port=${1##*:} who
    [[ $1 =~ ^[][0-9a-zA-Z.:-]+$ && $1 == *:* && $port =~ ^[0-9]+$ && $port -le 65535 && -n $host ]] ||
        fail "LISTEN=$1 is no address with a port, as in LISTEN=127.0.0.1:8773"
    host=${host#[}
    host=${host%]}
    case $host in
    0.0.0.0) host=127.0.0.1 ;;
    ::) host=::1 ;;
    127.* | ::1 | localhost) ;;
    *) own_address "$host" || fail "LISTEN=$1: this host has no address $host (ip -br address lists them; 0.0.0.0 is all of them)" ;;
    esac
    [ "$port" != 0 ] && is_answered "$host" "$port" || return 0
    who=$(ss -ltnpH "sport = :$port" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/ by \1 (process \2)/p' | head -n 1) || true
    fail "port $port is in use$who: end that, or choose another one: LISTEN=${1%:*}:$((port < 65535 ? port + 1 : port - 1)) make run"
}

# check_state_dir DIR : that libvirt's user will reach it.
check_state_dir() {
    local at mode
    at=$(realpath -m -- "$1")
    while [ "$at" != / ]; do
        at=$(dirname -- "$at")
        [ -d "$at" ] || continue
        mode=$(stat -L -c '%a' -- "$at")
        [ $((8#$mode & 1)) = 1 ] ||
            fail "STATE_DIR=$1 is below $at, which has mode $mode, so QEMU (the user libvirt-qemu) could not open its guests' disks: choose another place, as STATE_DIR=/var/lib/cumulet, or chmod o+x $at"
    done
}

# The nearest directory above a path that is there already.
nearest() {
    local at
    at=$(realpath -m -- "$1")
    while [ ! -d "$at" ]; do
        at=$(dirname -- "$at")
    done
    printf '%s' "$at"
}

# check_space PATH=MIB... : that the file systems of the paths have so much
# free; what is on one file system is added up.
check_space() {
    local pair place disk free
    local -A need=() places=()
    for pair in "$@"; do
        [ "${pair##*=}" -gt 0 ] || continue
        place=$(nearest "${pair%=*}")
        disk=$(df -P -- "$place" | awk 'NR == 2 { print $6 }')
        need[$disk]=$((${need[$disk]:-0} + ${pair##*=}))
        places[$disk]="${places[$disk]:+${places[$disk]}, }${pair%=*}"
    done
    for disk in "${!need[@]}"; do
        free=$(df -Pm -- "$disk" | awk 'NR == 2 { print $4 }')
        [ "$free" -ge "${need[$disk]}" ] ||
            fail "$free MiB are free at $disk and ${need[$disk]} are needed for ${places[$disk]}: make room, or set CARGO_TARGET_DIR, CARGO_HOME or STATE_DIR to where there is some"
    done
}

# check_disks STATE_DIR : room for building and for the state.
check_disks() {
    local build=$first_build_mib crates=$crates_mib
    [ ! -x "$CUMULET_BIN" ] || build=$next_build_mib
    [ ! -d "${CARGO_HOME:-$HOME/.cargo}/registry/src" ] || crates=0
    check_space "$CARGO_TARGET_DIR=$build" "${CARGO_HOME:-$HOME/.cargo}=$crates" "$1=$state_mib"
}
