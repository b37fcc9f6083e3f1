# shellcheck shell=bash
# Who may open /dev/kvm. Sourced, never run.
#
# libvirt probes QEMU as root and checks what it found as the user libvirt-qemu,
# a member of the group kvm. Where root can open the device and that group
# can't, the two never agree: libvirt throws its picture of QEMU away and makes
# a new one at every call, which takes half a minute. So the group gets what
# Debian's own udev rule gives it; there is no udev in a container.

# kvm_group_opens PATH : whether the group kvm can read and write a device.
kvm_group_opens() {
    local group mode
    read -r group mode < <(stat -L -c '%G %a' "$1")
    mode=$((8#$mode))
    if [ "$group" = kvm ]; then
        [ $((mode & 8#060)) = $((8#060)) ]
    else
        [ $((mode & 8#006)) = $((8#006)) ]
    fi
}

# open_kvm PATH : lets the group kvm open the device, and says so. A path that
# is no device is left alone.
open_kvm() {
    local was
    [ -c "$1" ] && ! kvm_group_opens "$1" || return 0
    was=$(stat -L -c '%U:%G %04a' "$1")
    if ! getent group kvm >/dev/null; then
        say "$1 is $was and there is no group kvm, so guests can't use it: addgroup --system kvm"
    elif as_root chgrp kvm "$1" 2>/dev/null && as_root chmod 660 "$1" 2>/dev/null; then
        say "$1 was $was, so libvirt would look at QEMU anew at each call (4 to 60 s); it is $(stat -L -c '%U:%G %04a' "$1") now, as Debian's udev rule has it"
    else
        say "$1 is $was and can't be changed here, so libvirt's calls will take half a minute: chgrp kvm $1; chmod 660 $1"
    fi
}
