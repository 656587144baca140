# shellcheck shell=bash
# The wheel of the Python package, and environments to install it into.
#
# Wants $root and $work, and report.sh.

unset PYTHONPATH PYTHONHOME
export PYTHONDONTWRITEBYTECODE=1
target=$(cd "$root" && realpath -m "${CARGO_TARGET_DIR:-target}")

# has_venv: whether python3 can make environments; what that takes is installed if it can be had.
has_venv() {
    python3 -c 'import ensurepip' 2>/dev/null || install_missing ensurepip=python3-venv
}

# environment NAME IMPORTS REQUIREMENT...: an environment $target/NAME, which is kept, where these requirements
# are installed once and python3 imports IMPORTS. Fails, with the last line that pip said, where they cannot be had.
environment() {
    local directory=$target/$1 imports=$2
    shift 2
    "$directory/bin/python" -c "import $imports" 2>/dev/null && return
    if ! { python3 -m venv --clear "$directory" &&
        timeout 300 "$directory/bin/pip" install --quiet --retries 1 "$@"; } >"$work/pip.log" 2>&1; then
        tail -n 1 "$work/pip.log"
        return 1
    fi
}

# has_maturin: whether maturin can be had, and zig, for a wheel that older systems run.
has_maturin() {
    environment python-tools maturin,ziglang 'maturin>=1.9,<2' 'ziglang>=0.17,<0.18'
}

# build_python WORDS...: maturin with these, into $work/dist. Nothing here measures speed, and much optimizing takes
# minutes.
build_python() {
    local tools=$target/python-tools
    (export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0 &&
        cd "$root/engine/python" && PATH=$tools/bin:$PATH VIRTUAL_ENV=$tools \
        "$tools/bin/maturin" "$@" --out "$work/dist")
}

# give_up WHY: skips everything.
give_up() {
    skip "$1"
    close_report
    exit
}

# build_wheel: for systems of 2014 and later; its path is $wheel, empty if it cannot be built.
build_wheel() {
    expect 'a wheel for systems of 2014 and later' build_python build --release --zig \
        --compatibility manylinux2014
    wheel=$(find "$work/dist" -name '*.whl' | head -n 1)
}

# want_wheel: $wheel is $WHEEL, or a new one; where it cannot be had, this is the end.
want_wheel() {
    has_venv || give_up 'python3 with venv cannot be installed'
    wheel=${WHEEL:-}
    [ -z "$wheel" ] || return 0
    has_maturin || give_up 'maturin cannot be installed'
    build_wheel
    [ -n "$wheel" ] || {
        close_report
        exit
    }
}
