# shellcheck shell=bash
# Installing what a script calls and does not find.

# install_missing WHAT=PACKAGE...: the package of every command or file that is not there.
install_missing() {
    local pair packages=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || [ -e "${pair%%=*}" ] || packages+=("${pair#*=}")
    done
    [ "${#packages[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "missing and not to be installed without root: apt-get install ${packages[*]}" >&2
        return 1
    fi
    echo "installing ${packages[*]}"
    (
        # The tests start servers of their own. Those that a package would start as services only
        # take ports from whoever uses this machine. A policy that is already there stays.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap 'rm -f "$policy"' EXIT
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
        fi
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    )
}

# has_target TARGET: whether Rust can build for it here. It is added where it can be had.
# shellcheck disable=SC2034 # for those who read this
windows_target=x86_64-pc-windows-gnu arm_target=aarch64-unknown-linux-gnu
has_target() {
    rustup target list --installed 2>/dev/null | grep -qx "$1" || timeout 120 rustup target add "$1"
}
