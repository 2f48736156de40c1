#pragma once
/* What an epoll event is about: first member of everything that is registered. */

enum source_kind {
    SOURCE_WAKE,
    SOURCE_SHARD,
    SOURCE_CONN,
    SOURCE_WAITQ,
    SOURCE_POOL,
    SOURCE_LEFT,
    SOURCE_STREAMS
};
struct source {
    enum source_kind kind;
};
