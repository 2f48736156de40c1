#include "base/list.h"
#include "test.h"

struct item {
    int n;
    struct list link;
};

static int digits(struct list *head)
{
    int all = 0;
    list_for_each(i, head, struct item, link) all = 10 * all + i->n;
    return all;
}

TEST("a list keeps the order in which items were appended")
{
    struct list head;
    struct item a = {1}, b = {2}, c = {3};
    list_init(&head);
    CHECK(list_empty(&head));
    list_append(&head, &a.link);
    list_append(&head, &b.link);
    list_append(&head, &c.link);
    CHECK(!list_empty(&head));
    CHECK_INT(digits(&head), 123);
    list_remove(&b.link);
    CHECK_INT(digits(&head), 13);
}

TEST("an item that was removed is a list of its own, and a second removal is harmless")
{
    struct list head;
    struct item a = {1}, b = {2};
    list_init(&head);
    list_append(&head, &a.link);
    list_append(&head, &b.link);
    list_remove(&a.link);
    CHECK(list_empty(&a.link));
    list_remove(&a.link);
    CHECK_INT(digits(&head), 2);
    list_append(&head, &a.link);
    CHECK_INT(digits(&head), 21);
}

TEST("appending to an item puts the new one before it")
{
    struct list head;
    struct item a = {1}, b = {2}, c = {3};
    list_init(&head);
    list_append(&head, &a.link);
    list_append(&head, &c.link);
    list_append(&c.link, &b.link);
    CHECK_INT(digits(&head), 123);
}

TEST("the item of a loop may be removed inside its body, all of them one after the other")
{
    struct list head;
    struct item items[4] = {{1}, {2}, {3}, {4}};
    int seen = 0;
    list_init(&head);
    for (size_t i = 0; i < 4; i++)
        list_append(&head, &items[i].link);
    list_for_each(i, &head, struct item, link)
    {
        seen = 10 * seen + i->n;
        list_remove(&i->link);
    }
    CHECK_INT(seen, 1234);
    CHECK(list_empty(&head));
}
