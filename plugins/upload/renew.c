/* SPDX-License-Identifier: Apache-2.0 */
/* Once there is another active key, files of the keys before it are encrypted anew, in the background:
 * each under its own name, in one step, so that who reads it meanwhile reads one or the other, and
 * chunks of both fit together.  Files from before there was any key get another name with it, as the
 * name says whether a file is sealed: the sealed one is there, then the store changes the name, then
 * the sweep takes the plain one.  Several nodes may do so at once.
 *
 * A round looks at the beginning of every file, which is where the oldest key of it is.  What was on
 * its way while the round was there is found by the next one: the end is a round that finds nothing. */
#include "seal.h"

#include "sum.h"
#include "upload.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	LOOK_MS = 5000,      /* whether there are other keys now */
	AGAIN_MS = 600000,   /* between two rounds: most uploads are over then */
	FAILED_MS = 3600000, /* the same when something could not be done */
	FOLDERS = 256,
	AT_ONCE = 200, /* files that one call looks at */
};

struct renewal {
	struct worker *at;
	int waiting, stopped;
	const struct chatd_keys *keys;        /* of this round; NULL: there is none */
	const struct chatd_keys *last, *done; /* of the last round; those that all files have */
	int round;                            /* folders to come */
	int first;                            /* nodes begin at different ones */
	int64_t not_before;                   /* monotonic ms: the next round */
	int plain;                            /* those without any key are looked for */
	int several;                          /* keys */
	int64_t anew, lost, failed;           /* of this round */
	int64_t ever;                         /* that were plain, of all rounds */
	/* [crew] while .waiting */
	char (*name)[OBJECT_NAME];
	size_t n, next, cap;
	int64_t records;                         /* sealed in the last call */
	char from[OBJECT_NAME], to[OBJECT_NAME]; /* one that was plain, and what it is called now */
};

static void step(struct renewal *r);

static struct self *self_of(const struct renewal *r)
{
	return r->at->self;
}

static const struct chatd_keys *keys_now(const struct self *self)
{
	const struct chatd_cipher *cipher = self->cipher->vt;
	return cipher->keys(self->cipher->obj);
}

/* ---- one file: [crew] --------------------------------------------------------------------- */

struct copy {
	const char *to;
	struct sealer *sealer;
	EVP_MD_CTX *sum; /* NULL: nobody asks */
	int fd;
};

static chatd_status to_sealer(void *arg, const char *p, size_t n)
{
	return sealer_take(((struct copy *)arg)->sealer, p, n);
}

static chatd_status to_file(void *arg, const char *p, size_t n)
{
	struct copy *c = arg;
	if (c->sum && EVP_DigestUpdate(c->sum, p, n) != 1) {
		return -EIO;
	}
	return write_fully(c->fd, p, n);
}

/* The sum of what is plain stands in its name: what is damaged is not made to look good. */
static chatd_status seal_plain(const char *object, int from, struct copy *c)
{
	char buf[16384], sum[DIR_HASH + 1];
	EVP_MD_CTX *content = sum_begin();
	chatd_status rc = content ? 0 : -ENOMEM;
	while (rc == 0) {
		ssize_t n = read(from, buf, sizeof(buf));
		if (n == 0) {
			break;
		}
		if (n < 0 || EVP_DigestUpdate(content, buf, (size_t)n) != 1) {
			rc = n < 0 ? -errno : -EIO;
		}
		rc = rc == 0 ? to_sealer(c, buf, (size_t)n) : rc == -EINTR ? 0 : rc;
	}
	rc = rc < 0 ? rc : sum_end(content, sum);
	EVP_MD_CTX_free(content);
	return rc == 0 && strncmp(object + 3, sum, DIR_HASH) != 0 ? -EBADMSG : rc;
}

/* What is in @p from, sealed anew to c->fd as @p to. */
static chatd_status reseal(struct self *self, const char *object, int from, struct copy *c)
{
	struct stat st;
	c->sealer = sealer_new(self, c->to, to_file, c);
	c->sum = self->s3 ? sum_begin() : NULL;
	chatd_status rc = !c->sealer || (self->s3 && !c->sum) ? -ENOMEM : 0;
	if (rc == 0 && fstat(from, &st) < 0) {
		rc = -errno;
	}
	if (rc == 0 && seal_is(object)) {
		const struct opener o = { self, object, st.st_size, to_sealer, c };
		rc = opener_run(&o, from);
	} else if (rc == 0) {
		rc = seal_plain(object, from, c);
	}
	rc = rc < 0 ? rc : sealer_end(c->sealer);
	return rc == 0 && fsync(c->fd) < 0 ? -errno : rc;
}

