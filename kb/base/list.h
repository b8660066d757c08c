/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An intrusive doubly linked list: the head and every member hold one `struct list`. An empty list
 * points to itself. Thread: the owner's.
 */
#ifndef KS_BASE_LIST_H
#define KS_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev, *next;
};

#define LIST_OF(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))
/* The body may remove `pos` itself. */
#define LIST_FOREACH(pos, head)                                                                    \
    for (struct list *pos = (head)->next, *pos##_next = pos->next; pos != (head);                  \
         pos = pos##_next, pos##_next = pos->next)

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

/* Leaves the node pointing to itself, so that removing it again is harmless. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

#endif
