#pragma once
/* Intrusive doubly linked list. The head is a node that points to itself when the list is empty. */

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev, *next;
};

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
    l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_append(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

/* Takes the node out and leaves it as an empty list of its own, so that a second remove is
 * harmless. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* The loop variable may be removed inside the body. */
#define list_for_each(it, head, type, member)                                                      \
    for (type *it = container_of((head)->next, type, member),                                      \
              *it##_next = container_of(it->member.next, type, member);                            \
         &it->member != (head);                                                                    \
         it = it##_next, it##_next = container_of(it->member.next, type, member))