/* @p to: the same name, or another. */
static chatd_status renew(struct self *self, const char *object, const char *to, int64_t *records)
{
	char name[RANDOM_NAME], path[DIR_PATH], sum[DIR_HASH + 1] = "";
	struct copy c = { .to = to, .fd = -1 };
	struct stat st;
	int from = bytes_open(self, object);
	if (from < 0) {
		return from;
	}
	random_name(self, name);
	dir_path(&self->dir, "tmp", name, path);
	c.fd = dir_temp(&self->dir, name);
	chatd_status rc = c.fd < 0 ? c.fd : reseal(self, object, from, &c);
	rc = rc < 0 || !c.sum ? rc : sum_end(c.sum, sum);
	*records += rc == 0 && fstat(c.fd, &st) == 0 ? 1 + st.st_size / SEAL_RECORD : 0;
	rc = rc < 0 ? rc : bytes_put(self, path, to, sum);
	if (c.fd >= 0) {
		close(c.fd);
	}
	if (rc < 0 && c.fd >= 0) {
		unlink(path);
	}
	sealer_free(c.sealer);
	EVP_MD_CTX_free(c.sum);
	close(from);
	return rc;
}

/* CHATD_CIPHER_GOOD ..., or a negative errno; -ENOENT: it went meanwhile. */
static int32_t look(struct renewal *r, const char *object)
{
	const struct chatd_cipher *cipher = self_of(r)->cipher->vt;
	char head[CHATD_CIPHER_HEAD];
	chatd_status rc = bytes_head(self_of(r), object, head, sizeof(head));
	return rc < 0 ? rc : cipher->look(r->keys, chatd_str_of(head, sizeof(head)));
}

static chatd_status renew_next(struct renewal *r, const char *object)
{
	struct self *self = self_of(r);
	if (!seal_is(object)) {
		seal_name(self, r->to);
		chatd_status rc = renew(self, object, r->to, &r->records);
		snprintf(r->from, sizeof(r->from), "%s", rc == 0 ? object : "");
		if (rc == -EBADMSG) {
			self->h->log(self->ctx, CHATD_LOG_ERROR,
					"%s is damaged where it lies: what is in it is not what its name says; it stays "
					"as it is, not encrypted",
					object);
		}
		return rc;
	}
	int32_t is = look(r, object);
	r->lost += is == CHATD_CIPHER_LOST;
	chatd_status rc = is == CHATD_CIPHER_OLD ? renew(self, object, object, &r->records)
			: is < 0                         ? is
											 : 0;
	r->anew += is == CHATD_CIPHER_OLD && rc == 0;
	return rc;
}

/* Up to the first one that had to be sealed anew, so that the pace is kept. */
static void look_at_some(void *arg)
{
	struct renewal *r = arg;
	r->records = 0;
	for (int i = 0; i < AT_ONCE && r->next < r->n && !r->records; i++) {
		chatd_status rc = renew_next(r, r->name[r->next++]);
		r->failed += rc < 0 && rc != -ENOENT;
	}
}

/* Small pictures of plain ones are not sealed: they go with them, and are made again. */
static int is_looked_for(const struct renewal *r, const char *object)
{
	return seal_is(object) ? r->several : r->plain && !strchr(object, '-');
}

static int note(void *arg, const char *object)
{
	struct renewal *r = arg;
	if (!is_looked_for(r, object) || strlen(object) >= OBJECT_NAME) {
		return 0;
	}
	if (r->n == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 1000;
		void *more = realloc(r->name, cap * sizeof(r->name[0]));
		if (!more) {
			r->failed++;
			return 1;
		}
		r->name = more;
		r->cap = cap;
	}
	snprintf(r->name[r->n++], OBJECT_NAME, "%s", object);
	return 0;
}

static void list_folder(void *arg)
{
	struct renewal *r = arg;
	r->n = r->next = 0;
	int hh = (r->first + --r->round) % FOLDERS;
	r->failed += bytes_list(self_of(r), hh, time(NULL) + 1, note, r) < 0;
}

/* ---- the rounds: [worker] ------------------------------------------------------------------ */

static void end(struct renewal *r)
{
	if (!r->waiting) {
		free(r->name);
		self_of(r)->h->mem_free(r);
	}
}

static void on_timer(void *arg);

static void wait_for(struct renewal *r, int64_t ms)
{
	self_of(r)->h->timer_set(r->at->w, &r->at->renewal_timer, ms, on_timer, r);
}

static void on_done(void *arg);

static void remove_sealed(void *arg)
{
	struct renewal *r = arg;
	bytes_remove(self_of(r), r->to);
}

/* What is known of the file has the new name, and the old one is among what the sweep takes. */
static void on_moved(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct renewal *r = arg;
	(void)a;
	r->from[0] = '\0';
	r->anew += rc == 0;
	r->ever += rc == 0;
	r->failed += rc < 0 && rc != -ENOENT;
	/* It was deleted meanwhile, or another node was quicker.  After any other failure it may have
	 * come to be, and if not, the sweep takes it. */
	if (rc == -ENOENT && !r->stopped &&
			crew_do(self_of(r)->crew, r->at->w, remove_sealed, on_done, r) == 0) {
		return;
	}
	on_done(r);
}

