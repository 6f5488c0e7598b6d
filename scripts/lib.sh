# Shared by the scripts: start servers on port 0, learn where they listen, stop them.
# shellcheck shell=bash

children=()
stop_children() {
    for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
    for child in "${children[@]}"; do wait "$child" 2>/dev/null || true; done
}
trap stop_children EXIT

# start LOG COMMAND…: runs it in the background, its output in LOG, its process in $started.
start() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 &
    started=$!
    children+=("$started")
}

# address LOG PATTERN: the first match of PATTERN's group in LOG, waited for at most 20 s.
address() {
    for _ in $(seq 200); do
        local found
        found=$(sed -nE "s/.*$2.*/\1/p" "$1" | head -n 1)
        if [ -n "$found" ]; then
            printf '%s\n' "$found"
            return 0
        fi
        sleep 0.1
    done
    printf 'nothing listens: %s says\n' "$1" >&2
    cat "$1" >&2
    return 1
}
