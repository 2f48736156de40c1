#!/bin/bash
# `make demo`: three unmodified servers on one port. First the kernel refuses what berth is for; then
# python, nginx and sshd share the port, each is reached by its name, and each sees its client's true
# address. Needs no root. Everything happens in a temporary folder, with a berthd of its own, and is
# stopped at the end. Exit status 1 when any step did not show what it should.
set -u
build=$(cd "${1:-build}" && pwd) || exit 1
berth=$build/berth
work=$(mktemp -d /tmp/berth-demo.XXXXXX) || exit 1
export BERTH_RUNTIME_DIR=$work/berth
python=/usr/bin/python3
pids=()
made_sshd_folder=
failures=0

if [ -t 1 ]; then bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' green='' red='' plain=''; fi

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
indent() { sed 's/^/    /'; }
shown() { printf '    %s$ %s%s\n' "$bold" "$*" "$plain"; }
good() { printf '  %sok%s  %s\n' "$green" "$plain" "$*"; }
bad() {
    printf '  %sFAILED%s  %s\n' "$red" "$plain" "$*"
    failures=$((failures + 1))
}
# check WHAT COMMAND...: the command is to be true
check() {
    local what=$1
    shift
    if "$@" >/dev/null 2>&1; then good "$what"; else bad "$what"; fi
}
# soon COMMAND...: true within ten seconds
soon() {
    local i
    for i in $(seq 100); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    return 1
}
# start LOG COMMAND...: in the background, to be stopped at the end
start() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 </dev/null &
    pids+=($!)
}
ended() { ! kill -0 "$1"; }
stop() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${pids[@]}"; do
        soon ended "$pid" || kill -9 "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    pids=()
}
cleanup() {
    stop
    "$berth" stop 2>/dev/null
    [ -z "$made_sshd_folder" ] || rmdir /run/sshd 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

can_bind() {
    "$python" -c 'import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen()' "$1"
}
# A free one below those that the kernel gives to clients.
port=$((RANDOM % 10000 + 20000))
until can_bind "$port" 2>/dev/null; do port=$((RANDOM % 10000 + 20000)); done
fetch() { curl -4 -sS --max-time 5 "$@"; }
mkdir "$work/blog" "$work/ssh"
echo 'Hello from the blog (python)' >"$work/blog/index.html"

# ---------------------------------------------------------------------------------------------------
title "1. Without berth: one port, one program"
web=("$python" -m http.server --bind 127.0.0.1 --directory "$work/blog" "$port")
shown "python3 -m http.server $port &"
start "$work/first.log" "${web[@]}"
soon fetch "http://127.0.0.1:$port/"
shown "python3 -m http.server $port"
timeout 10 "${web[@]}" >"$work/second.log" 2>&1
tail -n 1 "$work/second.log" | indent
check "the kernel refuses the second program" grep -q 'Address already in use' "$work/second.log"
stop

# ---------------------------------------------------------------------------------------------------
title "2. With berth: python, nginx and sshd, all told to listen on port $port"
me=$(id -un)
[ "$(id -u)" = 0 ] && nginx_user='user root;' || nginx_user=
cat >"$work/nginx.conf" <<END
$nginx_user
daemon off;
worker_processes 2;
pid $work/nginx.pid;
error_log $work/nginx-error.log;
events { }
http {
    access_log $work/nginx-access.log;
    client_body_temp_path $work/n1; proxy_temp_path $work/n2; fastcgi_temp_path $work/n3;
    uwsgi_temp_path $work/n4; scgi_temp_path $work/n5;
    server {
        listen 127.0.0.1:$port;
        location / { return 200 "Hello from the shop (nginx)\n"; }
    }
}
END
ssh-keygen -q -t ed25519 -N '' -f "$work/ssh/host"
ssh-keygen -q -t ed25519 -N '' -f "$work/ssh/user"
echo "[localhost]:$port $(cut -d' ' -f1,2 "$work/ssh/host.pub")" >"$work/ssh/known_hosts"
cp "$work/ssh/user.pub" "$work/ssh/authorized_keys"
cat >"$work/ssh/sshd_config" <<END
ListenAddress 127.0.0.1:$port
HostKey $work/ssh/host
AuthorizedKeysFile $work/ssh/authorized_keys
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
END
# Where Debian's sshd goes to when it gives up root; its service would have made it.
if [ "$(id -u)" = 0 ] && [ ! -d /run/sshd ]; then
    mkdir -m 755 /run/sshd && made_sshd_folder=1
fi
sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd)
nginx=$(PATH=$PATH:/usr/sbin:/sbin command -v nginx)

