# shellcheck shell=bash
# A network of two: haul in one namespace, a server in the other, a veth pair between them whose
# rate towards haul is held by tbf. Nothing of it is seen from outside, so the addresses are those
# kept for documentation and the ports are 80 and 443.
#
# The server's interface has three more addresses than the one that is served: they answer ARP and
# neighbour discovery, but what is sent to them over TCP is dropped in silence. That is a black
# hole; an address that nobody has would be reported as unreachable.
#
# Wants $link_rate, as tc writes it.

client_ns=haul-$$-client
server_ns=haul-$$-server
client_address=192.0.2.101
client_new_address=192.0.2.202
server_address=192.0.2.1
black_hole_ipv6=2001:db8::9
black_hole_ipv4=192.0.2.9
# Served at $server_address too, beside the two black holes.
several_name=several.test
etc_netns_made=

# network_up: fails, and says why, where namespaces or what is used of them cannot be had.
network_up() {
    ip netns add "$client_ns" || return
    ip netns add "$server_ns" || return
    ip -n "$client_ns" link add link0 type veth peer name link0 netns "$server_ns" || return
    tc -n "$server_ns" qdisc add dev link0 root tbf rate "$link_rate" burst 64kb latency 100ms ||
        return
    ip -n "$server_ns" address add "$server_address/24" dev link0 || return
    ip -n "$server_ns" address add "$black_hole_ipv4/24" dev link0 || return
    # Without IPv6 there is no black hole on it; the rest can be tested all the same.
    ip -n "$server_ns" address add "$black_hole_ipv6/64" dev link0 nodad || true
    ip -n "$server_ns" link set lo up || return
    ip -n "$server_ns" link set link0 up || return
    ip -n "$client_ns" link set lo up || return
    network_join "$client_address" || return
    ip netns exec "$server_ns" nft -f - <<END || return
table inet black_holes {
    chain arriving {
        type filter hook input priority 0; policy accept;
        ip daddr $black_hole_ipv4 meta l4proto tcp drop
        ip6 daddr $black_hole_ipv6 meta l4proto tcp drop
    }
}
END
    # `ip netns exec` puts this in the place of /etc/hosts.
    [ -d /etc/netns ] || etc_netns_made=1
    mkdir -p "/etc/netns/$client_ns" || return
    cat >"/etc/netns/$client_ns/hosts" <<END || return
127.0.0.1 localhost
$black_hole_ipv6 $several_name
$black_hole_ipv4 $several_name
$server_address $several_name
END
}

network_down() {
    local namespace
    for namespace in "$client_ns" "$server_ns"; do
        kill_all_in "$namespace" || true
        ip netns delete "$namespace" 2>/dev/null || true
    done
    rm -rf "/etc/netns/$client_ns"
    [ -z "$etc_netns_made" ] || rmdir --ignore-fail-on-non-empty /etc/netns 2>/dev/null || true
}

# kill_all_in NAMESPACE: the processes in there, which nobody but this script started.
kill_all_in() {
    local pids
    for _ in $(seq 200); do
        # More than once: a process may have been forking as the list was made.
        pids=$(ip netns pids "$1" 2>/dev/null || true)
        [ -n "$pids" ] || return 0
        # shellcheck disable=SC2086 # a list of numbers
        kill -KILL $pids 2>/dev/null || true
        sleep 0.02
    done
    echo "processes in $1 do not end: $pids" >&2
    return 1
}

# network_cut: from here on all packets vanish, in both directions. Each side drops what arrives:
# a sender that dropped its own packets would be told.
network_cut() {
    local namespace
    for namespace in "$client_ns" "$server_ns"; do
        ip netns exec "$namespace" nft -f - <<'END'
table inet cut {
    chain arriving {
        type filter hook prerouting priority raw; policy accept;
        iifname != "lo" drop
    }
}
END
    done
}

network_restore() {
    local namespace
    for namespace in "$client_ns" "$server_ns"; do
        ip netns exec "$namespace" nft delete table inet cut
    done
}

# network_leave: the client's link goes down and its address is lost, as when a laptop is closed.
network_leave() {
    ip -n "$client_ns" link set link0 down
    ip -n "$client_ns" address flush dev link0
}

# network_join ADDRESS: the client comes (back) with this address.
network_join() {
    ip -n "$client_ns" address add "$1/24" dev link0 || return
    ip -n "$client_ns" address add 2001:db8::101/64 dev link0 nodad || true
    ip -n "$client_ns" link set link0 up
}
