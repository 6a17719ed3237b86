/* SPDX-License-Identifier: Apache-2.0 */
#include "op.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 4 }; /* EVALSHA sha n_keys, and one to spare */

struct op *op_create(const struct chatd_redis_command *c, const char *sha)
{
	char n_keys[24];
	size_t n = 0;
	const char **argv = malloc((c->n + WORDS) * sizeof(*argv));
	size_t *lens = malloc((c->n + WORDS) * sizeof(*lens));
	struct op *op = calloc(1, sizeof(*op));
	int len = -1;
	if (argv && lens && op) {
		if (sha) {
			int k = snprintf(n_keys, sizeof(n_keys), "%zu", c->n_keys);
			argv[n] = "EVALSHA";
			lens[n++] = 7;
			argv[n] = sha;
			lens[n++] = strlen(sha);
			argv[n] = n_keys;
			lens[n++] = (size_t)k;
		}
		for (size_t i = 0; i < c->n; i++) {
			argv[n] = c->argv[i].p ? c->argv[i].p : "";
			lens[n++] = c->argv[i].n;
		}
		len = redisFormatCommandArgv(&op->bytes, (int)n, argv, lens);
	}
	free(argv);
	free(lens);
	if (len < 0) {
		free(op);
		return NULL;
	}
	op->n = (size_t)len;
	op->script = c->script;
	return op;
}

/* hiredis' own, but for arrays: it would make room for as many items as it is told of. */
static redisReplyObjectFunctions functions;
static void *(*make_array)(const redisReadTask *, int);

static void *bounded_array(const redisReadTask *task, int items)
{
	return items <= REPLY_ITEMS_MAX ? make_array(task, items) : NULL;
}

redisReader *op_reader(void)
{
	redisReader *reader = redisReaderCreate();
	if (reader && !make_array) {
		make_array = reader->fn->createArray;
		functions = *reader->fn;
		functions.createArray = bounded_array;
	}
	if (reader) {
		reader->fn = &functions;
	}
	return reader;
}

static void reply_clear(struct chatd_redis_reply *r)
{
	for (size_t i = 0; i < r->n; i++) {
		/* The items are the op's own; they are const for those who read the answer. */
		reply_clear((struct chatd_redis_reply *)(uintptr_t)&r->items[i]);
	}
	free((void *)(uintptr_t)r->items);
	*r = (struct chatd_redis_reply){ .type = CHATD_REDIS_NIL };
}

void op_destroy(struct op *op)
{
	if (op) {
		reply_clear(&op->reply);
		if (op->raw) {
			freeReplyObject(op->raw);
		}
		free(op->bytes);
		free(op);
	}
}

static chatd_status convert(const redisReply *raw, struct chatd_redis_reply *r)
{
	*r = (struct chatd_redis_reply){ .type = CHATD_REDIS_NIL };
	switch (raw->type) {
	case REDIS_REPLY_NIL:
		return 0;
	case REDIS_REPLY_INTEGER:
		r->type = CHATD_REDIS_INTEGER;
		r->integer = raw->integer;
		return 0;
	case REDIS_REPLY_STRING:
	case REDIS_REPLY_STATUS:
	case REDIS_REPLY_ERROR:
		r->type = raw->type == REDIS_REPLY_ERROR ? CHATD_REDIS_ERROR : CHATD_REDIS_TEXT;
		r->text = chatd_str_of(raw->str, (size_t)raw->len);
		return 0;
	case REDIS_REPLY_ARRAY:
		break;
	default:
		return -EPROTO;
	}
	struct chatd_redis_reply *items = calloc(raw->elements + 1, sizeof(*items));
	if (!items) {
		return -ENOMEM;
	}
	r->type = CHATD_REDIS_ARRAY;
	r->items = items;
	r->n = raw->elements;
	for (size_t i = 0; i < raw->elements; i++) {
		chatd_status rc = convert(raw->element[i], &items[i]);
		if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

void op_answer(struct op *op, redisReply *raw)
{
	op->raw = raw;
	op->rc = convert(raw, &op->reply);
	if (op->rc < 0) {
		reply_clear(&op->reply);
	} else if (op->reply.type == CHATD_REDIS_ERROR) {
		op->rc = -EPROTO;
	}
}
