# bash completion for berth(1)

# What `berth run --as` may begin with: this folder's name, the hosts that are served already (for
# another path), and the schemes.
_berth_routes() {
    local folder=${PWD##*/}
    folder=${folder,,}
    folder=${folder//[^a-z0-9]/-}
    printf '%s\n' "$folder.localhost" http:// tls:// ssh:// any:// tcp:// postgres:// redis:// \
        mqtt:// xmpp:// rdp:// socks:// prefix:// peer://
    berth ls --json 2>/dev/null | sed -n 's/^ *"route": "\(http:.*\)".*/\1/p'
}

# The routes that are reserved.
_berth_reserved() {
    berth reserve --list --json 2>/dev/null | sed -n 's/^ *"route": "\(.*\)".*/\1/p'
}

# The ports that somebody listens on.
_berth_ports() {
    local fields
    # There may be a hundred thousand others, which the shell is too slow for.
    while read -r -a fields; do
        echo $((16#${fields[1]##*:}))
    done < <(grep -hE '^ *[0-9]+: [^ ]+ [^ ]+ 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null) | sort -un
}

# The names that are known already.
_berth_peers() {
    berth peers --json 2>/dev/null | sed -n 's/^ *"name": "\(.*\)".*/\1/p'
}

# What is published here; asks berth-peer only when one runs.
_berth_services() {
    [[ -S ${BERTH_RUNTIME_DIR:-$XDG_RUNTIME_DIR/berth}/peer ]] || return
    berth publish --json 2>/dev/null | sed -n 's/^ *"service": "\(.*\)".*/\1/p'
}

# The word under the cursor, whole: bash takes it apart at colons. Sets cur and prev.
_berth_words() {
    local line=${COMP_LINE:0:COMP_POINT}
    cur=${line##*[[:space:]]}
    line=${line%"$cur"}
    line=${line%"${line##*[![:space:]]}"}
    prev=${line##*[[:space:]]}
}

# What bash has already taken off at a colon is taken off the candidates, too.
_berth_offer() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local head=${cur%"${cur##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$head"}")
    fi
    [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == *:// ]] && compopt -o nospace 2>/dev/null
    return 0
}

# The index of the program's word in `berth run ... PROGRAM`, or nothing.
_berth_program() {
    local i=2
    while ((i < COMP_CWORD)); do
        case ${COMP_WORDS[i]} in
        --) echo $((i + 1)); return ;;
        --as | --port | --listen | --publish | --allow | --name | --workers | --set)
            ((i += 2))
            # A value with colons is several words to bash.
            while [[ ${COMP_WORDS[i]-} == :* || ${COMP_WORDS[i - 1]-} == *: ]] && ((i < COMP_CWORD)); do
                ((i++))
            done
            ;;
        -*) ((i++)) ;;
        *) echo "$i"; return ;;
        esac
    done
}

# The keys of an application, for `--set KEY=VALUE`.
_berth_settings() {
    local keys
    keys=$(berth config --defaults 2>/dev/null | sed -n '/\[app/,/\[reserve/s/^#* *\([a-z_]*\) =.*/\1=/p')
    mapfile -t COMPREPLY < <(compgen -W "$keys" -- "$cur")
    compopt -o nospace 2>/dev/null
    return 0
}

_berth_run() {
    local program
    program=$(_berth_program)
    if [[ -z $program ]]; then
        case $prev in
        --as) _berth_offer "$(_berth_routes)" ;;
        --allow) _berth_offer "anyone $(_berth_peers)" ;;
        --listen) _berth_offer "0.0.0.0: 127.0.0.1: [::]: unix:/" ;;
        --port | --name | --publish) ;;
        --workers) _berth_offer "1 2 4 1..4" ;;
        --set) _berth_settings ;;
        *) _berth_offer "--as --port --listen --publish --allow --name --proxy --queue --workers --set --detach --help --" ;;
        esac
    elif declare -F _command_offset >/dev/null; then
        _command_offset "$program"
    elif ((program == COMP_CWORD)); then
        mapfile -t COMPREPLY < <(compgen -c -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}

_berth_reserve() {
    case $prev in
    --user) mapfile -t COMPREPLY < <(compgen -u -- "$cur") ;;
    --status) _berth_offer "400 403 404 503" ;;
    *)
        case $cur in
        -*) _berth_offer "--user --delegate --status --delete --list --json --help" ;;
        *) _berth_offer "http:// tls:// ssh:// any:// $(_berth_reserved)" ;;
        esac
        ;;
    esac
}

