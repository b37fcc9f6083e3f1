# shellcheck shell=bash
# Parts of guests that come out of Debian's packages without being installed
# here: sourced by `kernel` and `busybox`, never run.

parts_cache=${XDG_CACHE_HOME:-$HOME/.cache}/cumulet/guests

# unpack PACKAGE NAME : downloads a package with apt and unpacks it to
# $parts_cache/NAME/root.
unpack() {
    local package=$1 cache=$parts_cache/$2 work
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/.fetch.XXXXXX")
    # shellcheck disable=SC2064 # $work as it is now
    trap "rm -rf '$work'" EXIT
    # apt downloads as the user _apt where it can write, as us otherwise.
    chmod 755 "$work"
    (cd "$work" && apt-get download -q -o APT::Sandbox::User=root "$package" >&2)
    mkdir "$work/root"
    dpkg-deb -x "$work"/*.deb "$work/root"
    rm -rf "${cache:?}/root"
    mv "$work/root" "$cache/root"
}
