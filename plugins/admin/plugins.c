/* SPDX-License-Identifier: Apache-2.0 */
/* The commands about plugins: what they do, and changes to them. */
#include "admin.h"

#include <chatd/plugins.h>

#include <errno.h>
#include <string.h>

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, s ? strlen(s) : 0);
}

static const char *state_name(int32_t state)
{
	static const char *const names[] = { "?", "ON", "OFF", "LEFT_OUT", "DRAINING", "OLD" };
	return state > 0 && state < 6 ? names[state] : names[0];
}

static void put_facts(struct chatd_json *j, const struct chatd_plugin_facts *f, int first)
{
	chatd_json_raw(j, &",{"[first], (size_t)(2 - first));
	chatd_json_member(j, "plugin", text(f->name));
	chatd_json_member(j, "state", text(state_name(f->state)));
	chatd_json_member(j, "module", text(f->module));
	if (f->version) {
		chatd_json_member(j, "version", text(f->version));
	}
	chatd_json_flag(j, "live", f->live);
	chatd_json_flag(j, "optional", f->optional);
	chatd_json_int(j, "calls", f->calls);
	chatd_json_int(j, "busyMicros", f->busy_us);
	chatd_json_int(j, "errors", f->errors);
	chatd_json_int(j, "timeouts", f->timeouts);
	chatd_json_int(j, "slow", f->slow);
	chatd_json_int(j, "bytes", f->bytes);
	if (f->sessions >= 0) {
		chatd_json_int(j, "sessions", f->sessions);
	}
	if (f->why) {
		chatd_json_member(j, "why", text(f->why));
	}
	chatd_json_lit(j, "}");
}

static void on_list(void *arg, const struct chatd_plugin_facts *facts, size_t n)
{
	struct job *job = arg;
	chatd_json_lit(&job->out, "{\"ok\":true,\"plugins\":[");
	for (size_t i = 0; i < n; i++) {
		put_facts(&job->out, &facts[i], i == 0);
	}
	chatd_json_lit(&job->out, "]}");
	job_answer(job);
}

void plugins_left_out(struct job *job)
{
	char names[1024];
	const struct chatd_service *s = job->self->plugins;
	if (((const struct chatd_plugins *)s->vt)->left_out(s->obj, names, sizeof(names)) > 0) {
		chatd_json_member(&job->out, "pluginsLeftOut", text(names));
	}
}

static void on_changed(void *arg, chatd_status rc, const char *said)
{
	struct job *job = arg;
	if (rc < 0) {
		job_refuse(job,
				rc == -ENOENT           ? "NOT_FOUND"
						: rc == -ENOMEM ? "UNAVAILABLE"
										: "REFUSED",
				"%s", said);
		return;
	}
	chatd_json_lit(&job->out, "{\"ok\":true");
	chatd_json_member(&job->out, "message", text(said));
	chatd_json_lit(&job->out, "}");
	job_answer(job);
}

static void run_list(struct job *job, const struct chatd_plugins *vt, void *obj)
{
	if (vt->collect(obj, job->home, on_list, job) < 0) {
		job_refuse(job, "UNAVAILABLE", "the server has no memory left");
	}
}

static const struct kind {
	const char *name, *action; /* as it is asked for, and as it is noted */
	int32_t what;
} kinds[] = {
	{ "enable", "plugin.enable", CHATD_PLUGINS_ENABLE },
	{ "disable", "plugin.disable", CHATD_PLUGINS_DISABLE },
	{ "set", "plugin.set", CHATD_PLUGINS_SET },
	{ "load", "plugin.load", CHATD_PLUGINS_LOAD },
	{ "load-at-once", "plugin.load", CHATD_PLUGINS_LOAD_AT_ONCE },
};

static void ask(struct job *job, const struct chatd_plugins_change *change)
{
	const struct chatd_plugins *vt = job->self->plugins->vt;
	if (vt->change(job->self->plugins->obj, job->home, change, on_changed, job) < 0) {
		job_refuse(job, "UNAVAILABLE", "the server has no memory left");
	}
}

static void run_change(struct job *job, const struct kind *kind)
{
	const struct wish *w = &job->wish;
	struct chatd_plugins_change change = { .struct_size = sizeof(change),
		.what = kind->what,
		.name = w->name,
		.key = w->key,
		.value = w->value };
	int sets = kind->what == CHATD_PLUGINS_SET;
	if (!w->name.n || (sets && (!w->key.n || !w->value.p))) {
		job_refuse(job, "VALIDATION", "plugin %s needs a name%s", kind->name,
				sets ? ", a key and a value" : "");
		return;
	}
	if (memchr(w->key.p ? w->key.p : "", '.', w->key.n) || memchr(w->name.p, '.', w->name.n)) {
		job_refuse(job, "VALIDATION",
				"a name and a key have no dots: write the whole value of the key");
		return;
	}
	/* The value may be a secret. */
	command_note(job, kind->action, w->name, w->key);
	ask(job, &change);
}

void plugins_reload(struct job *job)
{
	int rehearse = chatd_str_same(job->wish.what, CHATD_LIT("check"));
	struct chatd_plugins_change change = { .struct_size = sizeof(change),
		.what = rehearse ? CHATD_PLUGINS_REHEARSE : CHATD_PLUGINS_RELOAD };
	if (job->wish.what.n && !rehearse) {
		job_refuse(job, "VALIDATION", "reload takes check, or nothing");
		return;
	}
	if (!rehearse) {
		command_note(job, "server.reload", text(job->self->h->server_id()), chatd_str_of(NULL, 0));
	}
	ask(job, &change);
}

void plugins_run(struct job *job)
{
	const struct chatd_plugins *vt = job->self->plugins->vt;
	void *obj = job->self->plugins->obj;
	if (chatd_str_same(job->wish.what, CHATD_LIT("list"))) {
		run_list(job, vt, obj);
		return;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (chatd_str_same(job->wish.what, text(kinds[i].name))) {
			run_change(job, &kinds[i]);
			return;
		}
	}
	job_refuse(job, "VALIDATION", "plugin takes list, enable, disable, set, load or load-at-once");
}
