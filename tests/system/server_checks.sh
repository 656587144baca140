# shellcheck shell=bash
# What each server is tested for: a fetch, and a fetch with one fault midway.
#
# Wants report.sh, haul.sh, network.sh and servers.sh with what they want, and $object_bytes (the
# size of $work/www/object.bin), $patience and $long_cut in seconds, and $server.

protocol=
protocol_flags=()

# protocol_select NAME: how the runs from here on fetch: `http` and `https` are HTTP/1.1, `http2` is
# HTTP/2 inside TLS.
protocol_select() {
    protocol=$1
    protocol_flags=()
    case $protocol in
        http) scheme=http spoken=HTTP ;;
        https) scheme=https spoken=HTTPS ;;
        http2) scheme=https spoken=HTTP/2 protocol_flags=(--http2) ;;
    esac
}

# end_haul_within SECONDS: kills a run that takes longer, which shows as exit 137.
end_haul_within() {
    local deadline=$((SECONDS + $1))
    while kill -0 "$haul_pid" 2>/dev/null; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "haul did not end within $1 s" >&2
            kill -KILL "$haul_pid" 2>/dev/null || true
            break
        fi
        sleep 0.05
    done
    end_haul
}

# wait_for_retry NAME: until the run tells that it met a failure and tries again.
wait_for_retry() {
    for _ in $(seq 600); do
        ! grep -q '"event":"retry"' "$work/$1.json" || return 0
        kill -0 "$haul_pid" 2>/dev/null || break
        sleep 0.05
    done
    echo "$1 told of no retry"
    return 1
}

# stands_still NAME: no byte arrives for a second, within ten.
stands_still() {
    local since=$SECONDS deadline=$((SECONDS + 10)) bytes
    bytes=$(bytes_of "$1")
    while [ "$SECONDS" -lt "$deadline" ]; do
        sleep 0.1
        if [ "$(bytes_of "$1")" != "$bytes" ]; then
            bytes=$(bytes_of "$1") since=$SECONDS
        elif [ "$SECONDS" -ge $((since + 2)) ]; then
            return 0
        fi
    done
    echo "bytes arrive all the time: $bytes"
    return 1
}

says() {
    grep "\"event\":\"$2\"" "$work/$1.json" | grep -q "$3" || {
        echo "the $2 event of $1 has no $3"
        return 1
    }
}

# begin FAULT HOST ARGUMENTS...: a run against $server over $protocol into a directory of its own.
# What follows is told of as $text.
begin() {
    text="$server over $spoken"
    [ "$1" = plain ] || text+=", $1"
    dir=$work/$server-$protocol-$1
    url=$scheme://$2/object.bin
    failed_before=$failed
    mkdir "$dir"
    shift 2
    again first "$@"
}

