# shellcheck shell=bash
# How the scripts that set a host up speak, and how they become root. Sourced,
# never run; the script that sources it sets `me`, the name it speaks under.

say() {
    printf '%s: %s\n' "$me" "$*"
}

fail() {
    printf '%s: %s\n' "$me" "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root: $*"
    fi
}

# The script's own opening comment.
usage() {
    sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p}' "$0"
}
