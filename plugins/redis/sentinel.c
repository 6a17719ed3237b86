/* SPDX-License-Identifier: Apache-2.0 */
/* Where is the master?  One sentinel after the other is asked until one knows. */
#include "conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sentinel {
	struct engine *e;
	struct conn *conn;
	struct event *deadline, *next;
	size_t at, asked; /* at: the one that knew it last */
	char why[512];
};

static void finish(struct sentinel *s, const struct address *master)
{
	conn_close(s->conn);
	s->conn = NULL;
	event_del(s->deadline);
	link_resolved(s->e->link, master, s->why);
}

/* This one knows nothing: the next one is asked in a turn of its own. */
static void give_up(struct sentinel *s, const char *why)
{
	snprintf(s->why, sizeof(s->why), "no sentinel knows a master \"%s\"; %.380s",
			s->e->conf->master, why);
	conn_close(s->conn);
	s->conn = NULL;
	event_del(s->deadline);
	s->at = (s->at + 1) % s->e->n_sentinels;
	if (++s->asked < s->e->n_sentinels) {
		engine_in(s->next, 0);
	} else {
		finish(s, NULL);
	}
}

static void on_ready(void *arg)
{
	struct sentinel *s = arg;
	const char *master = s->e->conf->master;
	conn_say(s->conn,
			(struct chatd_str[]){ CHATD_LIT("SENTINEL"), CHATD_LIT("get-master-addr-by-name"),
					chatd_str_of(master, strlen(master)), { NULL, 0 } });
	engine_in(s->deadline, s->e->conf->command_timeout);
}

static void on_reply(void *arg, redisReply *r)
{
	struct sentinel *s = arg;
	struct address master;
	char why[HOST_MAX + 160];
	int good = r->type == REDIS_REPLY_ARRAY && r->elements == 2 &&
			r->element[0]->type == REDIS_REPLY_STRING &&
			r->element[1]->type == REDIS_REPLY_STRING &&
			address_of(chatd_str_of(r->element[0]->str, (size_t)r->element[0]->len),
					chatd_str_of(r->element[1]->str, (size_t)r->element[1]->len), &master);
	snprintf(why, sizeof(why), "%s:%d says %.120s", conn_address(s->conn)->host,
			conn_address(s->conn)->port,
			r->type == REDIS_REPLY_ERROR ? r->str : "that there is none; see redis.master");
	freeReplyObject(r);
	if (good) {
		finish(s, &master);
	} else {
		give_up(s, why);
	}
}

static void on_lost(void *arg, const char *why)
{
	struct sentinel *s = arg;
	s->conn = NULL;
	give_up(s, why);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	give_up(arg, "no answer in time");
}

static const struct conn_user user = { on_ready, on_reply, on_lost };

static void on_next(evutil_socket_t fd, short what, void *arg)
{
	struct sentinel *s = arg;
	(void)fd;
	(void)what;
	s->conn = conn_open(s->e, CONN_SENTINEL, &s->e->sentinels[s->at], &user, s);
	if (!s->conn) {
		give_up(s, "no memory for a connection");
	}
}

void sentinel_ask(struct sentinel *s)
{
	s->asked = 0;
	engine_in(s->next, 0);
}

struct sentinel *sentinel_create(struct engine *e)
{
	struct sentinel *s = calloc(1, sizeof(*s));
	if (!s) {
		return NULL;
	}
	s->e = e;
	s->deadline = evtimer_new(e->base, on_deadline, s);
	s->next = evtimer_new(e->base, on_next, s);
	if (!s->deadline || !s->next) {
		sentinel_destroy(s);
		return NULL;
	}
	return s;
}

void sentinel_destroy(struct sentinel *s)
{
	if (!s) {
		return;
	}
	conn_close(s->conn);
	if (s->deadline) {
		event_free(s->deadline);
	}
	if (s->next) {
		event_free(s->next);
	}
	free(s);
}
