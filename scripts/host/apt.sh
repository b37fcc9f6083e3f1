# shellcheck shell=bash
# Installing with apt so that nothing which is installed is removed: each step
# is simulated first, and done only as it was simulated. Sourced, never run.

apt_options=(-y -q --no-install-recommends --no-remove -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)

# Sources whose packages go together in one version. One that is installed from
# a newer suite (backports, a mixed image) keeps the rest of this suite's out.
families=(qemu libvirt)
# What QEMU wants in a version that goes with its own.
firmware="src:seabios src:ipxe src:edk2 src:libslirp"

refresh_lists() {
    say "fetching apt's lists; some seconds"
    as_root apt-get update -q -o APT::Update::Error-Mode=any >"$scratch/update" 2>&1 && return
    tail -n 5 "$scratch/update" >&2
    say "apt-get update failed; going on with the lists that are here"
}

# simulate OPTION|PACKAGE... : what apt would do, in $scratch/plan. Fails where
# it can't, or would remove something.
simulate() {
    LC_ALL=C apt-get -s "${apt_options[@]}" install "$@" >"$scratch/plan" 2>&1 &&
        ! grep -q '^Remv ' "$scratch/plan"
}

# The installed packages of a source, as `name version` lines.
installed_of() {
    # shellcheck disable=SC2016 # dpkg-query's own variables
    dpkg-query -W -f '${db:Status-Abbrev}|${source:Package}|${Package} ${Version}\n' |
        awk -F '|' -v source="$1" '$1 ~ /^.i/ && $2 == source { print $3 }'
}

# suite_of PACKAGE VERSION : the suite of apt's sources that has it, if any has.
suite_of() {
    LC_ALL=C apt-cache policy "$1" | awk -v version="$2" '
        $1 == "***" { sub(/^ *\*\*\* /, "") }
        $1 == version { inside = 1; next }
        inside && $2 ~ /:\/\// { sub(/\/.*/, "", $3); print $3; exit }
        inside && $1 !~ /^[0-9]+$/ { exit }'
}

# prefer PACKAGES PIN : a preference that is stronger than what is installed.
prefer() {
    printf 'Package: %s\nPin: %s\nPin-Priority: 1001\n\n' "$1" "$2"
}

# The preferences that take each family from the suite that its installed
# packages came from, as far as apt still knows that suite.
prefer_installed() {
    local family package version suite
    for family in "${families[@]}"; do
        read -r package version < <(installed_of "$family") || continue
        suite=$(suite_of "$package" "$version")
        [ -n "$suite" ] || continue
        # Packages of one source differ in what rebuilding adds to their versions.
        prefer "src:$family" "version ${version%+b[0-9]*}*"
        [ "$family" != qemu ] || prefer "$firmware" "release n=$suite"
    done
}

# The preferences that take the families from this system's own suite.
prefer_own() {
    local codename family
    # shellcheck source=/etc/os-release
    codename=$(. "$os_release" && printf '%s' "${VERSION_CODENAME:-}")
    [ -n "$codename" ] || return
    for family in "${families[@]}"; do
        prefer "src:$family" "release n=/^$codename(-security|-updates)?\$/"
    done
    prefer "$firmware" "release n=/^$codename(-security|-updates)?\$/"
}

# with_preferences WRITER PACKAGE... : simulates with the preferences that
# WRITER writes, before those of this machine. The families' installed packages
# are named too, so that they go along.
with_preferences() {
    local writer=$1 family name
    shift
    "$writer" >"$scratch/preferences"
    [ -s "$scratch/preferences" ] || return
    [ ! -f /etc/apt/preferences ] || cat /etc/apt/preferences >>"$scratch/preferences"
    chosen=(-o "Dir::Etc::preferences=$scratch/preferences" --allow-downgrades)
    for family in "${families[@]}"; do
        while read -r name _; do
            chosen+=("$name")
        done < <(installed_of "$family")
    done
    simulate "${chosen[@]}" "$@"
}

# What the simulated plan exchanges for an older version, as words for a sentence.
downgrades() {
    local name old new
    sed -n 's/^Inst \([^ ]*\) \[\([^]]*\)\] (\([^ ]*\) .*/\1 \2 \3/p' "$scratch/plan" |
        while read -r name old new; do
            ! dpkg --compare-versions "$old" gt "$new" || printf '%s %s for %s\n' "$name" "$old" "$new"
        done
}

# choose PACKAGE... : finds a way to install them that removes nothing, in
# `chosen` (options and packages) and $scratch/plan.
choose() {
    local newer removed
    chosen=()
    simulate "$@" && { chosen+=("$@"); return; }
    cp "$scratch/plan" "$scratch/refusal"
    if with_preferences prefer_installed "$@"; then
        say "taking QEMU and libvirt from the suite that their installed packages came from"
    elif with_preferences prefer_own "$@"; then
        newer=$(downgrades)
        say "packages of a newer suite are in the way, so these go back to this system's own suite: $(joined "$newer"); nothing is removed"
    else
        removed=$(LC_ALL=C apt-get -s -q --no-install-recommends install "$@" 2>/dev/null | awk '$1 == "Remv" { print $2 }') || true
        grep -v '^$' "$scratch/refusal" | tail -n 12 >&2
        [ -z "$removed" ] || fail "apt would remove $(joined "$removed") for it, which is not done unasked; if you can do without: apt-get install --no-install-recommends $*"
        fail "apt can't install $*: see above; often other sources or held packages (apt-mark showhold) are in the way"
    fi
    chosen+=("$@")
}

# install_packages PACKAGE... : does it, and says before what, and how long about.
install_packages() {
    local count
    choose "$@"
    count=$(grep -c '^Inst ' "$scratch/plan") || true
    say "installing $count packages: $*"
    say "$(expectation "$count")"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "${apt_options[@]}" install "${chosen[@]}" ||
        fail "apt failed at it, and what it said is above; when that is mended, run this again"
}

# expectation PACKAGES : how long it takes to install so many.
expectation() {
    if [ "$1" -lt 20 ]; then
        printf 'this takes half a minute or so'
    else
        printf 'this takes a minute or two, more on a slow line'
    fi
}

# install_servers PACKAGE... : has none of them started on its usual port, as Debian does without a policy.
install_servers() {
    if [ -e "$policy" ]; then
        install_packages "$@"
        return
    fi
    policy_is_ours=1
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    install_packages "$@"
    remove_policy
}

remove_policy() {
    [ -z "$policy_is_ours" ] || as_root rm -f "$policy"
    policy_is_ours=
}