static int moves(struct renewal *r)
{
	const struct chatd_store *store = self_of(r)->store->vt;
	const struct chatd_store_object_move m = {
		.struct_size = sizeof(m), .object = text(r->from), .to = text(r->to)
	};
	if (!r->from[0]) {
		return 0;
	}
	chatd_status rc = store->object_move(self_of(r)->store->obj, r->at->w, &m, on_moved, r);
	if (rc < 0) {
		r->from[0] = '\0';
		r->failed++;
	}
	return rc == 0;
}

static void on_done(void *arg)
{
	struct renewal *r = arg;
	struct chatd_cipher_conf conf = { .struct_size = sizeof(conf) };
	const struct chatd_service *cipher = self_of(r)->cipher;
	if (!r->stopped && moves(r)) {
		return;
	}
	r->waiting = 0;
	if (r->stopped) {
		end(r);
		return;
	}
	((const struct chatd_cipher *)cipher->vt)->conf(cipher->obj, &conf);
	if (r->records && conf.pace > 0) {
		wait_for(r, r->records * 1000 / conf.pace);
	} else {
		step(r);
	}
}

static void off(struct renewal *r, void (*work)(void *))
{
	r->waiting = 1;
	r->records = 0;
	if (crew_do(self_of(r)->crew, r->at->w, work, on_done, r) < 0) {
		r->waiting = 0;
		wait_for(r, LOOK_MS); /* it has much else to do */
	}
}

static void tell(struct renewal *r)
{
	const struct chatd_host *h = self_of(r)->h;
	if (r->lost || r->failed) {
		h->log(self_of(r)->ctx, CHATD_LOG_WARN,
				"encrypting files anew: %lld done; %lld have a key that is not among encrypt.keys, "
				"and %lld could not be read or written; tried again later",
				(long long)r->anew, (long long)r->lost, (long long)r->failed);
	} else if (r->anew) {
		h->log(self_of(r)->ctx, CHATD_LOG_INFO, "%lld files were encrypted anew",
				(long long)r->anew);
	} else {
		r->done = r->keys;
		if (r->several) {
			h->log(self_of(r)->ctx, CHATD_LOG_INFO,
					"all files have the active key: as far as files go, keys before it can be removed "
					"from encrypt.keys");
		} else if (r->ever) {
			h->log(self_of(r)->ctx, CHATD_LOG_INFO, "all files are encrypted");
		}
	}
}

static void step(struct renewal *r)
{
	if (r->next < r->n) {
		off(r, look_at_some);
	} else if (r->round > 0) {
		off(r, list_folder);
	} else {
		tell(r);
		r->keys = NULL;
		int64_t pause = r->lost || r->failed ? FAILED_MS : AGAIN_MS;
		r->not_before = self_of(r)->h->now_ms(r->at->w) + pause;
		wait_for(r, LOOK_MS);
	}
}

/* With one key alone nothing can have another. */
static int have_several(const struct self *self, const struct chatd_keys *keys)
{
	const struct chatd_cipher *cipher = self->cipher->vt;
	char word[CHATD_CIPHER_WORD];
	return cipher->word(keys, 1, CHATD_LIT("x"), word) != -ENOENT;
}

static void on_timer(void *arg)
{
	struct renewal *r = arg;
	const struct chatd_keys *keys = keys_now(self_of(r));
	if (r->keys) { /* a round is under way */
		step(r);
		return;
	}
	int64_t now = self_of(r)->h->now_ms(r->at->w);
	int other = keys != r->last;
	if (keys == r->done || (!other && now < r->not_before)) {
		wait_for(r, LOOK_MS);
		return;
	}
	r->last = keys;
	r->several = have_several(self_of(r), keys);
	if (!r->several && !r->plain) {
		r->done = keys;
		wait_for(r, LOOK_MS);
		return;
	}
	r->keys = keys;
	r->anew = r->lost = r->failed = 0;
	r->n = r->next = 0;
	r->round = FOLDERS;
	step(r);
}

void renew_start(struct worker *at)
{
	const struct chatd_host *h = at->self->h;
	struct renewal *r = at->self->seals ? h->mem_alloc(sizeof(*r)) : NULL;
	unsigned char first = 0;
	if (!r) {
		return;
	}
	h->random(&first, sizeof(first));
	r->at = at;
	r->first = first;
	const struct chatd_store *store = at->self->store->vt;
	r->plain =
			at->self->conf->encrypt_stored && CHATD_HAS(store, object_move) && store->object_move;
	at->renewal = r;
	wait_for(r, LOOK_MS / 5);
}

void renew_stop(struct worker *at)
{
	if (at->renewal) {
		at->self->h->timer_clear(&at->renewal_timer);
		at->renewal->stopped = 1;
		end(at->renewal);
		at->renewal = NULL;
	}
}
