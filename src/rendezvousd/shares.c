/* Who sends how much of a batch of relayed packets. Counts come in, yes or no goes out. While a
 * thread keeps up everybody may send everything. When it has fallen behind, batch after batch is
 * full, and what waits behind them in the socket is lost without a choice; then each pair gets an
 * equal part of a batch, and what is dropped here makes the batch cheaper, until the thread has
 * caught up. */
#include "rendezvousd/shares.h"

#include "wire/relay.h"

/* So many full batches one after the other are no burst but more than we can do. */
#define BUSY 4

static uint32_t pair_of(uint32_t channel)
{
    return channel >> 1;
}

static size_t share_find(const struct shares *s, uint32_t pair)
{
    size_t i = pair % SHARES;
    while (s->of[i].asked && s->of[i].pair != pair)
        i = (i + 1) % SHARES;
    return i;
}

void shares_begin(struct shares *s, bool full)
{
    s->busy = full ? s->busy + 1 : 0;
    s->strict = s->busy >= BUSY;
    if (!s->strict)
        return;
    memset(s->of, 0, sizeof s->of);
    s->total = s->pairs = 0;
}

void shares_ask(struct shares *s, const uint8_t *bytes, size_t n)
{
    struct str payload;
    uint32_t channel;
    size_t head = n < RELAY_MAX ? n : RELAY_MAX;
    if (s->pairs == SHARES / 2 || relay_decode(bytes, head, &channel, &payload) < 0)
        return;
    size_t i = share_find(s, pair_of(channel));
    s->pairs += s->of[i].asked == 0;
    s->of[i].pair = pair_of(channel);
    s->of[i].asked += n;
    s->total += n;
}

bool shares_take(struct shares *s, uint32_t channel, size_t n)
{
    if (!s->strict || s->pairs < 2)
        return true;
    size_t i = share_find(s, pair_of(channel));
    if (s->of[i].asked == 0)
        return true;
    s->of[i].passed += n;
    return s->of[i].passed <= s->total / s->pairs;
}
