# shellcheck shell=bash
# Shared by the guest builders: sourced, never run. Makes bootable disks out of
# directories without mounting anything and without loop devices, so that the
# same inputs give the same bytes.
#
# The layout: an MBR; partition 1, FAT, with syslinux, the kernel and its
# initramfs; partition 2, ext4, the persistent root.

# Every time stamp and random identifier of a disk comes from here.
export SOURCE_DATE_EPOCH=1700000000
export E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH
export LC_ALL=C TZ=UTC

guest_cache=${XDG_CACHE_HOME:-$HOME/.cache}/cumulet/guests

# What assembling a disk runs and reads, see `needs`.
disk_needs=(
    mkfs.vfat mcopy mattrib syslinux mke2fs sfdisk qemu-img flock dpkg-query
    /usr/lib/syslinux/mbr/mbr.bin
)

# needs NAME OPTION NEED... : ends with status 1 unless every NEED (a program,
# or a file by its path) is here, before anything is begun. NAME is the builder,
# OPTION what scripts/setup-host has to be called with to install them.
needs() {
    local name=$1 option=$2 need lacking=()
    shift 2
    # The system's programs are here too for somebody whose PATH lacks them.
    PATH=$PATH${system_path-:/usr/sbin:/sbin}
    for need in "$@"; do
        case $need in
        */*) [ -e "$need" ] || lacking+=("$need") ;;
        *) command -v "$need" >/dev/null || lacking+=("$need") ;;
        esac
    done
    [ "${#lacking[@]}" -gt 0 ] || return 0
    printf '%s: needs %s, which this host lacks: scripts/setup-host%s installs what is missing\n' \
        "$name" "$(printf '%s\n' "${lacking[@]}" | paste -sd , | sed 's/,/, /g')" "$option" >&2
    exit 1
}

# Sector numbers: partition 1 starts at 1 MiB.
part1_start=2048

# content_key WORD... : a short hash of the words and of standard input.
content_key() {
    { printf '%s\n' "$@"; cat; } | sha256sum | cut -c1-16
}

# from_cache NAME KEY OUT EXPECTATION BUILDER... : copies the cached
# NAME-KEY.qcow2 to OUT, after making it with `BUILDER... FILE` if it is not
# there, and saying that it takes EXPECTATION. Older images of that name are
# dropped.
from_cache() {
    local name=$1 key=$2 out=$3 expectation=$4 made
    shift 4
    made=$guest_cache/$name-$key.qcow2
    mkdir -p "$guest_cache"
    # One builder at a time; the others find its result.
    exec 9>"$guest_cache/.$name.lock"
    flock 9
    if [ ! -f "$made" ]; then
        printf '%s\n' "building the $name guest image; $expectation" >&2
        "$@" "$made.part"
        mv "$made.part" "$made"
        find "$guest_cache" -maxdepth 1 -name "$name-*.qcow2" ! -path "$made" -mtime +7 -delete
    fi
    mkdir -p "$(dirname "$out")"
    cp --sparse=always --reflink=auto "$made" "$out.part"
    mv "$out.part" "$out"
    exec 9>&-
}

# make_boot_partition IMAGE MIB DIR : a FAT file system of DIR's files, with
# syslinux installed. DIR holds syslinux.cfg.
make_boot_partition() {
    local image=$1 mib=$2 dir=$3
    truncate -s "${mib}M" "$image"
    mkfs.vfat --invariant -F 16 -i c0b001e7 -n BOOT -h "$part1_start" "$image" >/dev/null
    (cd "$dir" && MTOOLS_SKIP_CHECK=1 mcopy -s -m -i "$image" ./* ::)
    MTOOLS_SKIP_CHECK=1 syslinux --install "$image"
}

# make_root_partition IMAGE MIB DIR LABEL UUID : an ext4 file system of DIR.
make_root_partition() {
    local image=$1 mib=$2 dir=$3 label=$4 uuid=$5
    rm -f "$image"
    mke2fs -q -t ext4 -L "$label" -U "$uuid" -m 1 -J size=4 \
        -E "hash_seed=$uuid,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0,nodiscard" \
        -d "$dir" "$image" "${mib}M" >/dev/null
}

# assemble_disk OUT.qcow2 MIB BOOT_IMAGE ROOT_IMAGE : puts the partitions
# together. MIB is the disk's whole size.
assemble_disk() {
    local out=$1 mib=$2 boot=$3 root=$4 raw boot_sectors
    raw=$out.raw
    boot_sectors=$(($(stat -c %s "$boot") / 512))
    truncate -s "${mib}M" "$raw"
    sfdisk -q "$raw" <<-TABLE
		label: dos
		label-id: 0xc0b001e7
		start=$part1_start, size=$boot_sectors, type=e, bootable
		start=$((part1_start + boot_sectors)), type=83
	TABLE
    dd if=/usr/lib/syslinux/mbr/mbr.bin of="$raw" bs=440 count=1 conv=notrunc status=none
    dd if="$boot" of="$raw" bs=1M seek=1 conv=notrunc,sparse status=none
    dd if="$root" of="$raw" bs=1M seek=$((1 + boot_sectors / 2048)) conv=notrunc,sparse status=none
    qemu-img convert -f raw -O qcow2 -o compat=1.1,lazy_refcounts=off "$raw" "$out"
    rm -f "$raw"
}
