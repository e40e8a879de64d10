#!/usr/bin/env bash
# A RabbitMQ of this project's own, for its tests, examples and benches: on loopback, with its own data directory, ports,
# certificates and password, as a user without rights, ready in seconds. Installs Debian's rabbitmq-server where it is missing.
#
#   scripts/rabbitmq.sh start     starts it, and prints lines for the shell; if it runs already, the same lines
#   scripts/rabbitmq.sh stop      stops it in good order
#   scripts/rabbitmq.sh kill      by SIGKILL; ports and data are kept, as after `stop`
#   scripts/rabbitmq.sh status    prints the same lines as `start`; exit status 3 if it does not run
#   scripts/rabbitmq.sh install   only that
#
#   eval "$(bash scripts/rabbitmq.sh start)"    sets AMQP_URL, AMQPS_URL, and AMQP_CA (the file, in PEM, of who signed for it)
#
# Not here: a broker for production. This one has one user (with the vhost `cf` and names that begin with `cf.` or
# `concurrent-futures`, and nothing else), a second vhost `other` that this user may not enter, no plugins, and no `rabbitmqctl`
# (no epmd, no cookie of anybody's home).
# The rule: only what can be evaluated goes to stdout; whoever cannot start it is told why, within a minute.
#
# Environment, each optional:
#   RABBITMQ_DIR     where its data are. Default: target/rabbitmq, or, if the project lies where a user without rights may not
#                    go, a directory under ${TMPDIR:-/tmp}. One broker a directory; several run side by side.
#   RABBITMQ_PORT    for AMQP without TLS. Default: a free one, at the first start.
#   RABBITMQ_LISTEN  the address. Default: 127.0.0.1.
#   RABBITMQ_EXTRA   more lines of rabbitmq.conf; they go before ours of the same name.
#                    (These three are remembered by the directory until they are given otherwise.)
#   RABBITMQ_FOR     a process's number: when that process has ended, the broker is killed and the directory removed.
#   RABBITMQ_UID     who runs it, if root starts it. Default: 64123, who owns nothing.
set -euo pipefail
umask 022

PROJECT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
RUN_UID=${RABBITMQ_UID:-64123}
USER_NAME=tester
VHOST=cf
PATIENCE=50 # seconds, for a start

