# shellcheck shell=bash
# nginx, Apache, Caddy and lighttpd in the server's namespace, each with a small configuration that
# leaves to the server's defaults all that is not about paths, ports and the certificate.
#
# Wants network.sh, $work and $ca; $work/www is what is served, $work/certificates has the
# certificate. One server runs at a time: $server is its name, $work/$server its directory.

server=
server_pid=
server_command=()

configure_nginx() {
    local kind
    {
        # A worker of another user could not read the files.
        cat <<END
daemon off;
user root;
pid $work/nginx/nginx.pid;
error_log $work/nginx/error.log notice;
events { }
http {
END
        for kind in client_body proxy fastcgi uwsgi scgi; do
            echo "  ${kind}_temp_path $work/nginx/$kind;"
        done
        cat <<END
  log_format line '\$remote_addr [\$time_local] "\$request" \$status \$bytes_sent \$http_user_agent';
  access_log $work/nginx/access.log line;
  server {
    listen 80;
    listen 443 ssl http2;
    ssl_certificate $work/certificates/server.pem;
    ssl_certificate_key $work/certificates/server.key;
    root $work/www;
  }
}
END
    } >"$work/nginx/nginx.conf"
    server_command=(nginx -p "$work/nginx" -e "$work/nginx/error.log" -c "$work/nginx/nginx.conf")
}

configure_apache() {
    local modules=/usr/lib/apache2/modules
    cat >"$work/apache/apache.conf" <<END
ServerRoot $work/apache
ServerName haul-system-test
PidFile $work/apache/apache.pid
DefaultRuntimeDir $work/apache
LoadModule mpm_event_module $modules/mod_mpm_event.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule socache_shmcb_module $modules/mod_socache_shmcb.so
LoadModule ssl_module $modules/mod_ssl.so
LoadModule http2_module $modules/mod_http2.so
# Apache does not serve as root.
User www-data
Group www-data
Listen 80
Listen 443
ErrorLog $work/apache/error.log
LogFormat "%h %t \"%r\" %>s %O %{User-Agent}i" line
CustomLog $work/apache/access.log line
DocumentRoot $work/www
<VirtualHost *:443>
    Protocols h2 http/1.1
    SSLEngine on
    SSLCertificateFile $work/certificates/server.pem
    SSLCertificateKeyFile $work/certificates/server.key
</VirtualHost>
END
    server_command=(apache2 -f "$work/apache/apache.conf" -DFOREGROUND)
}

configure_caddy() {
    cat >"$work/caddy/Caddyfile" <<END
{
    admin off
    auto_https off
    storage file_system $work/caddy/storage
    log {
        output file $work/caddy/error.log
    }
}
:80 {
    root * $work/www
    file_server
    log {
        output file $work/caddy/access.log
    }
}
:443 {
    tls $work/certificates/server.pem $work/certificates/server.key
    root * $work/www
    file_server
    log {
        output file $work/caddy/access.log
    }
}
END
    server_command=(env "HOME=$work/caddy" "XDG_CONFIG_HOME=$work/caddy" "XDG_DATA_HOME=$work/caddy"
        caddy run --adapter caddyfile --config "$work/caddy/Caddyfile")
}

configure_lighttpd() {
    # Without a type for it lighttpd sends no validator with a file; Debian's configuration has one
    # for whatever it does not know, too.
    cat >"$work/lighttpd/lighttpd.conf" <<END
mimetype.assign = ("" => "application/octet-stream")
server.modules = ("mod_openssl", "mod_accesslog")
server.document-root = "$work/www"
server.pid-file = "$work/lighttpd/lighttpd.pid"
server.errorlog = "$work/lighttpd/error.log"
server.upload-dirs = ("$work/lighttpd")
accesslog.filename = "$work/lighttpd/access.log"
accesslog.format = "%h %t \"%r\" %>s %b %{User-Agent}i"
server.port = 80
\$SERVER["socket"] == "0.0.0.0:443" {
    ssl.engine = "enable"
    ssl.pemfile = "$work/certificates/server.pem"
    ssl.privkey = "$work/certificates/server.key"
}
END
    server_command=(lighttpd -D -f "$work/lighttpd/lighttpd.conf")
}

# server_select NAME: what server_start starts.
server_select() {
    server=$1
    mkdir -p "$work/$server"
    "configure_$server"
}

# server_start: returns when it answers at both ports.
server_start() {
    local url
    ip netns exec "$server_ns" "${server_command[@]}" </dev/null >>"$work/$server/output.log" 2>&1 &
    server_pid=$!
    # The shell is not to report that it was killed.
    disown "$server_pid"
    for url in "http://$server_address" "https://$server_address"; do
        for _ in $(seq 200); do
            if ip netns exec "$server_ns" curl -sf --cacert "$ca" -o /dev/null "$url/ready"; then
                continue 2
            fi
            kill -0 "$server_pid" 2>/dev/null || break
            sleep 0.05
        done
        echo "$server does not answer at $url" >&2
        server_log >&2
        return 1
    done
}

# server_stop: as `nginx -s stop` does it, and as a service is stopped.
server_stop() {
    kill -TERM "$server_pid" 2>/dev/null || true
    for _ in $(seq 40); do
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.05
    done
    # Caddy waits for responses under way as long as they take.
    server_kill
}

# server_log_has RUN VERSION: a line of the access log is of that run's, for the object, and of that
# version of HTTP.
server_log_has() {
    awk -v run="$1" -v version="$2" '
        index($0, "/object.bin") && index($0, run) && index($0, version) { found = 1 }
        END { exit !found }' "$work/$server/access.log"
}

# server_kill: all its processes at once, with no chance to end a response.
server_kill() {
    kill_all_in "$server_ns"
}

# server_log: the end of what the server wrote.
server_log() {
    local file
    for file in "$work/$server"/*.log; do
        [ -s "$file" ] || continue
        echo "${file##*/} of $server:"
        tail -n 8 "$file"
    done
}
