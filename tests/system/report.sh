# shellcheck shell=bash
# One line for each check, and the closing line that counts them.

passed=0
failed=0
skipped=0

pass() {
    passed=$((passed + 1))
    printf 'ok      %s\n' "$*"
}

fail() {
    failed=$((failed + 1))
    printf 'FAILED  %s\n' "$*"
}

skip() {
    skipped=$((skipped + 1))
    printf 'skipped %s\n' "$*"
}

# expect TEXT COMMAND...: the check TEXT passes when COMMAND succeeds. What COMMAND says is shown
# only when it fails.
expect() {
    local text=$1 words
    shift
    if words=$("$@" 2>&1); then
        pass "$text"
    else
        fail "$text"
        [ -z "$words" ] || printf '%s\n' "$words" | tail -n 5 | sed 's/^/        /'
    fi
}

# expect_equal TEXT EXPECTED ACTUAL
expect_equal() {
    if [ "$2" = "$3" ]; then
        pass "$1"
    else
        fail "$1: expected $2, got $3"
    fi
}

# expect_at_most TEXT BOUND ACTUAL UNIT
expect_at_most() {
    if [ "$3" -le "$2" ]; then
        pass "$1: $3 $4, at most $2"
    else
        fail "$1: $3 $4 where at most $2 are allowed"
    fi
}

close_report() {
    if [ "$skipped" -gt 0 ]; then
        printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    else
        printf '%d passed, %d failed\n' "$passed" "$failed"
    fi
    [ "$failed" -eq 0 ]
}
