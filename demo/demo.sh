#!/bin/bash
# `make demo`: three unmodified servers on one port. First the kernel refuses what berth is for; then
# python, nginx and sshd share the port, each is reached by its name, and each sees its client's true
# address. Then a node server lives as a pool: started by its first connection, replaced, killed and
# upgraded under load. At last one person publishes a program and another one dials it, by a rendezvous
# server. Needs no root. Everything happens in a temporary folder, with daemons of its own, and is
# stopped at the end. Exit status 1 when any step did not show what it should.
set -u
build=$(cd "${1:-build}" && pwd) || exit 1
berth=$build/berth
work=$(mktemp -d /tmp/berth-demo.XXXXXX) || exit 1
export BERTH_RUNTIME_DIR=$work/berth BERTH_LOG_DIR=$work/log
python=/usr/bin/python3
pids=()
made_sshd_folder=
failures=0

if [ -t 1 ]; then bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' green='' red='' plain=''; fi

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
indent() { sed 's/^/    /'; }
shown() { printf '    %s$ %s%s\n' "$bold" "$*" "$plain"; }
shown_at() {
    local where=$1
    shift
    printf '    %s%s$ %s%s\n' "$bold" "$where" "$*" "$plain"
}
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
# as WHO COMMAND...: one of the two people of the last part, with a home, key, berthd and berth-peer of
# their own.
as() {
    local who=$1
    shift
    env HOME="$work/$who" XDG_CONFIG_HOME= BERTH_KEY= BERTH_RUNTIME_DIR="$work/$who/r" "$@"
}
# Workers are the last that live when a step has gone wrong.
no_worker() { [ "$(workers)" = '' ]; }
cleanup() {
    stop
    for who in home laptop; do as "$who" "$berth" peers stop; done >/dev/null 2>&1
    as home "$berth" stop 2>/dev/null
    "$berth" stop --no-wait api >/dev/null 2>&1
    soon no_worker
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

# ---------------------------------------------------------------------------------------------------
title "6. A pool: berthd starts the program when somebody asks for it"
cat >"$work/server.js" <<END
require('http').createServer((request, response) => {
    response.end('hello from node, process ' + process.pid + '\\n');
}).listen($port, '127.0.0.1');
END
# load SECONDS: four clients with a new connection for each request; prints what failed, and whose
# answers came.
cat >"$work/load.py" <<'END'
import collections, http.client, sys, threading, time
port, seconds = int(sys.argv[1]), float(sys.argv[2])
end, failed, answered = time.monotonic() + seconds, [], collections.Counter()
def client():
    while time.monotonic() < end:
        try:
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            c.request("GET", "/", headers={"Host": "api.localhost", "Connection": "close"})
            r = c.getresponse()
            text = r.read().decode()
            c.close()
            if r.status != 200:
                raise OSError(f"status {r.status}: {text}")
            answered[text.split()[-1]] += 1
        except (OSError, http.client.HTTPException) as e:
            failed.append(repr(e))
threads = [threading.Thread(target=client) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
print(f"{sum(answered.values()) + len(failed)} requests, {len(failed)} failed, "
      f"answered by {len(answered)} processes in turn")
for e in failed[:3]: print(e)
END
pool() { "$berth" ls --json | "$python" -c 'import json, sys
for app in json.load(sys.stdin)["apps"]:
    if app["name"] == "api" and "pool" in app:
        print(eval(sys.argv[1], {"pool": app["pool"]}))' "$1"; }
workers() { pool '" ".join(str(w["pid"]) for w in pool["workers"])' 2>/dev/null; }
value() { "$berth" status | awk -v key="$1" '$1 == key { print $2 }'; }
# under_load SECONDS: the load in the background; loaded WHAT: its end, and that nothing failed.
under_load() {
    "$python" "$work/load.py" "$port" "$1" >"$work/load" 2>&1 </dev/null &
    load=$!
    sleep 0.5
}
loaded() {
    wait "$load"
    indent <"$work/load"
    check "$1" grep -q '[1-9][0-9]* requests, 0 failed' "$work/load"
}

shown "berth run --name api --as api.localhost --listen 127.0.0.1:$port --workers 2 --set start=demand --detach -- node server.js"
"$berth" run --name api --as api.localhost --listen "127.0.0.1:$port" --workers 2 \
    --set start=demand --set stop_timeout=2s --detach -- node "$work/server.js" 2>&1 | indent
shown "berth ls | grep api"
"$berth" ls | grep -E '^(POOL|api +waiting)' | indent
check "nothing of it runs yet" no_worker
shown "curl http://api.localhost:$port/"
fetch -w 'after %{time_total} s\n' "http://api.localhost:$port/" >"$work/answer" 2>&1
indent <"$work/answer"
check "the first connection started it, waited, and was answered" grep -q 'hello from node' "$work/answer"

# ---------------------------------------------------------------------------------------------------
title "7. Under load: new workers, kill -9, an upgrade"
echo "    Four clients ask without a pause, each time by a new connection."
two_workers() { [ "$(workers | wc -w)" = 2 ]; }
soon two_workers
under_load 4
restarts=0
while kill -0 "$load" 2>/dev/null; do
    shown "berth restart api"
    "$berth" restart api 2>&1 | indent
    restarts=$((restarts + 1))
done
loaded "all workers were replaced (restarts: $restarts); no request failed"

under_load 4
first=$(value dispatch_pid)
shown "kill -9 $first     # berth-dispatch, which holds what comes in"
kill -9 "$first"
another_dispatch() { [ "$(value dispatch_pid)" != "$first" ]; }
soon another_dispatch
daemon=$(value pid) before=$(workers)
shown "kill -9 $daemon     # berthd; the next command starts another"
kill -9 "$daemon"
shown "berth ls | grep api"
"$berth" ls | grep -E '^(POOL|api +running)' | indent
check "the new berthd has the same workers" test "$(workers)" = "$before"
shown "berth upgrade     # berthd becomes the installed one, with a new berth-dispatch"
"$berth" upgrade 2>&1 | indent
loaded "both were killed and then replaced; no request failed"

# ---------------------------------------------------------------------------------------------------
title "8. From anywhere: two people, each with a key of their own, and a rendezvous server"
echo "    Both are on this machine here; they could be behind two NATs."
mkdir "$work/rendezvous"
shown_at server "berth-rendezvous --listen 127.0.0.1:0 --state DIR &"
start "$work/rendezvous.log" "$build/berth-rendezvous" --listen 127.0.0.1:0 --state "$work/rendezvous"
rendezvous() { grep -o '127\.0\.0\.1:[0-9]*' "$work/rendezvous.log"; }
soon rendezvous
BERTH_RENDEZVOUS=$(rendezvous | head -n 1)
export BERTH_RENDEZVOUS
for who in home laptop; do
    mkdir -m 700 "$work/$who" "$work/$who/r"
    shown_at "$who" "berth key; berth name claim $who"
    as "$who" "$berth" key 2>/dev/null | indent
    as "$who" "$berth" name claim "$who" | indent
done
page=$((port + 1))
until can_bind "$page" 2>/dev/null; do page=$((page + 1)); done
start "$work/home.log" "$python" -m http.server --bind 127.0.0.1 --directory "$work/blog" "$page"
soon fetch "http://127.0.0.1:$page/"
shown_at home "berth publish web --to $page --allow laptop"
as home "$berth" publish web --to "$page" --allow laptop 2>&1 | indent
shown_at laptop "berth dial home/web"
printf 'GET / HTTP/1.0\r\n\r\n' | as laptop "$berth" dial home/web >"$work/dialled" 2>&1
tail -n 1 "$work/dialled" | indent
check "the page came through a session between the two keys" grep -q 'Hello from the blog' "$work/dialled"
far=$((page + 1))
until can_bind "$far" 2>/dev/null; do far=$((far + 1)); done
shown_at laptop "berth forward $far home/web &"
# Not by the function: its process number would be a shell's.
start "$work/forward.log" env HOME="$work/laptop" XDG_CONFIG_HOME= BERTH_KEY= \
    BERTH_RUNTIME_DIR="$work/laptop/r" "$berth" forward "$far" home/web
shown_at laptop "curl http://127.0.0.1:$far/"
soon fetch "http://127.0.0.1:$far/"
fetch "http://127.0.0.1:$far/" | indent
direct() { as laptop "$berth" peers | grep -q direct; }
check "it began on the relay and goes directly now" soon direct
shown_at laptop "berth peers"
as laptop "$berth" peers | cut -c 1-17,91- | indent
shown_at home "berth deny laptop"
as home "$berth" deny laptop
shown_at laptop "berth dial home/web"
as laptop "$berth" dial home/web </dev/null >"$work/denied" 2>&1
indent <"$work/denied"
check "who is not allowed is refused" grep -q NotAllowed "$work/denied"

# ---------------------------------------------------------------------------------------------------
title "9. Everything is stopped"
stop
for who in home laptop; do as "$who" "$berth" peers stop; done
as home "$berth" stop
shown "berth stop api"
"$berth" stop api
check "its workers have ended" no_worker
"$berth" stop
check "the port is free again" soon can_bind "$port"

if [ "$failures" -gt 0 ]; then
    printf '\n%s%d steps failed.%s\n' "$red" "$failures" "$plain"
    for log in blog shop nginx-error sshd; do
        [ -s "$work/$log.log" ] && tail -n 5 "$work/$log.log" | sed "s/^/    $log: /"
    done
    tail -n 20 "$BERTH_RUNTIME_DIR/log" 2>/dev/null | sed 's/^/    berthd: /'
    exit 1
fi
printf '\nUnmodified programs shared one port; each saw its own clients. A pool was replaced under load, and dropped nothing. Two
keys met at a server and spoke to each other directly.\n'