# again WHICH ARGUMENTS...: the same command, once more.
again() {
    run=${dir##*/}-$1
    shift
    start_haul "$run" "${protocol_flags[@]}" --cacert "$ca" -o "$dir/object.bin" "$@" "$url"
}

# midway: waits until the run has a third of the object. Without that its fault cannot come, and the
# check is over.
midway() {
    ! wait_for_bytes "$run" $((object_bytes / 3)) "$dir/object.bin.haul" || return 0
    fail "$text: the fault was to come midway"
    kill -KILL "$haul_pid" 2>/dev/null || true
    finished
    return 1
}

# finished: the run ends well with the right file and nothing beside it. When anything since `begin`
# failed, what there is to read is shown.
finished() {
    [ -z "$haul_pid" ] || end_haul_within "$patience"
    expect_equal "$text: exit 0 after $(event_field "$run" complete elapsed_s) s" 0 "$haul_exit"
    expect "$text: the right file" cmp "$work/www/object.bin" "$dir/object.bin"
    expect "$text: nothing else is left" nothing_else_than object.bin "$dir"
    if [ "$failed" -ne "$failed_before" ]; then
        {
            echo 'stderr of haul:'
            tail -n 10 "$work/$run.err"
            echo 'events of haul but for progress, and the last progress:'
            grep -v '"event":"progress"' "$work/$run.json" | tail -n 20 || true
            grep '"event":"progress"' "$work/$run.json" | tail -n 1 || true
            server_log
        } | sed 's/^/        /'
    fi
    rm -rf "$dir"
}

# spoke_as_told: the server's log has requests for the object, all of the protocol's version.
spoke_as_told() {
    local version=HTTP/1.1
    [ "$protocol" != http2 ] || version=HTTP/2
    # lighttpd writes its log every few seconds.
    for _ in $(seq 100); do
        ! server_log_has "$run" "$version" || break
        sleep 0.1
    done
    server_log_has "$run" "$version" || {
        echo "no request of $version for the object is in the log of $server"
        return 1
    }
}

check_plain() {
    begin plain "$server_address"
    end_haul_within "$patience"
    expect "$text: ranges are used" says "$run" start '"ranges":true'
    expect "$text: it was spoken" spoke_as_told
    finished
}

# fault_068_real_server_haul_killed_midway
check_killed() {
    local resumed
    begin 'haul killed midway' "$server_address"
    midway || return 0
    kill -KILL "$haul_pid"
    end_haul
    expect_equal "$text: it ends by SIGKILL" 137 "$haul_exit"
    again second
    end_haul_within "$patience"
    resumed=$(event_field "$run" start resumed_bytes)
    expect "$text: the same command resumes at $resumed bytes" test "$resumed" -gt 0
    # What one connection still reads of a range that another one has taken over counts as well.
    expect_at_most "$text: it fetches no more than the rest" \
        $((object_bytes - resumed + connections * 1024 * 1024)) \
        "$(event_field "$run" complete fetched_bytes)" bytes
    finished
}

# check_server_gone HOW: killed, with no chance to end a response; or stopped as its own command
# does it, which over HTTP/2 may be a GOAWAY.
# Fault 54.
# fault_054_real_server_killed_or_stopped_midway
check_server_gone() {
    begin "server $1 midway" "$server_address"
    midway || return 0
    if [ "$1" = killed ]; then server_kill; else server_stop; fi
    # Long enough that haul meets a closed port more than once.
    sleep 2
    expect "$text: haul tells of a retry" wait_for_retry "$run"
    expect "$text: haul waits while the server is gone" kill -0 "$haul_pid"
    expect "$text: the server starts again" server_start
    finished
}

# fault_053_real_network_cut_midway
check_network_cut() {
    begin 'network cut midway' "$server_address" --stall-timeout 2s
    midway || return 0
    network_cut
    expect "$text: nothing arrives" stands_still "$run"
    # Longer than the stall timeout: haul has given up its connections.
    sleep 3
    expect "$text: haul waits while the network is gone" kill -0 "$haul_pid"
    network_restore
    finished
}

# Fault 53.
# fault_053_real_network_gone_and_a_new_address
check_new_address() {
    begin "no network for $long_cut s, then a new address" "$server_address" --stall-timeout 2s
    midway || return 0
    network_leave
    sleep "$long_cut"
    expect "$text: haul told of a retry" wait_for_retry "$run"
    expect "$text: haul waits while the network is gone" kill -0 "$haul_pid"
    network_join "$client_new_address"
    finished
    network_leave
    network_join "$client_address"
}

# swallows ADDRESS: what is sent there is not even refused.
swallows() {
    local status=0
    "${haul_under[@]}" curl -s --connect-timeout 0.5 -o /dev/null "http://$1/ready" || status=$?
    # What curl exits with when time is up.
    [ "$status" -eq 28 ] || {
        echo "curl ends with $status instead of 28"
        return 1
    }
}

# Fault 51.
# fault_051_black_holes_before_the_address_that_answers
check_several_addresses() {
    local found
    begin 'two of three addresses are black holes' "$several_name"
    expect "$text: nothing comes from $black_hole_ipv4" swallows "$black_hole_ipv4"
    found=$("${haul_under[@]}" getent ahosts "$several_name" |
        awk '$2 == "STREAM" { print $1 }' | xargs)
    if [ "$found" = "$black_hole_ipv4 $server_address" ]; then
        skip "$text: there is no IPv6 here, so it is one of two"
    else
        expect_equal "$text: the server comes last" \
            "$black_hole_ipv6 $black_hole_ipv4 $server_address" "$found"
        expect "$text: nothing comes from $black_hole_ipv6" swallows "[$black_hole_ipv6]"
    fi
    finished
}
