/* SPDX-License-Identifier: Apache-2.0 */
/* Channels, on a connection of their own that follows the other one. */
#include "conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 1000, QUIET_MS = 2000, DEAD_MS = 5000 };

struct pubsub {
	struct engine *e;
	struct conn *conn;
	struct address at; /* .port 0: not known yet */
	struct listen *channels;
	struct event *tick;
	int ready;
	int64_t heard_at;
};

static void say_subscribe(struct pubsub *p, const struct listen *l)
{
	conn_say(p->conn,
			(struct chatd_str[]){ CHATD_LIT("SUBSCRIBE"),
					chatd_str_of(l->channel, strlen(l->channel)), { NULL, 0 } });
}

static void on_ready(void *arg)
{
	struct pubsub *p = arg;
	p->ready = 1;
	p->heard_at = engine_now();
	for (const struct listen *l = p->channels; l; l = l->next) {
		say_subscribe(p, l);
	}
}

static int text_is(const redisReply *r, const char *text)
{
	return r->type == REDIS_REPLY_STRING && strcmp(r->str, text) == 0;
}

static void on_reply(void *arg, redisReply *r)
{
	struct pubsub *p = arg;
	p->heard_at = engine_now();
	if (r->type == REDIS_REPLY_ARRAY && r->elements == 3 &&
			r->element[1]->type == REDIS_REPLY_STRING) {
		struct chatd_str payload = { NULL, 0 };
		const redisReply *data = r->element[2];
		int message = text_is(r->element[0], "message") && data->type == REDIS_REPLY_STRING;
		if (message) {
			payload = chatd_str_of(data->str, (size_t)data->len);
		}
		for (const struct listen *l = p->channels; l; l = l->next) {
			if ((message || text_is(r->element[0], "subscribe")) &&
					text_is(r->element[1], l->channel)) {
				engine_hear(p->e, l->fn, l->arg, payload);
			}
		}
	} else if (r->type == REDIS_REPLY_ERROR) {
		p->e->h->log(p->e->ctx, CHATD_LOG_WARN,
				"%s:%d refused a subscription (%.140s): allow the user of redis.user the channels",
				p->at.host, p->at.port, r->str);
	}
	freeReplyObject(r);
}

/* The tick opens it again; why it broke is the other connection's to tell. */
static void on_lost(void *arg, const char *why)
{
	struct pubsub *p = arg;
	p->e->h->log(p->e->ctx, CHATD_LOG_DEBUG, "channels: %s", why);
	p->conn = NULL;
	p->ready = 0;
}

static const struct conn_user user = { on_ready, on_reply, on_lost };

static void leave(struct pubsub *p)
{
	conn_close(p->conn);
	p->conn = NULL;
	p->ready = 0;
}

static void enter(struct pubsub *p)
{
	if (!p->conn && p->at.port && p->channels) {
		p->conn = conn_open(p->e, CONN_PUBSUB, &p->at, &user, p);
	}
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct pubsub *p = arg;
	int64_t quiet = engine_now() - p->heard_at;
	(void)fd;
	(void)what;
	if (p->ready && quiet >= DEAD_MS) {
		leave(p);
	} else if (p->ready && quiet >= QUIET_MS) {
		conn_say(p->conn, (struct chatd_str[]){ CHATD_LIT("PING"), { NULL, 0 } });
	}
	if (atomic_load(&p->e->up)) {
		enter(p);
	}
}

void pubsub_add(struct pubsub *p, struct listen *l)
{
	l->next = p->channels;
	p->channels = l;
	if (p->ready) {
		say_subscribe(p, l);
	} else {
		enter(p);
	}
}

void pubsub_follow(struct pubsub *p, const struct address *at)
{
	if (p->conn && !address_same(at, &p->at)) {
		leave(p);
	}
	p->at = *at;
	enter(p);
}

struct pubsub *pubsub_create(struct engine *e)
{
	const struct timeval tick = { TICK_MS / 1000, 0 };
	struct pubsub *p = calloc(1, sizeof(*p));
	if (!p) {
		return NULL;
	}
	p->e = e;
	p->tick = event_new(e->base, -1, EV_PERSIST, on_tick, p);
	if (!p->tick || event_add(p->tick, &tick) != 0) {
		pubsub_destroy(p);
		return NULL;
	}
	return p;
}

void pubsub_destroy(struct pubsub *p)
{
	if (!p) {
		return;
	}
	conn_close(p->conn);
	while (p->channels) {
		struct listen *next = p->channels->next;
		free(p->channels);
		p->channels = next;
	}
	if (p->tick) {
		event_free(p->tick);
	}
	free(p);
}
