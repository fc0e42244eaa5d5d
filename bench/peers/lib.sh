# Sourced by each peer's script: NAME.sh check | start TARGET_PORT [VARIANT] | stop
#   check   is silent, or says which command installs what is missing, and fails
#   start   brings an edge and a hub up on loopback and prints "listen=HOST:PORT pids=EDGE,HUB"
# A script that sources this defines, before it does so, `needs` (a program) and `install` (the command for it).
# UDP=1 asks for datagrams on the same port number, beside TCP. HUB_NS is another network namespace, as a file, for the
# hub and the target; then EDGE_ADDRESS and HUB_ADDRESS are where edge and hub meet.
# Everything it writes lies under $OUT/peers. Ports begin at $BASE_PORT; the target has the first.
set -eu
: "${OUT:?the directory for whatever the bench writes}" "${BASE_PORT:?the first of the ports to use}"
ulimit -n "$(ulimit -Hn)"
name=$(basename "$0" .sh)
dir=$OUT/peers/$name
certs=$OUT/peers/certs
target=${2:-}
variant=${3:-}
cores=$(nproc)
edge_address=${EDGE_ADDRESS:-127.0.0.1} hub_address=${HUB_ADDRESS:-127.0.0.1}

# A CA and a certificate for localhost, in the formats that the peers read.
make_certs() {
  [[ ! -s $certs/both.pem ]] || return 0
  mkdir -p "$certs"
  (
    cd "$certs"
    openssl ecparam -name prime256v1 -genkey -noout -out ca.key
    openssl req -x509 -new -key ca.key -subj /CN=bench-ca -days 30 -out ca.pem
    openssl ecparam -name prime256v1 -genkey -noout -out key.ec
    openssl pkcs8 -topk8 -nocrypt -in key.ec -out key.pem
    openssl req -new -key key.pem -subj /CN=localhost -out leaf.csr
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >leaf.ext
    openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile leaf.ext -out cert.pem
    openssl pkcs12 -export -in cert.pem -inkey key.pem -certfile ca.pem -passout pass:bench -out identity.pfx
    cat cert.pem key.pem >both.pem # the last, because it is the one looked for
  ) >"$certs/log" 2>&1
}

# spawn LABEL COMMAND...: in the background; its pid becomes $pid_LABEL
spawn() {
  local label=$1 namespace=''
  shift
  [[ $label != hub ]] || namespace=${HUB_NS:-}
  ${namespace:+nsenter "--net=$namespace"} "$@" >"$dir/$label.log" 2>&1 &
  echo $! >>"$dir/pids"
  declare -g "pid_$label=$!"
}

# wait_port PORT [ADDRESS]
wait_port() {
  for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/${2:-127.0.0.1}/$1") 2>/dev/null && return
    sleep 0.1
  done
  echo "$name: port $1 doesn't open; see $dir/*.log" >&2
  stop_all
  exit 1
}

# Until a connection through the peer is answered: some listen before they can relay.
wait_echo() {
  for _ in $(seq 100); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$1" && printf E >&3 && [[ $(head -c 1 <&3) == E ]]) 2>/dev/null; then return; fi
    sleep 0.1
  done
  echo "$name: nothing answers behind port $1; see $dir/*.log" >&2
  stop_all
  exit 1
}

# The same for a datagram, where datagrams are asked for.
wait_udp_echo() {
  [[ ${UDP:-} ]] || return 0
  for _ in $(seq 100); do
    if (exec 3<>"/dev/udp/127.0.0.1/$1" && printf E >&3 && [[ $(timeout 0.2 head -c 1 <&3) == E ]]) 2>/dev/null; then
      return
    fi
    sleep 0.1
  done
  echo "$name: no datagram comes back from port $1; see $dir/*.log" >&2
  stop_all
  exit 1
}

# A process and what it has forked, with commas between.
family() {
  local pid=$1 child out=$1
  for child in $(pgrep -P "$pid" || true); do out+=,$(family "$child"); done
  echo "$out"
}

# Only what `spawn` has noted.
stop_all() {
  local pid left
  [[ -f $dir/pids ]] || return 0
  mapfile -t pids <"$dir/pids"
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for _ in $(seq 50); do
    left=0
    for pid in "${pids[@]}"; do ! kill -0 "$pid" 2>/dev/null || left=1; done
    [[ $left == 1 ]] || break
    sleep 0.1
  done
  for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  rm -f "$dir/pids"
}

case ${1:-} in
check)
  [[ -z ${needs:-} ]] || command -v "$needs" >/dev/null || { echo "$install"; exit 1; }
  exit 0
  ;;
start)
  mkdir -p "$dir"
  make_certs
  stop_all
  ;;
stop)
  stop_all
  exit 0
  ;;
*)
  echo "use: $0 check | start TARGET_PORT [VARIANT] | stop" >&2
  exit 2
  ;;
esac
