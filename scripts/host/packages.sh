# shellcheck shell=bash
# The packages and programs that this host needs, and which of them are not
# here. Sourced, never run.

# What building and running needs.
run_packages=(
    build-essential ca-certificates curl pkg-config
    libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients libvirt-dev
    qemu-system-x86 qemu-utils ovmf
    dnsmasq-base iproute2 nftables procps kmod util-linux
    # The tiny guest's parts and the tools that assemble its disk.
    busybox-static dropbear-bin cpio syslinux syslinux-common mtools dosfstools e2fsprogs fdisk
    openssh-client
)
# (The second line is what a host needs whose volumes are in Ceph: docs/ceph.md.)
test_packages=(
    mmdebstrap python3 python3-venv shellcheck
    ceph-common librbd1 qemu-block-extra
)
# Servers that the tests start themselves, each on a port of its own.
test_servers=(postgresql mariadb-server rabbitmq-server ceph-mon ceph-osd)

# What is run or read, and the package that it is of: looked for after
# installing, since apt's word is not enough. A name with a slash is a file.
run_programs=(
    cc=build-essential curl=curl pkg-config=pkg-config make=build-essential
    /usr/include/libvirt/libvirt.h=libvirt-dev
    libvirtd=libvirt-daemon-system virtlogd=libvirt-daemon-system virsh=libvirt-clients
    '/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so=libvirt-daemon-driver-qemu'
    qemu-system-x86_64=qemu-system-x86 qemu-img=qemu-utils
    dnsmasq=dnsmasq-base ip=iproute2 bridge=iproute2 ss=iproute2 nft=nftables
    pgrep=procps sysctl=procps modprobe=kmod unshare=util-linux setpriv=util-linux
    dropbear=dropbear-bin dropbearkey=dropbear-bin dbclient=dropbear-bin
    cpio=cpio syslinux=syslinux /usr/lib/syslinux/mbr/mbr.bin=syslinux-common mcopy=mtools
    mkfs.vfat=dosfstools mke2fs=e2fsprogs debugfs=e2fsprogs sfdisk=fdisk
    ssh=openssh-client ssh-keygen=openssh-client
)
test_programs=(
    mmdebstrap=mmdebstrap python3=python3 shellcheck=shellcheck
    '/usr/lib/postgresql/*/bin/postgres=postgresql' mariadbd=mariadb-server rabbitmq-server=rabbitmq-server
    ceph-mon=ceph-mon ceph-osd=ceph-osd ceph=ceph-common rbd=ceph-common
    '/usr/lib/*/qemu/block-rbd.so=qemu-block-extra'
)

# Where the system's programs are, also for somebody whose PATH lacks it.
system_path=/usr/sbin:/sbin

# have NAME : whether a program, or a file by a pattern, is here.
have() {
    case $1 in
    */*) compgen -G "$1" >/dev/null ;;
    *) PATH=$PATH:$system_path command -v "$1" >/dev/null ;;
    esac
}

# The packages among the arguments that are not installed whole, one a line.
# One that another provides counts as installed.
missing_packages() {
    local installed
    # shellcheck disable=SC2016 # dpkg-query's own variables
    installed=$(dpkg-query -W -f '${db:Status-Abbrev}|${Package}, ${Provides}\n' |
        awk -F '|' '$1 ~ /^.i *$/ { print $2 }' | tr ',' '\n' | awk 'NF { print $1 }')
    comm -13 <(sort -u <<<"$installed") <(printf '%s\n' "$@" | sort -u)
}

# What is not here of `packages`, `servers` and `programs`, one a line: the
# packages, and the programs of those that are installed and yet lack them.
lacking() {
    local missing pair
    missing=$(missing_packages "${packages[@]}" "${servers[@]}")
    [ -z "$missing" ] || sed 's/^/package /' <<<"$missing"
    for pair in "${programs[@]}"; do
        have "${pair%=*}" || grep -qxF "${pair##*=}" <<<"$missing" || printf '%s (of %s)\n' "${pair%=*}" "${pair##*=}"
    done
}

# Debian's ordinary busybox and its static one exclude each other. Where the
# ordinary one is installed it stays; the guest's is then only unpacked.
busybox_excluded() {
    [ -z "$(missing_packages busybox)" ] && [ -n "$(missing_packages busybox-static)" ]
}

# joined LINES : them in one line, with commas.
joined() {
    paste -sd , <<<"$1" | sed 's/,/, /g'
}
