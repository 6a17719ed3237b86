/* SPDX-License-Identifier: Apache-2.0 */
#include "rooms.h"

struct op *op_create(struct self *self, chatd_worker *from, enum op_kind kind)
{
	struct op *op = self->h->mem_alloc(sizeof(*op));
	if (op) {
		op->self = self;
		op->from = from;
		op->kind = kind;
		op->status = 200;
		chatd_json_init(&op->out, NULL, 0);
	}
	return op;
}

void op_free(struct op *op)
{
	const struct chatd_host *h = op->self->h;
	h->ident_unref(op->who);
	chatd_json_free(&op->out);
	h->mem_free(op->people);
	h->mem_free(op);
}

void op_fail(struct op *op, int32_t status, const char *code, const char *why)
{
	op->status = status;
	op->code = code;
	op->why = why;
}

struct chatd_str op_user(const struct op *op)
{
	return op->who ? op->self->h->ident_user(op->who) : text(op->target);
}

static void on_answer(void *arg)
{
	struct op *op = arg;
	op->done(op);
}

static void on_question(void *arg)
{
	struct op *op = arg;
	home_run(op);
	if (op->out.failed) {
		op_fail(op, 503, "UNAVAILABLE", "the server has no memory left");
	}
	if (op->self->h->post(op->from, on_answer, op) < 0) {
		op_free(op); /* that worker has ended, and with it whoever waits */
	}
}

chatd_status op_submit(struct op *op)
{
	return op->self->h->post(op->self->h->worker_at(0), on_question, op);
}
