# shellcheck shell=bash
# The way of guests to what libvirt keeps for each of them. Sourced, never run.
#
# Each guest's process runs as a user of its own, in the group that opens
# /dev/kvm. It opens its monitor's socket by itself, in a folder of its own
# below libvirt's, which Debian has closed to all but libvirt's user and group
# (0750). So that folder, and the one above it, gets the one bit that lets
# others pass (o+x): they can't list it, and what is in it keeps its own modes.
# Without that all guests have to run as libvirt's user.

# guests_pass DEVICE FOLDER : whether guests with users of their own get through
# FOLDER, which is in none of their folders; where none uses KVM they are in
# libvirt's group. A folder that isn't there keeps nobody out.
guests_pass() {
    local folder group mode
    for folder in "$(dirname "$2")" "$2"; do
        [ -d "$folder" ] || continue
        read -r group mode < <(stat -L -c '%G %a' "$folder")
        mode=$((8#$mode))
        [ $((mode & 8#001)) = 0 ] || continue
        [ $((mode & 8#010)) != 0 ] || return 1
        if opens_to_all "$1"; then
            # libvirt's own group, which this folder is given to.
            [ "$folder" = "$2" ] || return 1
        else
            [ "$group" = "$(stat -L -c %G "$1")" ] || return 1
        fi
    done
}

# opens_to_all DEVICE : whether nobody needs a group to open it, as of one that isn't there.
opens_to_all() {
    [ -c "$1" ] || return 0
    [ $((8#$(stat -L -c %a "$1") & 8#006)) = $((8#006)) ]
}

# let_guests_pass DEVICE FOLDER : gives FOLDER and the one above it that bit,
# where guests need it, and says so. dpkg is told, or libvirt's next upgrade
# would close the folder again.
let_guests_pass() {
    local folder was owner group mode
    guests_pass "$1" "$2" && return
    for folder in "$(dirname "$2")" "$2"; do
        [ $((8#$(stat -L -c %a "$folder") & 8#001)) = 0 ] || continue
        was=$(stat -L -c '%U:%G %04a' "$folder")
        if ! as_root chmod o+x "$folder" 2>/dev/null; then
            say "$folder is $was and can't be changed here, so all guests run as libvirt's user: chmod o+x $folder"
            return
        fi
        say "$folder was $was, so guests could use KVM as libvirt's user alone; others may pass through it now (o+x), and each guest runs as a user of its own"
        read -r owner group mode < <(stat -L -c '%U %G %04a' "$folder")
        dpkg-statoverride --list "$folder" >/dev/null 2>&1 ||
            as_root dpkg-statoverride --add "$owner" "$group" "$mode" "$folder" >/dev/null
    done
}
