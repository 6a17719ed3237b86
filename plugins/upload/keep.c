/* SPDX-License-Identifier: Apache-2.0 */
/* A written file gets its small pictures, becomes an object, then a row.  Killed in between, there are
 * objects that nobody knows, which the sweep takes. */
#include "upload.h"

#include <unistd.h>

struct keep {
	struct self *self;
	chatd_worker *w;
	keep_fn *fn;
	void *arg;
	struct sink_facts facts;
	char owner[CHATD_ID_MAX + 1], name[NAME_BYTES + 1], id[CHATD_ID_MAX + 1];
	char object[OBJECT_NAME];
	char info[64]; /* of the object, for good: {"width":W,"height":H} */
	chatd_status rc;
};

static void free_keep(void *arg)
{
	struct keep *k = arg;
	k->self->h->mem_free(k);
}

static void remove_object(void *arg)
{
	struct keep *k = arg;
	bytes_remove(k->self, k->object);
}

/* The object is nobody's; should this not be done, the sweep does it. */
static void discard(struct keep *k)
{
	if (crew_do(k->self->crew, k->w, remove_object, free_keep, k) < 0) {
		free_keep(k);
	}
}

static void on_put(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct keep *k = arg;
	int refused = rc == -EDQUOT || rc == -EACCES || rc == -EINVAL || rc == -EEXIST || rc == -EAGAIN;
	k->fn(k->arg, rc, a, k->id);
	if (rc == 0 && a->files[0].state == CHATD_STORE_FILE_WAITS) {
		scan_soon(k->self, a->files[0].object);
	}
	/* After any other failure it may be in the store, or come there. */
	if (refused || (rc == 0 && a->repeated)) {
		discard(k);
	} else {
		free_keep(k);
	}
}

static void on_committed(void *arg)
{
	struct keep *k = arg;
	const struct conf *conf = k->self->conf;
	const struct chatd_store *store = k->self->store->vt;
	static const struct chatd_store_answer none = { .struct_size = sizeof(none) };
	int64_t now = k->self->h->wall_ms();
	const struct chatd_store_file file = { .struct_size = sizeof(file),
		.id = text(k->id),
		.owner = text(k->owner),
		.name = text(k->name),
		.hash = text(k->facts.hash),
		.object = text(k->object),
		.type = text(k->facts.type),
		.info = text(k->info),
		.state = conf->scanner[0] ? CHATD_STORE_FILE_WAITS : CHATD_STORE_FILE_GOOD,
		.size = k->facts.size,
		.wall = now,
		.expires = now + conf->unattached,
		.max_bytes = conf->user_bytes,
		.max_day = conf->day_bytes,
		.uses = conf->user_files };
	chatd_status rc = k->rc;
	if (rc == 0) {
		rc = store->file_put(k->self->store->obj, k->w, &file, on_put, k);
	}
	if (rc < 0) {
		k->fn(k->arg, rc, &none, k->id);
		discard(k);
	}
}

static void commit(void *arg)
{
	struct keep *k = arg;
	k->rc = bytes_put(k->self, k->facts.path, k->object, k->facts.sum);
	if (k->rc < 0) {
		k->self->h->log(k->self->ctx, k->rc == -EHOSTDOWN ? CHATD_LOG_DEBUG : CHATD_LOG_WARN,
				"a file could not be put away: %s",
				k->rc == -EKEYREJECTED
						? "the S3 server refuses the key; look at s3_key, s3_secret and "
						  "s3_region, and what the key may do"
						: strerror(-k->rc));
		unlink(k->facts.path);
	}
}

static void on_thumb(void *arg, chatd_status rc, int width, int height)
{
	struct keep *k = arg;
	if (rc == 0) {
		snprintf(k->info, sizeof(k->info), "{\"width\":%d,\"height\":%d}", width, height);
	}
	/* Whatever became of them, the file is kept. */
	rc = crew_do(k->self->crew, k->w, commit, on_committed, k); /* from here on .rc is the crew's */
	if (rc < 0) {
		k->rc = rc;
		unlink(k->facts.path);
		on_committed(k);
	}
}

/* What makes small pictures is busy, or there is none for this: somebody will ask for them later. */
static chatd_status start(struct keep *k)
{
	const struct thumb_what what = {
		.self = k->self, .w = k->w, .path = k->facts.path, .object = k->object
	};
	if (thumb_can(k->self, text(k->facts.type)) && thumb_start(&what, on_thumb, k) == 0) {
		return 0;
	}
	return crew_do(k->self->crew, k->w, commit, on_committed, k);
}

chatd_status keep_start(const struct keep_what *what, keep_fn *fn, void *arg)
{
	struct self *self = what->self;
	unsigned char random[16];
	struct keep *k = self->h->mem_alloc(sizeof(*k));
	if (!k) {
		return -ENOMEM;
	}
	k->self = self;
	k->w = what->w;
	k->fn = fn;
	k->arg = arg;
	k->facts = *what->facts;
	chatd_str_copy(k->owner, sizeof(k->owner), what->owner);
	chatd_str_copy(k->name, sizeof(k->name), text(what->name));
	random_name(self, k->id);
	if (what->id) {
		chatd_str_copy(k->id, sizeof(k->id), text(what->id));
	}
	if (k->facts.name[0]) {
		snprintf(k->object, sizeof(k->object), "%s", k->facts.name);
	} else {
		self->h->random(random, sizeof(random));
		dir_object(k->facts.hash, random, k->object);
	}
	chatd_status rc = start(k);
	if (rc < 0) {
		free_keep(k);
	}
	return rc;
}

int file_picture(struct chatd_str info, int64_t *ret_width, int64_t *ret_height)
{
	char why[CHATD_JSON_WHY];
	json_t *o = info.n ? chatd_json_parse(info, why) : NULL;
	*ret_width = json_integer_value(json_object_get(o, "width"));
	*ret_height = json_integer_value(json_object_get(o, "height"));
	json_decref(o);
	return *ret_width > 0 && *ret_height > 0;
}

/* How large it is, for who lays out a page, and that there are small ones. */
static void add_picture(struct chatd_json *j, struct chatd_str info, const char *url)
{
	char small[sizeof("/api/files//thumbnail") + CHATD_ID_MAX];
	int64_t width, height;
	if (file_picture(info, &width, &height)) {
		snprintf(small, sizeof(small), "%s/thumbnail", url);
		chatd_json_int(j, "width", width);
		chatd_json_int(j, "height", height);
		chatd_json_member(j, "thumbnail", text(small));
	}
}

void file_json(struct chatd_json *j, const struct chatd_store_file *f)
{
	char url[sizeof("/api/files/") + CHATD_ID_MAX];
	snprintf(url, sizeof(url), "/api/files/%.*s", (int)f->id.n, f->id.p);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", f->id);
	chatd_json_member(j, "url", text(url));
	chatd_json_member(j, "name", f->name);
	chatd_json_int(j, "size", f->size);
	chatd_json_member(j, "contentType", f->type);
	add_picture(j, f->info, url);
	if (f->state == CHATD_STORE_FILE_WAITS) {
		chatd_json_flag(j, "quarantined", 1);
	}
	chatd_json_lit(j, "}");
}
