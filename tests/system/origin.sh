# shellcheck shell=bash
# nginx on loopback over HTTP and HTTPS, with a CA of its own. The user agent of a request chooses
# its pace (`fast-...` is not held back) and names its line in the access log.
#
# Wants $work and certificates.sh; sets $http_url, $tls_url, $tls_port and $ca.

origin_pid=
ca=$work/origin/ca.pem

# A port that nobody listens on, out of the kernel's range for outgoing connections.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    return 1
}

# configure_origin PACE: bytes a second for each request that is not `fast-...`.
configure_origin() {
    local user='' kind
    # nginx started by root would read the files as another user, who may not reach them.
    [ "$(id -u)" -ne 0 ] || user='user root;'
    {
        cat <<END
daemon off;
worker_processes 1;
$user
pid $work/origin/nginx.pid;
error_log $work/origin/error.log warn;
events { worker_connections 512; }
http {
END
        for kind in client_body proxy fastcgi uwsgi scgi; do
            echo "  ${kind}_temp_path $work/origin/$kind;"
        done
        cat <<END
  default_type application/octet-stream;
  types { video/mp4 mp4; text/html html; }
  sendfile on;
  keepalive_requests 1000000;
  log_format line '\$http_user_agent\t\$status\t\$body_bytes_sent\t\$http_range\t\$msec';
  access_log $work/origin/access.log line;
  map \$http_user_agent \$pace { default $1; ~^fast- 0; }
  server {
    # A small send buffer: what nginx counts as sent has nearly arrived.
    listen 127.0.0.1:$http_port sndbuf=256k;
    listen 127.0.0.1:$tls_port ssl sndbuf=256k;
    ssl_certificate $work/origin/server.pem;
    ssl_certificate_key $work/origin/server.key;
    root $work/www;
    limit_rate \$pace;
    location = /flush { return 204; }
    location = /forbidden { return 403; }
    location = /broken { return 500; }
    # Links expire with their files.
    location /link/ { if (!-f \$request_filename) { return 403; } }
    # Looked through on the way, so that no length is told.
    location /unknown/ { alias $work/www/; ssi on; ssi_types *; }
  }
}
END
    } >"$work/origin/nginx.conf"
}

origin_start() {
    nginx -p "$work/origin" -e "$work/origin/error.log" -c "$work/origin/nginx.conf" \
        </dev/null >/dev/null 2>&1 &
    origin_pid=$!
    for _ in $(seq 200); do
        if curl -sf --noproxy '*' -A ready "$http_url/flush"; then
            return
        fi
        sleep 0.05
    done
    echo 'nginx does not answer' >&2
    tail -n 5 "$work/origin/error.log" >&2 || true
    return 1
}

# At once: open connections are cut.
origin_stop() {
    [ -n "$origin_pid" ] || return 0
    kill -TERM "$origin_pid" 2>/dev/null || true
    wait "$origin_pid" 2>/dev/null || true
    origin_pid=
}

# nginx logs a request when it ends. A request sent after a client is gone is handled by the same
# worker after that client's end, so once its line is there, the account is closed.
origin_settle() {
    local marker="flush-$RANDOM-$SECONDS"
    curl -sf --noproxy '*' -A "$marker" "$http_url/flush"
    for _ in $(seq 100); do
        if grep -q "^$marker" "$work/origin/access.log"; then
            return
        fi
        sleep 0.05
    done
    echo 'nginx does not write its access log' >&2
    return 1
}

# sent AGENT: body bytes that nginx sent to requests of this user agent.
sent() {
    awk -F '\t' -v agent="$1" '$1 == agent { sum += $3 } END { printf "%.0f\n", sum }' \
        "$work/origin/access.log"
}

# asked AGENT: how many requests it sent.
asked() {
    awk -F '\t' -v agent="$1" '$1 == agent { count++ } END { print count + 0 }' \
        "$work/origin/access.log"
}

prepare_origin() {
    mkdir -p "$work/origin" "$work/www"
    http_port=$(free_port)
    tls_port=$(free_port)
    while [ "$tls_port" = "$http_port" ]; do tls_port=$(free_port); done
    http_url=http://127.0.0.1:$http_port
    tls_url=https://127.0.0.1:$tls_port
    make_certificates "$work/origin" 'IP:127.0.0.1, DNS:localhost'
}