say() { printf 'rabbitmq: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}
is_root() { [[ $(id -u) == 0 ]]; }

# What runs something without rights, with nothing inherited but what is said.
AS_USER=(env -i)
if is_root; then
    AS_USER=(setpriv --reuid "$RUN_UID" --regid "$RUN_UID" --clear-groups --no-new-privs --inh-caps=-all -- env -i)
fi

# ---- Where it is ----------------------------------------------------------------------------------------------------------

DIR=${RABBITMQ_DIR:-$PROJECT/target/rabbitmq}
mkdir -p "$DIR"
DIR=$(cd -- "$DIR" && pwd)
if ! "${AS_USER[@]}" PATH=/usr/bin:/bin sh -c 'cd -- "$1"' sh "$DIR" 2>/dev/null; then
    [[ -z ${RABBITMQ_DIR:-} ]] || fail "$DIR (RABBITMQ_DIR) cannot be entered by the user $RUN_UID, who runs the broker"
    DIR=${TMPDIR:-/tmp}/rabbitmq-$(id -u)-$(cksum <<<"$PROJECT" | cut -d' ' -f1)
    mkdir -p "$DIR"
fi
# A directory that somebody else made beforehand (under /tmp, say) is not to be trusted.
[[ -O $DIR ]] || fail "$DIR belongs to somebody else"
ROOT= # if its programs are not installed but unpacked: where
[[ -d ${DIR%/*}/rabbitmq-root/usr && -O ${DIR%/*}/rabbitmq-root ]] && ROOT=${DIR%/*}/rabbitmq-root
BROKER=$DIR/broker # what the broker itself may write

# ---- Installing -----------------------------------------------------------------------------------------------------------

# The directory of RabbitMQ's programs (Debian's own wrapper wants to be root).
programs() {
    local dir
    for dir in "$ROOT"/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin; do
        [[ -x $dir/rabbitmq-server ]] && echo "$dir" && return
    done
    return 1
}
is_installed() { programs >/dev/null && { [[ -n $ROOT ]] || command -v erl >/dev/null; } && openssl_of version >/dev/null 2>&1; }

# The libraries of what is unpacked.
libraries() { printf '%s:' "$ROOT"/usr/lib/*-linux-gnu* "$ROOT"/lib/*-linux-gnu*; }
openssl_of() {
    if [[ -n $ROOT && -x $ROOT/usr/bin/openssl ]]; then
        LD_LIBRARY_PATH=$(libraries) "$ROOT/usr/bin/openssl" "$@"
    else
        openssl "$@"
    fi
}

install() {
    is_installed && return
    command -v apt-get >/dev/null || fail 'there is no apt-get here: install RabbitMQ (3.10 or later), Erlang and openssl yourself'
    if is_root; then install_for_all; else unpack; fi
    is_installed || fail 'rabbitmq-server was installed and is not there'
}

# By root, into the system, without the daemon that the package would start now and at each boot.
install_for_all() {
    local policy=/usr/sbin/policy-rc.d status=0
    say 'installing rabbitmq-server from the packages of the distribution'
    exec 8</usr/sbin # one of us at a time: of `policy-rc.d` there is one
    flock 8
    is_installed && return
    local forbidden=0
    [[ ! -x $policy ]] || "$policy" rabbitmq-server start >/dev/null 2>&1 || forbidden=$?
    if [[ $forbidden == 101 ]]; then # whoever made that file forbids it already
        install_packages || status=$?
    else
        [[ ! -e $policy ]] || mv -- "$policy" "$policy.before-rabbitmq"
        trap 'rm -f -- "$policy"; [[ ! -e $policy.before-rabbitmq ]] || mv -- "$policy.before-rabbitmq" "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        install_packages || status=$?
        rm -f -- "$policy"
        [[ ! -e $policy.before-rabbitmq ]] || mv -- "$policy.before-rabbitmq" "$policy"
        trap - EXIT
    fi
    exec 8<&-
    [[ $status == 0 ]] || fail 'apt-get could not install rabbitmq-server'
    systemctl disable rabbitmq-server.service epmd.service epmd.socket >/dev/null 2>&1 || true
}
install_packages() {
    local apt=(apt-get -qq -o DPkg::Lock::Timeout=300)
    "${apt[@]}" update >&2 || say 'apt-get update failed; trying with the lists that are there'
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends rabbitmq-server openssl </dev/null >&2
}

# By anybody else: the packages that are missing, unpacked beside the data. Lists and archives of our own.
unpack() {
    local root=${DIR%/*}/rabbitmq-root
    local new=$root.$$
    say "unpacking the distribution's rabbitmq-server in $root (not root: nothing is installed)"
    mkdir -p "$new"/{lists/partial,archives/partial,files}
    local apt=(apt-get -qq -o "Dir::State::lists=$new/lists" -o "Dir::Cache=$new" -o Debug::NoLocking=1)
    "${apt[@]}" update >&2 || fail 'apt-get update failed'
    local missing
    missing=$("${apt[@]}" install -y --no-install-recommends --print-uris rabbitmq-server openssl |
        sed -n "s/^'[^']*' \([^_ ]*\)_.*/\1/p") || fail 'apt-get does not know rabbitmq-server'
    # shellcheck disable=SC2086 # names of packages
    (cd "$new/files" && "${apt[@]}" download $missing >&2) || fail 'apt-get download failed'
    local package
    for package in "$new"/files/*.deb; do dpkg -x "$package" "$new"; done
    rm -rf -- "$new"/{lists,archives,files,*.bin}
    # Erlang's launcher has its place built in.
    sed -i "s|ROOTDIR=/usr/lib/erlang|ROOTDIR='$root/usr/lib/erlang'|" "$new"/usr/lib/erlang/{bin,erts-*/bin}/erl
    rm -rf -- "$root"
    mv -- "$new" "$root"
    ROOT=$root
}

# ---- What it is started with ----------------------------------------------------------------------------------------------

# $1 ports of loopback that nobody listens at, below those that the system gives to whoever connects: else a stranger may
# have one of them when a broker that was killed comes back.
ports() {
    perl -MIO::Socket::INET -e '
        my ($wanted, @held) = @ARGV;
        for (1 .. 10000) {
            last if @held == $wanted;
            my $port = 15000 + int rand 17000;
            my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => $port) or next;
            push @held, [$port, $socket];
        }
        print join(" ", map { $$_[0] } @held), "\n"' "$1" 2>/dev/null && return
    # No perl: whoever answers has the port, the others are free.
    local port found=()
    while ((${#found[@]} < $1)); do
        port=$((15000 + RANDOM % 17000))
        [[ " ${found[*]} " == *" $port "* ]] || (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || found+=("$port")
    done
    echo "${found[*]}"
}

# RabbitMQ's rabbit_password_hashing_sha256: base64(salt ++ sha256(salt ++ password)), of 4 bytes of salt.
hash() {
    local salt
    salt=$(openssl_of rand -hex 4 | sed 's/../\\x&/g')
    { printf '%b' "$salt"; printf '%b%s' "$salt" "$1" | openssl_of dgst -sha256 -binary; } | openssl_of base64 -A
}

certificates() {
    local new="$DIR/tls.new" name="DNS:localhost,IP:127.0.0.1"
    [[ $LISTEN == 127.0.0.1 || $LISTEN == 0.0.0.0 ]] || name+=",IP:$LISTEN"
    [[ -e $DIR/tls/names && $(<"$DIR/tls/names") == "$name" ]] && return
    rm -rf -- "$new" "$DIR/tls"
    mkdir "$new"
    {
        local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
        openssl_of req -x509 "${key[@]}" -days 30 -subj '/CN=concurrent-futures test CA' -addext basicConstraints=critical,CA:TRUE \
            -addext keyUsage=critical,keyCertSign -keyout "$new/ca.key" -out "$new/ca.pem"
        openssl_of req "${key[@]}" -subj /CN=localhost -keyout "$new/server.key" -out "$new/server.csr"
        openssl_of x509 -req -in "$new/server.csr" -CA "$new/ca.pem" -CAkey "$new/ca.key" -CAcreateserial -days 30 \
            -extfile <(printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' "$name") \
            -out "$new/server.pem"
    } >"$DIR/openssl" 2>&1 || { cat "$DIR/openssl" >&2; fail 'openssl could not make the certificates'; }
    chmod 600 "$new"/*.key
    is_root && chown "$RUN_UID" "$new/server.key"
    printf '%s' "$name" >"$new/names"
    mv -- "$new" "$DIR/tls"
}

configure() {
    local name value
    # shellcheck disable=SC1091
    [[ ! -e $DIR/kept ]] || . "$DIR/kept"
    PORT=${RABBITMQ_PORT:-${KEPT_PORT:-}} LISTEN=${RABBITMQ_LISTEN:-${KEPT_LISTEN:-127.0.0.1}}
    TLS_PORT=${KEPT_TLS_PORT:-} DIST_PORT=${KEPT_DIST_PORT:-}
    EXTRA=${RABBITMQ_EXTRA-${KEPT_EXTRA:-}}
    if [[ -z $TLS_PORT ]]; then
        local free
        read -r free TLS_PORT DIST_PORT < <(ports 3)
        PORT=${PORT:-$free}
    fi
    printf 'KEPT_%s=%q\n' PORT "$PORT" LISTEN "$LISTEN" TLS_PORT "$TLS_PORT" DIST_PORT "$DIST_PORT" EXTRA "$EXTRA" >"$DIR/kept"
    [[ -s $DIR/password ]] || (umask 077 && openssl_of rand -hex 16 >"$DIR/password")
    certificates
    {
        printf '%s\n' "$EXTRA"
        while IFS='=' read -r name value; do
            grep -q "^ *${name//./\\.} *=" <<<"$EXTRA" || printf '%s=%s\n' "$name" "$value"
        done <<CONF
listeners.tcp.1=$LISTEN:$PORT
listeners.ssl.1=$LISTEN:$TLS_PORT
ssl_options.cacertfile=$DIR/tls/ca.pem
ssl_options.certfile=$DIR/tls/server.pem
ssl_options.keyfile=$DIR/tls/server.key
ssl_options.verify=verify_none
ssl_options.fail_if_no_peer_cert=false
load_definitions=$DIR/definitions.json
loopback_users=none
vm_memory_high_watermark.absolute=2GiB
disk_free_limit.absolute=50MB
log.file=rabbit.log
log.file.level=info
log.console=false
CONF
    } >"$DIR/rabbitmq.conf"
    # What it loads at the start, and makes nothing else: no `guest`, no default vhost.
    local names='^(cf\\.|concurrent-futures).*'
    [[ -s $DIR/definitions.json ]] || cat >"$DIR/definitions.json" <<JSON
{"vhosts": [{"name": "$VHOST"}, {"name": "other"}],
 "users": [{"name": "$USER_NAME", "password_hash": "$(hash "$(<"$DIR/password")")",
            "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": []}],
 "permissions": [{"user": "$USER_NAME", "vhost": "$VHOST", "configure": "$names",
                  "write": "$names|^amq\\\\.default\$", "read": "$names"}],
 "policies": [], "queues": [], "exchanges": [], "bindings": []}
JSON
    printf '[].\n' >"$DIR/enabled_plugins"
    mkdir -p "$BROKER"/{home,mnesia,log}
    is_root && chown -R "$RUN_UID:$RUN_UID" "$BROKER"
    return 0
}

# ---- Starting and stopping ------------------------------------------------------------------------------------------------

# Its number, if it runs: of a process that has our directory in its command line.
pid() {
    local pid
    pid=$(cat "$BROKER/pid" 2>/dev/null) && [[ -n $pid ]] || return 1
    tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$BROKER/" || return 1
    echo "$pid"
}

lines() {
    local KEPT_PORT KEPT_LISTEN KEPT_TLS_PORT KEPT_DIST_PORT KEPT_EXTRA
    # shellcheck disable=SC1091
    . "$DIR/kept"
    local host=$KEPT_LISTEN tls_host=$KEPT_LISTEN user
    user=$USER_NAME:$(<"$DIR/password")
    case $host in 127.0.0.1 | 0.0.0.0) host=127.0.0.1 tls_host=localhost ;; esac
    printf '%s=%q\n' AMQP_URL "amqp://$user@$host:$KEPT_PORT/$VHOST" \
        AMQPS_URL "amqps://$user@$tls_host:$KEPT_TLS_PORT/$VHOST" AMQP_CA "$DIR/tls/ca.pem"
    echo 'export AMQP_URL AMQPS_URL AMQP_CA'
}

start() {
    if pid >/dev/null; then
        lines
        return
    fi
    install
    configure
    local log=$BROKER/log/rabbit.log console=$DIR/console sbin began=$SECONDS host=$LISTEN
    [[ $host == 0.0.0.0 ]] && host=127.0.0.1
    (exec 3<>"/dev/tcp/$host/$PORT") 2>/dev/null && fail "somebody else listens at $host:$PORT"
    rm -f -- "$log" "$BROKER/pid"
    sbin=$(programs)
    local libraries=()
    [[ -z $ROOT ]] || libraries=(LD_LIBRARY_PATH="$(libraries)")
    # A session of its own: a signal for the group of the tests (Ctrl-C) does not reach it. No lock of ours goes along.
    cd "$BROKER"
    (exec "${AS_USER[@]}" PATH="$ROOT/usr/lib/erlang/bin:$ROOT/usr/bin:/usr/bin:/bin" HOME="$BROKER/home" LANG=C.UTF-8 "${libraries[@]}" \
        RABBITMQ_NODENAME="cf$DIST_PORT@localhost" RABBITMQ_DIST_PORT="$DIST_PORT" RABBITMQ_NODE_PORT="$PORT" \
        RABBITMQ_CONFIG_FILE="$DIR/rabbitmq.conf" RABBITMQ_ADVANCED_CONFIG_FILE="$DIR/advanced.config" \
        RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_ENABLED_PLUGINS_FILE="$DIR/enabled_plugins" \
        RABBITMQ_MNESIA_BASE="$BROKER/mnesia" RABBITMQ_LOG_BASE="$BROKER/log" RABBITMQ_PID_FILE="$BROKER/pid" \
        RABBITMQ_SCHEMA_DIR="$BROKER/home/schema" RABBITMQ_GENERATED_CONFIG_DIR="$BROKER/home/config" \
        ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=1 \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none -sname cf$DIST_PORT@localhost -start_epmd false -erl_epmd_port $DIST_PORT -kernel inet_dist_use_interface {127,0,0,1}" \
        setsid "$sbin/rabbitmq-server" </dev/null >"$console" 2>&1 9>&-) &
    local child=$!
    until grep -qs 'Server startup complete' "$log" && pid >/dev/null && (exec 3<>"/dev/tcp/$host/$PORT") 2>/dev/null; do
        if ! kill -0 "$child" 2>/dev/null || ((SECONDS - began > PATIENCE)); then
            say "it has not started after $((SECONDS - began)) s. What it said:"
            { head -n 20 "$console"; tail -n 20 "$log"; } >&2 2>/dev/null || true
            kill -KILL -- "-$child" "$child" "$(pid)" 2>/dev/null || true
            exit 1
        fi
        sleep 0.1
    done
    [[ -z ${RABBITMQ_FOR:-} ]] || watch "$RABBITMQ_FOR" "$(pid)"
    say "ready in $((SECONDS - began)) s, process $(pid), data in $DIR"
    lines
}

# When $1 has ended, $2 is killed and its directory removed.
watch() {
    setsid bash -c '
        until ! kill -0 "$1" 2>/dev/null || ! kill -0 "$2" 2>/dev/null; do sleep 1; done
        kill -0 "$1" 2>/dev/null && exit
        grep -qsF -- "$3/broker/" "/proc/$2/cmdline" && kill -KILL "$2"
        rm -rf -- "$3"' watch "$1" "$2" "$DIR" </dev/null >/dev/null 2>&1 9>&- &
}

# stop <signal>: SIGTERM ends it as `rabbitmqctl stop` does.
stop() {
    local pid began=$SECONDS
    if ! pid=$(pid); then
        say 'it does not run'
        return
    fi
    kill -"$1" "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do
        ((SECONDS - began < 30)) || kill -KILL "$pid" 2>/dev/null || true
        sleep 0.05
    done
    rm -f -- "$BROKER/pid"
    say 'stopped'
}

command=${1:-}
case $command in
start | stop | kill | install)
    exec 9>"$DIR/lock" # one of us at a time
    flock 9
    ;;
esac
case $command in
start) start ;;
stop) stop TERM ;;
kill) stop KILL ;;
install) install ;;
status)
    if pid >/dev/null; then
        lines
    else
        say 'it does not run'
        exit 3
    fi
    ;;
*)
    echo "usage: $0 start|stop|kill|status|install" >&2
    exit 2
    ;;
esac
