# shellcheck shell=bash
# Stages of a long run, and the table at its end: sourced by scripts/test. A stage runs under a heading with its time;
# some run in the background, beside others, and are told when they are waited for.
#
# The folder $CUMULET_TEST_RESULTS gets `stages` (a line for each: seconds, tab, name), `skipped` (a line for what is
# left out, with its reason) and the reports of test runners (NAME.xml); scripts/test-summary makes the table of it.

results=$(mktemp -d)
export CUMULET_TEST_RESULTS=$results
began_all=$SECONDS
declare -A job_pid job_log job_began
failed_stage=

# What is told at the end, however the run ends.
finish() {
    local status=$?
    for name in "${!job_pid[@]}"; do
        kill -- -"${job_pid[$name]}" 2>/dev/null || true
    done
    printf '\n'
    scripts/test-summary "$results" || true
    rm -rf "$results"
    if [ "$status" = 0 ]; then
        printf '\nall stages passed in %s s\n' $((SECONDS - began_all))
    else
        printf '\nfailed%s after %s s\n' "${failed_stage:+ in the stage \"$failed_stage\"}" $((SECONDS - began_all)) >&2
    fi
}

note_stage() {
    printf '%s\t%s\n' "$2" "$1" >>"$results/stages"
    printf '== %s: %s s\n' "$1" "$2"
}

# stage NAME COMMAND... : runs it, under a heading.
stage() {
    local name=$1 began=$SECONDS
    shift
    failed_stage=$name
    printf '\n== %s\n' "$name"
    "$@"
    failed_stage=
    note_stage "$name" $((SECONDS - began))
}

# background NAME COMMAND... : begins it, in a process group of its own so that it can be ended with all that it has
# started, and with what is left of the processors by others.
background() {
    local name=$1
    shift
    job_log[$name]=$results/$(tr -c 'a-z0-9\n' - <<<"$name").log
    job_began[$name]=$SECONDS
    set -m
    (
        began=$SECONDS
        renice -n 15 $BASHPID >/dev/null
        "$@"
        echo $((SECONDS - began)) >"${job_log[$name]}.seconds"
    ) >"${job_log[$name]}" 2>&1 </dev/null &
    job_pid[$name]=$!
    set +m
}

# await NAME: waits for it, and shows what it has said.
await() {
    local name=$1 status=0
    failed_stage=$name
    printf '\n== %s (in the background)\n' "$name"
    wait "${job_pid[$name]}" || status=$?
    unset "job_pid[$name]"
    cat "${job_log[$name]}"
    [ "$status" = 0 ] || return "$status"
    failed_stage=
    note_stage "$name" "$(cat "${job_log[$name]}.seconds")"
}

# skip WHAT REASON: told at the very end.
skip() {
    printf '%s: %s\n' "$1" "$2" | tee -a "$results/skipped"
}
