# shellcheck shell=bash
# libvirt's daemon: started where it isn't running, and how long it takes for a
# call. Sourced, never run.

libvirt_socket=/run/libvirt/libvirt-sock
# A call takes hundredths of a second, some seconds when libvirt first looks at QEMU.
slow_hundredths=300
libvirt_limit=120

# One call's hundredths of a second; fails where there is no answer in SECONDS.
libvirt_call() {
    local began=${EPOCHREALTIME//[.,]/}
    as_root timeout "$1" virsh -q -c qemu:///system version >/dev/null 2>&1 || return
    printf '%s' $(((${EPOCHREALTIME//[.,]/} - began) / 10000))
}

# seconds HUNDREDTHS : the same for people.
seconds() {
    printf '%d.%02d s' $(($1 / 100)) $(($1 % 100))
}

libvirt_answers() {
    libvirt_call 10 >/dev/null
}

# One call with patience: a daemon that is slow isn't one that is gone.
wait_for_libvirt() {
    libvirt_call 5 && return
    [ $? = 124 ] || return 1
    say "libvirt did not answer within 5 s; waiting for it for up to $libvirt_limit s" >&2
    libvirt_call "$libvirt_limit"
}

# as_daemon PROGRAM ARGUMENT... : as root, with none of the caller's open files but the first three: a daemon outlives
# whoever started it, and would keep their locks and pipes for as long as it runs.
as_daemon() (
    for descriptor in /proc/self/fd/*; do
        descriptor=${descriptor##*/}
        [ "$descriptor" -le 2 ] || eval "exec $descriptor>&-"
    done
    as_root "$@"
)

launch_libvirt() {
    if [ -d /run/systemd/system ]; then
        as_root systemctl start virtlogd.socket libvirtd.service
    else
        as_root mkdir -p /run/libvirt
        { [ -S /run/libvirt/virtlogd-sock ] && pgrep -x virtlogd >/dev/null; } || as_daemon virtlogd -d
        as_daemon libvirtd -d
    fi
}

# Starts what isn't running; prints the hundredths of a call when it answers.
start_libvirt() {
    local try took
    if [ -S "$libvirt_socket" ] && took=$(wait_for_libvirt); then
        printf '%s' "$took"
        return
    fi
    say "starting libvirtd; it looks at QEMU first, which takes some seconds" >&2
    launch_libvirt >&2
    for try in $(seq 50); do
        [ ! -S "$libvirt_socket" ] || break
        sleep 0.2
    done
    wait_for_libvirt && return
    fail "libvirtd does not answer at qemu:///system (tried ${try} times); see its log: journalctl -u libvirtd, or run 'libvirtd -v'"
}

# ensure_libvirt : it answers, and quickly. A slow one is told with cause and cure.
ensure_libvirt() {
    local took
    took=$(start_libvirt) || exit 1
    # The first call after a start is not what the later ones take.
    [ "$took" -lt "$slow_hundredths" ] || took=$(libvirt_call "$libvirt_limit") ||
        fail "libvirt answered once and then not within $libvirt_limit s; see its log (journalctl -u libvirtd)"
    [ "$took" -lt "$slow_hundredths" ] || say "libvirt takes $(seconds "$took") for a call, and launches will be refused or slow: $(why_slow)"
}

# The likeliest cause that can be seen from here, with its cure.
why_slow() {
    local load cores
    load=$(cut -d . -f 1 </proc/loadavg)
    cores=$(nproc)
    if [ -c "$kvm_device" ] && ! kvm_group_opens "$kvm_device"; then
        printf 'the group kvm cannot open %s (chgrp kvm %s; chmod 660 %s)' "$kvm_device" "$kvm_device" "$kvm_device"
    elif ! id -nG libvirt-qemu 2>/dev/null | grep -qw kvm; then
        printf 'the user libvirt-qemu is not in the group kvm (adduser libvirt-qemu kvm, then restart libvirtd)'
    elif [ "$load" -gt $((4 * cores)) ]; then
        printf 'this machine is busy (load %s on %s processors); it is quick again when that is over' "$load" "$cores"
    else
        printf 'its log may say why (journalctl -u libvirtd; log_filters="1:qemu.qemu_capabilities" in libvirtd.conf)'
    fi
}
