/* SPDX-License-Identifier: Apache-2.0 */
#include "helper.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/util.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Nothing of it is worth being freed. */
_Noreturn void give_up(int code)
{
	_exit(code);
}

/* ---- before the loop -------------------------------------------------------------------------- */

static void read_all(char *to, size_t n)
{
	while (n) {
		ssize_t got = read(STDIN_FILENO, to, n);
		if (got == 0 || (got < 0 && errno != EINTR)) {
			give_up(got == 0 ? 0 : WIRE_EXIT_SYSTEM);
		}
		to += got > 0 ? got : 0;
		n -= got > 0 ? (size_t)got : 0;
	}
}

/* Its texts are borrowed from a buffer that stays. */
void pipe_setup(struct helper *helper)
{
	char head[WIRE_HEAD];
	uint16_t type;
	uint32_t n;
	read_all(head, sizeof(head));
	if (wire_head(chatd_str_of(head, sizeof(head)), &type, &n) <= 0 || type != WIRE_SETUP ||
			n > WIRE_IN_MAX) {
		give_up(WIRE_EXIT_FRAME);
	}
	char *p = malloc(n ? n : 1);
	if (!p) {
		give_up(WIRE_EXIT_SYSTEM);
	}
	read_all(p, n);
	if (wire_setup_read(&helper->setup, chatd_str_of(p, n)) < 0) {
		give_up(WIRE_EXIT_FRAME);
	}
	helper->rules = (struct url_rules){ helper->setup.hosts, helper->setup.allow };
}

/* ---- in the loop ------------------------------------------------------------------------------ */

/* 1: one was there. */
static int take_frame(struct helper *helper, struct evbuffer *in)
{
	char head[WIRE_HEAD];
	uint16_t type;
	uint32_t n;
	struct wire_ask q;
	size_t have = evbuffer_get_length(in);
	if (have < sizeof(head)) {
		return 0;
	}
	(void)evbuffer_copyout(in, head, sizeof(head));
	if (wire_head(chatd_str_of(head, sizeof(head)), &type, &n) <= 0 || type != WIRE_ASK ||
			n > WIRE_IN_MAX) {
		give_up(WIRE_EXIT_FRAME);
	}
	if (have < sizeof(head) + n) {
		return 0;
	}
	(void)evbuffer_drain(in, sizeof(head));
	const char *p = (const char *)evbuffer_pullup(in, n);
	if (n && !p) {
		give_up(WIRE_EXIT_SYSTEM);
	}
	if (wire_ask_read(&q, chatd_str_of(p, n)) < 0) {
		give_up(WIRE_EXIT_FRAME);
	}
	transfer_start(helper, &q);
	(void)evbuffer_drain(in, n);
	return 1;
}

static void on_read(struct bufferevent *bev, void *arg)
{
	while (take_frame(arg, bufferevent_get_input(bev))) {
	}
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)bev;
	(void)arg;
	(void)what;
	give_up(0); /* the server has gone */
}

int pipe_open(struct helper *helper)
{
	if (evutil_make_socket_nonblocking(STDIN_FILENO) < 0) {
		return -1;
	}
	helper->server = bufferevent_socket_new(helper->base, STDIN_FILENO, 0);
	if (!helper->server) {
		return -1;
	}
	bufferevent_setcb(helper->server, on_read, NULL, on_event, helper);
	return bufferevent_enable(helper->server, EV_READ | EV_WRITE);
}

static void put(struct helper *helper, const void *p, size_t n)
{
	if (n && bufferevent_write(helper->server, p, n) < 0) {
		give_up(WIRE_EXIT_SYSTEM);
	}
}

void pipe_ready(struct helper *helper, uint32_t flaws)
{
	uint8_t frame[WIRE_HEAD + WIRE_READY_BYTES];
	wire_ready_make(flaws, frame);
	put(helper, frame, sizeof(frame));
}

void pipe_answer(struct helper *helper, const struct wire_answer *w, const char *texts[3])
{
	uint8_t frame[WIRE_HEAD + WIRE_ANSWER_BYTES];
	wire_answer_make(w, frame);
	put(helper, frame, sizeof(frame));
	put(helper, texts[0], w->n_type);
	put(helper, texts[1], w->n_why);
	put(helper, texts[2], w->n_body);
}
