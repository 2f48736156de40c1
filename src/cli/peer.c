/* Help for the verbs about keys, names and peers: where files are, which servers to ask, and the
 * form of complaints. */
#include "cli/peer.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "keys/place.h"
#include "rendezvous/found.h"

int peer_key_path(char *buf, size_t size)
{
    return key_place(NULL, buf, size);
}

int peer_known_path(char *buf, size_t size)
{
    return key_place("peers", buf, size);
}

int peer_start(const char *verb)
{
    return keys_init() < 0 ? cli_fail(verb, "there is no source of randomness") : CLI_OK;
}

int peer_identity(const char *verb, struct identity *ret_id)
{
    char path[4096], trouble[512];
    int r = peer_key_path(path, sizeof path);
    if (r < 0)
        return cli_fail(verb, "neither $HOME nor $BERTH_KEY says where the key is");
    r = identity_load(path, ret_id, trouble, sizeof trouble);
    if (r == -ENOENT)
        return cli_fail(verb, "there is no key yet: `berth key new` makes one");
    return r < 0 ? cli_fail(verb, "%s", trouble) : CLI_OK;
}

int peer_unreachable(const char *verb, const char *server, int error)
{
    if (error == -EINVAL)
        return cli_fail(verb, "'%s' is no HOST:PORT", server);
    if (error == -EHOSTUNREACH)
        return cli_fail(verb, "%s: no such host, or no way to it", server);
    if (error == -ETIMEDOUT)
        return cli_fail(verb, "%s does not answer, neither over UDP nor over TCP", server);
    return cli_fail(verb, "cannot ask %s: %s", server, strerror(-error));
}

int peer_refused(const char *verb, const char *server, const struct rdvmsg *answer)
{
    if (answer->type != RDVMSG_ERROR)
        return cli_fail(verb, "%s: BadMessage: the answer makes no sense", server);
    return cli_fail(verb, "%s: %s: %s", server, rdv_reason_word(answer->reason),
                    rdv_reason_sentence(answer->reason));
}

const char *peer_time(uint64_t unix_s, char buf[PEER_TIME_MAX])
{
    return found_time(unix_s, buf);
}

const char *peer_transport(enum record_transport t)
{
    return t == RECORD_UDP ? "udp" : "tcp";
}

const char *peer_kind(enum record_kind k)
{
    static const char *const words[RECORD_KIND_END] = {[RECORD_HOST] = "host",
                                                       [RECORD_REFLEXIVE] = "server-reflexive",
                                                       [RECORD_MAPPED] = "mapped"};
    return k > 0 && k < RECORD_KIND_END ? words[k] : "?";
}