_berth_route() {
    if ((COMP_CWORD == 2)); then
        _berth_offer "add ls delete --help"
        return
    fi
    case ${COMP_WORDS[2]},$prev in
    ls,*) _berth_offer "--json --help" ;;
    delete,*) _berth_offer "$(_berth_apps) --help" ;;
    *,--to) _berth_offer "127.0.0.1: unix:/" ;;
    *,--proxy) _berth_offer "v1 v2" ;;
    *,--listen) _berth_offer "0.0.0.0: 127.0.0.1: [::]: unix:/" ;;
    *,--set) _berth_settings ;;
    *,--name) ;;
    *)
        case $cur in
        -*) _berth_offer "--to --proxy --name --listen --set --help" ;;
        *) _berth_offer "$(_berth_routes)" ;;
        esac
        ;;
    esac
}

# The names of applications.
_berth_apps() {
    berth ls --json 2>/dev/null | sed -n 's/^      "name": "\(.*\)",$/\1/p' | sort -u
}

_berth() {
    local cur prev
    local verbs="run route ls logs why reserve check config top metrics status start stop restart reload upgrade key name register lookup peers publish unpublish allow deny dial forward help"
    _berth_words
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        _berth_offer "$verbs --system --help --version"
        return
    fi
    case ${COMP_WORDS[1]} in
    run) _berth_run ;;
    why)
        case $cur in
        -*) _berth_offer "--json --brief --pid --help" ;;
        *) _berth_offer "$(_berth_ports) $(_berth_peers)" ;;
        esac
        ;;
    publish)
        case $prev in
        --to) _berth_offer "$(_berth_ports) unix:/" ;;
        --allow) _berth_offer "anyone $(_berth_peers)" ;;
        *) _berth_offer "--to --allow --proxy --rendezvous --json --help" ;;
        esac
        ;;
    unpublish) _berth_offer "$(_berth_services)" ;;
    allow | deny)
        if ((COMP_CWORD == 2)); then
            _berth_offer "anyone $(_berth_peers) --rendezvous --help"
        else
            _berth_offer "$(_berth_services)"
        fi
        ;;
    dial) _berth_offer "--timeout --fdpass --rendezvous -v --help $(_berth_peers)" ;;
    forward) _berth_offer "--all --detach --end --json --rendezvous --help $(_berth_peers)" ;;
    check)
        case $prev in
        --config) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        *) _berth_offer "--config --json --help http:// https:// tls:// ssh:// any://" ;;
        esac
        ;;
    config)
        case $prev in
        --config) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        *) _berth_offer "--config --defaults --json --help" ;;
        esac
        ;;
    ls | upgrade) _berth_offer "--json --help" ;;
    reserve) _berth_reserve ;;
    route) _berth_route ;;
    status) _berth_offer "--json --security --help" ;;
    logs)
        case $prev,$cur in
        -n,* | --lines,*) _berth_offer "all" ;;
        *,-*) _berth_offer "--follow --lines --json --help" ;;
        *) _berth_offer "$(_berth_apps)" ;;
        esac
        ;;
    top) _berth_offer "--interval --once --json --help" ;;
    reload) _berth_offer "--dry-run --help" ;;
    metrics) _berth_offer "--help" ;;
    start | stop | restart)
        case $cur in
        -*) _berth_offer "--no-wait --help" ;;
        *) _berth_offer "$(_berth_apps)" ;;
        esac
        ;;
    key) _berth_offer "show new --help" ;;
    name)
        case $cur in
        -*) _berth_offer "--rendezvous --json --help" ;;
        *) ((COMP_CWORD == 2)) && _berth_offer "claim release list" ;;
        esac
        ;;
    register) _berth_offer "--rendezvous --service --address --once --help" ;;
    lookup)
        case $cur in
        -*) _berth_offer "--rendezvous --json --help" ;;
        *) _berth_offer "$(_berth_peers)" ;;
        esac
        ;;
    peers)
        case $COMP_CWORD in
        2) _berth_offer "accept forget stop --json --help" ;;
        3) _berth_offer "$(_berth_peers)" ;;
        esac
        ;;
    help) _berth_offer "$verbs" ;;
    esac
}
complete -F _berth berth
