/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file slash.h
 * @brief Commands in what is said: "/me waves".  What the parts of this plugin share.
 */
#ifndef SLASH_H
#define SLASH_H

#include <chatd-sdk/json.h>
#include <chatd-sdk/webhook.h>
#include <chatd/fetch.h>
#include <chatd/http.h>
#include <chatd/plugin.h>
#include <chatd/rooms.h>
#include <chatd/transport.h>

#include <stdatomic.h>

enum { COMMAND_MAX = 32, SAYS_MAX = 16 * 1024 };

/* A command that another server answers. */
struct conf_command {
	const char *name, *help, *url, *secret, *bot;
	int64_t timeout;
};

struct conf {
	int32_t built_in;
	struct chatd_list commands;
};

struct command {
	const struct conf_command *conf;
	struct chatd_webhook_key key;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *http, *fetch, *sessions, *rooms; /* NULL: not there */
	struct command *commands;
	size_t n_commands;
	atomic_int asks; /* of other servers, that were not answered yet */
};

/* words.c: pure */
/* "/name rest" apart.  0: it is no command. "//" at the beginning is a "/" that is meant. */
int words_split(struct chatd_str content, struct chatd_str *ret_name, struct chatd_str *ret_rest);
/* 1: a name that a command can have. */
int words_name_ok(struct chatd_str name);
/* What a built-in command says; 0: it is none.  Nothing is written where it lacks a text. */
int words_say(
		struct chatd_json *out, struct chatd_str name, struct chatd_str rest, struct chatd_str who);
/* The i-th built-in command that says something; NULL: there are no more. */
const char *words_name(size_t i, const char **ret_help);

static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ask.c: a command of another server's.  CHATD_WAIT, or what it could not do. */
struct said {
	struct chatd_str name, rest, to, room, client_id;
};
chatd_verdict ask(struct self *, chatd_call *, const struct command *, const struct said *);
/* tell.c: to the session alone that has typed it */
void tell(const struct self *, chatd_session *, const struct said *, struct chatd_str answer);

#endif