shown "berth run --as blog.localhost -- python3 -m http.server $port &"
start "$work/blog.log" "$berth" run --as blog.localhost -- "$python" -u -m http.server \
    --bind 127.0.0.1 --directory "$work/blog" "$port"
shown "berth run --as shop.localhost -- nginx -c nginx.conf &"
start "$work/shop.log" "$berth" run --as shop.localhost -- "$nginx" -c "$work/nginx.conf"
shown "berth run --as ssh:// -- sshd -D -f sshd_config &"
start "$work/sshd.log" "$berth" run --as ssh:// -- "$sshd" -D -e -f "$work/ssh/sshd_config"
listening() { [ "$("$berth" ls --json | grep -c '"listening": true')" = 3 ]; }
check "all three listen" soon listening

# ---------------------------------------------------------------------------------------------------
title "3. Each is reached by its name; the clients come from three addresses"
shown "curl --interface 127.0.0.11 http://blog.localhost:$port/"
fetch --interface 127.0.0.11 "http://blog.localhost:$port/" >"$work/answer" 2>&1
indent <"$work/answer"
check "python answered" grep -q 'Hello from the blog' "$work/answer"

shown "curl --interface 127.0.0.22 http://shop.localhost:$port/"
fetch --interface 127.0.0.22 "http://shop.localhost:$port/" >"$work/answer" 2>&1
indent <"$work/answer"
check "nginx answered" grep -q 'Hello from the shop' "$work/answer"

shown "ssh -b 127.0.0.33 -p $port $me@localhost 'echo \"\$SSH_CONNECTION\"'"
ssh -4 -F none -b 127.0.0.33 -p "$port" -i "$work/ssh/user" -o IdentitiesOnly=yes -o BatchMode=yes \
    -o ConnectTimeout=5 -o UserKnownHostsFile="$work/ssh/known_hosts" -o LogLevel=ERROR \
    "$me@localhost" 'echo "logged in: $SSH_CONNECTION"' >"$work/answer" 2>&1 </dev/null
indent <"$work/answer"
check "sshd let $me in" grep -q 'logged in:' "$work/answer"

shown "curl http://nobody.localhost:$port/"
fetch "http://nobody.localhost:$port/" >"$work/nobody" 2>&1
indent <"$work/nobody"
check "a name that nobody serves is told what there is" grep -q 'NoRoute: nobody.localhost' "$work/nobody"

# ---------------------------------------------------------------------------------------------------
title "4. The client address that each program saw itself"
grep -m1 '127.0.0.11' "$work/blog.log" | sed 's/^/    python  /'
check "python saw 127.0.0.11" grep -q '^127\.0\.0\.11 .*GET / ' "$work/blog.log"
grep -m1 '127.0.0.22' "$work/nginx-access.log" 2>&1 | sed 's/^/    nginx   /'
check "nginx saw 127.0.0.22" grep -q '^127\.0\.0\.22 .*GET / ' "$work/nginx-access.log"
sed -n 's/^logged in: /    sshd    SSH_CONNECTION=/p' "$work/answer"
check "sshd saw 127.0.0.33, and its own port as $port" \
    grep -qE "^logged in: 127\.0\.0\.33 [0-9]+ 127\.0\.0\.1 $port\$" "$work/answer"

# ---------------------------------------------------------------------------------------------------
title "5. Who shares the port, and who holds it"
shown "berth ls"
"$berth" ls >"$work/ls" 2>&1
indent <"$work/ls"
check "berth ls shows the three" \
    test "$(grep -cE "http://blog|http://shop|ssh://" "$work/ls")" = 3
shown "berth why $port"
"$berth" why "$port" >"$work/why" 2>&1
indent <"$work/why"
check "berth why names berthd as the holder" grep -q "port $port is held by berthd" "$work/why"
check "and the programs behind it" \
    test "$(grep -cE '^ +(blog|shop|sshd) \(pid' "$work/why")" = 3

title "6. Everything is stopped"
stop
"$berth" stop
check "the port is free again" soon can_bind "$port"

if [ "$failures" -gt 0 ]; then
    printf '\n%s%d steps failed.%s\n' "$red" "$failures" "$plain"
    for log in blog shop nginx-error sshd; do
        [ -s "$work/$log.log" ] && tail -n 5 "$work/$log.log" | sed "s/^/    $log: /"
    done
    exit 1
fi
printf '\nThree unmodified programs shared one port; each saw its own clients.\n'
