# shellcheck shell=bash
# Running haul, watching its events, stopping it at a chosen place.
#
# Wants $work, $haul and $connections. A run has a name; it is the run's user agent, and its events
# and stderr go to $work/NAME.json and $work/NAME.err.

haul_pid=
# The command that haul runs under, such as `ip netns exec NAME`: one that becomes haul, so that
# $haul_pid is haul.
haul_under=()

# start_haul NAME ARGUMENTS...: in the background.
start_haul() {
    local name=$1
    shift
    # Before the job is there: whoever looks for its events finds none, instead of no file.
    : >"$work/$name.json"
    # A background job of a shell without job control ignores SIGINT, and so would its program.
    env --default-signal=INT,TERM "${haul_under[@]}" "$haul" -x "$connections" --json -A "$name" \
        "$@" </dev/null >"$work/$name.json" 2>"$work/$name.err" &
    haul_pid=$!
}

# end_haul: waits for the end; the exit code is in $haul_exit.
end_haul() {
    haul_exit=0
    wait "$haul_pid" 2>/dev/null || haul_exit=$?
    haul_pid=
}

# run_haul NAME ARGUMENTS...: to the end; the exit code is in $haul_exit.
run_haul() {
    start_haul "$@"
    end_haul
}

# event_field NAME EVENT FIELD: the number in the last such event of the run, 0 without one.
event_field() {
    awk -v event="$2" -v field="$3" '
        index($0, "\"event\":\"" event "\"") && match($0, "\"" field "\":[0-9.]+") {
            value = substr($0, RSTART, RLENGTH)
            sub(/^[^:]*:/, "", value)
        }
        END { print value == "" ? 0 : value }' "$work/$1.json"
}

# bytes_of NAME: how far the run says it is.
bytes_of() {
    event_field "$1" progress bytes
}

# wait_for_bytes NAME BYTES: until the run got so far, with a checkpoint at $2 in place. Fails when
# the run ended before.
wait_for_bytes() {
    local name=$1 bytes=$2 checkpoint=$3
    for _ in $(seq 3000); do
        if [ "$(bytes_of "$name")" -ge "$bytes" ] && [ -e "$checkpoint" ]; then
            return
        fi
        kill -0 "$haul_pid" 2>/dev/null || break
        sleep 0.02
    done
    echo "$name ended or stood still at $(bytes_of "$name") bytes, before $bytes" >&2
    tail -n 3 "$work/$name.err" >&2
    return 1
}

# at_risk NAME: the most bytes that a SIGKILL may cost: what arrived since a checkpoint that is
# written every second, and a segment in flight on every connection.
at_risk() {
    awk -v flight=$((connections * 4 * 1024 * 1024)) '
        function number(field) {
            if (!match($0, "\"" field "\":[0-9.]+")) return 0
            value = substr($0, RSTART, RLENGTH)
            sub(/^[^:]*:/, "", value)
            return value + 0
        }
        /"event":"progress"/ { count++; t[count] = number("t"); bytes[count] = number("bytes") }
        END {
            since = count ? bytes[1] : 0
            for (i = 1; i <= count; i++) if (t[i] <= t[count] - 1.2) since = bytes[i]
            printf "%.0f\n", flight + (count ? bytes[count] - since : 0)
        }' "$work/$1.json"
}

# nothing_else_than NAMES DIRECTORY
nothing_else_than() {
    local found
    found=$(cd "$2" && find . -mindepth 1 -printf '%P\n' | sort | xargs)
    [ "$found" = "$1" ] || {
        echo "there is '$found' instead of '$1'"
        return 1
    }
}
