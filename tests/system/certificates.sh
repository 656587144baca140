# shellcheck shell=bash
# A certificate authority for one run of a test, and a server's certificate that it signed.

# make_certificates DIRECTORY NAMES [AUTHORITY]: writes ca.pem, server.pem and server.key there.
# NAMES are subject alternative names as openssl writes them: `IP:127.0.0.1, DNS:localhost`.
make_certificates() {
    (
        cd "$1"
        cat >openssl.cnf <<END
[req]
prompt = no
distinguished_name = name
[name]
CN = ${3:-haul system test}
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = $2
END
        local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config openssl.cnf)
        openssl req -x509 "${key[@]}" -extensions ca -days 2 -keyout ca.key -out ca.pem
        openssl req -new "${key[@]}" -subj '/CN=haul system test server' -keyout server.key \
            -out server.csr
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
            -extfile openssl.cnf -extensions server -out server.pem
    ) >"$1/openssl.log" 2>&1 || {
        cat "$1/openssl.log" >&2
        return 1
    }
}
