/* The machine's TCP connections: when one is made, stands, comes in, or is refused. What goes
 * through them is checked as over UDP. */
#include "punch/machine.h"

#include <errno.h>

#define RETRY_US 60000u
#define PROBES   4

void punch_lost(struct punch *p, unsigned socket, uint64_t now_us)
{
    struct pair *pair = pairs_of_socket(&p->pairs, socket);
    if (!pair || socket == 0)
        return;
    /* Two peers that try again at the same pace would miss each other for ever. */
    if (pair->state == PAIR_CONNECTING && pair->tries < PUNCH_TCP_TRIES)
        pair->due_us = now_us + RETRY_US + (p->c.seed >> pair->tries) % RETRY_US;
    else
        pair->state = PAIR_LOST;
}

void punch_connected(struct punch *p, unsigned socket, uint64_t now_us)
{
    struct pair *pair = pairs_of_socket(&p->pairs, socket);
    if (!pair || pair->state != PAIR_CONNECTING)
        return;
    pair->state = PAIR_TRYING;
    pair->due_us = now_us;
}

int punch_accepted(struct punch *p, const struct addr *from, uint64_t now_us)
{
    struct pair *pair = machine_learn(p, p->next_socket, from);
    if (!pair)
        return -EMFILE;
    p->next_socket++;
    pair->transport = CANDIDATE_TCP;
    pair->limit = PROBES;
    pair->due_us = now_us;
    return pair->socket;
}
