/* SPDX-License-Identifier: Apache-2.0 */
/* A fake of chatd.plugins/1: the plugins that a test names, of which none is really there. */
#include "base/str.h"
#include "kit_impl.h"

#include <chatd/kit_fakes.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FACTS_MAX = 16 };

struct kit_plugins {
	struct chatd_plugin_facts facts[FACTS_MAX];
	size_t n;
};

struct question {
	struct kit_answer a; /* first */
	chatd_plugins_fn *facts;
	chatd_plugins_done *done;
	void *arg;
};

static struct kit_plugins *plugins(struct kit *k)
{
	k->plugins = k->plugins ? k->plugins : calloc(1, sizeof(*k->plugins));
	if (!k->plugins) {
		kit_broken(k, "no memory for the test itself");
	}
	return k->plugins;
}

static void question_free(struct kit_answer *a)
{
	free(a);
}

static void give(struct kit_answer *a)
{
	struct question *q = (struct question *)a;
	const struct kit_plugins *p = plugins(a->k);
	if (q->done) {
		q->done(q->arg, a->rc, a->rc < 0 ? "the test wants it so" : "done");
	} else { /* collect() cannot fail any more */
		q->facts(q->arg, p->facts, p->n);
	}
}

static chatd_status ask(struct kit *k, chatd_worker *w, const struct question *from)
{
	struct question *q = calloc(1, sizeof(*q));
	if (!q) {
		kit_broken(k, "no memory for the test itself");
		return 0;
	}
	*q = *from;
	q->a = (struct kit_answer){ .k = k, .w = w, .give = give, .free = question_free };
	return kit_answers_send(&q->a, KIT_PLUGINS);
}

static chatd_status p_collect(void *obj, chatd_worker *w, chatd_plugins_fn *fn, void *arg)
{
	return ask(obj, w, &(struct question){ .facts = fn, .arg = arg });
}

static chatd_status p_change(void *obj, chatd_worker *w, const struct chatd_plugins_change *c,
		chatd_plugins_done *done, void *arg)
{
	static const char *const names[] = { [CHATD_PLUGINS_ENABLE] = "enable",
		[CHATD_PLUGINS_DISABLE] = "disable",
		[CHATD_PLUGINS_SET] = "set",
		[CHATD_PLUGINS_LOAD] = "load",
		[CHATD_PLUGINS_LOAD_AT_ONCE] = "load at once",
		[CHATD_PLUGINS_RELOAD] = "reload",
		[CHATD_PLUGINS_REHEARSE] = "rehearse" };
	char text[512];
	if (c->what < CHATD_PLUGINS_ENABLE || c->what > CHATD_PLUGINS_REHEARSE) {
		kit_broken(obj, "change() of chatd.plugins/1 with .what %d, which is none of its own",
				c->what);
	}
	chatd_status rc = ask(obj, w, &(struct question){ .done = done, .arg = arg });
	if (rc == 0) {
		snprintf(text, sizeof(text), "%.*s%s%.*s%s%.*s", (int)c->name.n, c->name.n ? c->name.p : "",
				c->key.n ? " " : "", (int)c->key.n, c->key.n ? c->key.p : "", c->key.n ? ": " : "",
				(int)c->value.n, c->value.n ? c->value.p : "");
		kit_note(obj, CHATD_PLUGINS, str_of(names[c->what]), kit_dup(str_of(text)));
	}
	return rc;
}

static int32_t p_left_out(void *obj, char *ret_names, size_t room)
{
	const struct kit_plugins *p = plugins(obj);
	int32_t n = 0;
	size_t used = 0;
	if (room) {
		ret_names[0] = '\0';
	}
	for (size_t i = 0; i < p->n; i++) {
		if (p->facts[i].state != CHATD_PLUGIN_LEFT_OUT) {
			continue;
		}
		int more = used < room
				? snprintf(ret_names + used, room - used, "%s%s", n ? " " : "", p->facts[i].name)
				: 0;
		used += more > 0 ? (size_t)more : 0;
		n++;
	}
	return n;
}

const struct chatd_plugins kit_plugins_vt = { .struct_size = sizeof(kit_plugins_vt),
	.collect = p_collect,
	.change = p_change,
	.left_out = p_left_out };

void kit_plugin(struct kit *k, const struct chatd_plugin_facts *facts)
{
	struct kit_plugins *p = plugins(k);
	if (p->n == FACTS_MAX) {
		kit_broken(k, "kit_plugin(): %d at most", FACTS_MAX);
	}
	p->facts[p->n] = *facts;
	p->facts[p->n++].struct_size = sizeof(*facts);
}

void kit_plugins_finish(struct kit *k)
{
	free(k->plugins);
	k->plugins = NULL;
}
