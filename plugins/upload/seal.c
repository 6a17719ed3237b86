/* SPDX-License-Identifier: Apache-2.0 */
#include "seal.h"

#include "upload.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MARK ".sealed"

int seal_is(const char *name)
{
	return strstr(name, MARK) != NULL;
}

void seal_name(struct self *self, char ret[OBJECT_NAME])
{
	char a[RANDOM_NAME], b[RANDOM_NAME];
	random_name(self, a);
	random_name(self, b);
	snprintf(ret, OBJECT_NAME, "%.2s/%s%s" MARK, a, a, b);
}

static int64_t chunks_of(int64_t plain)
{
	return plain > 0 ? (plain + SEAL_CHUNK - 1) / SEAL_CHUNK : 1;
}

int64_t seal_size(int64_t plain)
{
	return plain + chunks_of(plain) * CHATD_CIPHER_EXTRA;
}

/* ---- one chunk ----------------------------------------------------------------------------- */

static struct chatd_cipher_place place_of(const struct seal_at *at)
{
	return (struct chatd_cipher_place){ .struct_size = sizeof(struct chatd_cipher_place),
		.kind = CHATD_LIT("file"),
		.conv = text(at->name),
		.sender = at->last ? CHATD_LIT("last") : chatd_str_of(NULL, 0),
		.seq = at->number };
}

chatd_status seal_chunk(
		const struct self *self, const struct seal_at *at, struct chatd_str plain, char *to)
{
	const struct chatd_cipher *cipher = self->cipher->vt;
	const struct chatd_cipher_place place = place_of(at);
	return cipher->seal(cipher->keys(self->cipher->obj), &place, plain, to);
}

static void complain(
		const struct self *self, const struct seal_at *at, chatd_status rc, struct chatd_str sealed)
{
	const struct chatd_cipher *cipher = self->cipher ? self->cipher->vt : NULL;
	char key[CHATD_CIPHER_NAME] = "";
	if (!cipher) {
		self->h->log(self->ctx, CHATD_LOG_ERROR,
				"%s is encrypted, and the plugin encrypt is not configured here", at->name);
	} else if (rc == -ENOKEY) {
		cipher->name(cipher->keys(self->cipher->obj), sealed, key);
		self->h->log(self->ctx, CHATD_LOG_ERROR,
				"%s is encrypted with the key %s, which is not among encrypt.keys; put it back there",
				at->name, key);
	} else {
		self->h->log(self->ctx, CHATD_LOG_ERROR,
				"%s is damaged: chunk %lld of it was changed, cut, or comes from elsewhere; bring it "
				"back from a backup",
				at->name, (long long)at->number);
	}
}

chatd_status seal_open(
		const struct self *self, const struct seal_at *at, struct chatd_str sealed, char *to)
{
	const struct chatd_cipher_place place = place_of(at);
	chatd_status rc = -ENOKEY;
	if (self->cipher) {
		const struct chatd_cipher *cipher = self->cipher->vt;
		rc = cipher->open(cipher->keys(self->cipher->obj), &place, sealed, to);
	}
	if (rc < 0) {
		complain(self, at, rc, sealed);
	}
	return rc;
}

/* ---- as it comes --------------------------------------------------------------------------- */

struct sealer {
	const struct self *self;
	seal_write_fn *write;
	void *arg;
	int64_t number;
	size_t n; /* in .plain: that it is full does not say that more comes */
	char name[OBJECT_NAME], plain[SEAL_CHUNK], record[SEAL_RECORD];
};

struct sealer *sealer_new(
		const struct self *self, const char *name, seal_write_fn *write, void *arg)
{
	struct sealer *s = malloc(sizeof(*s));
	if (s) {
		s->self = self;
		s->write = write;
		s->arg = arg;
		s->number = 0;
		s->n = 0;
		snprintf(s->name, sizeof(s->name), "%s", name);
	}
	return s;
}

static chatd_status give(struct sealer *s, int last)
{
	const struct seal_at at = { s->name, s->number++, last };
	chatd_status rc = seal_chunk(s->self, &at, chatd_str_of(s->plain, s->n), s->record);
	rc = rc < 0 ? rc : s->write(s->arg, s->record, s->n + CHATD_CIPHER_EXTRA);
	s->n = 0;
	return rc;
}

chatd_status sealer_take(struct sealer *s, const char *p, size_t n)
{
	chatd_status rc = 0;
	while (n && rc == 0) {
		rc = s->n == SEAL_CHUNK ? give(s, 0) : 0;
		size_t room = SEAL_CHUNK - s->n, part = n < room ? n : room;
		memcpy(s->plain + s->n, p, part);
		s->n += part;
		p += part;
		n -= part;
	}
	return rc;
}

chatd_status sealer_end(struct sealer *s)
{
	return give(s, 1);
}

void sealer_free(struct sealer *s)
{
	free(s);
}

struct heap {
	char *p;
	size_t n;
};

static chatd_status append(void *arg, const char *p, size_t n)
{
	struct heap *h = arg;
	memcpy(h->p + h->n, p, n);
	h->n += n;
	return 0;
}

chatd_status seal_small(
		const struct self *self, const char *name, const char *p, size_t *n, char **ret)
{
	struct heap h = { .p = malloc((size_t)seal_size((int64_t)*n)) };
	struct sealer *s = h.p ? sealer_new(self, name, append, &h) : NULL;
	chatd_status rc = s ? sealer_take(s, p, *n) : -ENOMEM;
	rc = rc < 0 ? rc : sealer_end(s);
	sealer_free(s);
	if (rc < 0) {
		free(h.p);
		return rc;
	}
	*ret = h.p;
	*n = h.n;
	return 0;
}

struct chunk_room {
	char sealed[SEAL_RECORD], plain[SEAL_CHUNK];
};

static chatd_status open_next(
		const struct opener *o, struct chunk_room *room, struct seal_at *at, size_t n)
{
	at->last = (at->number + 1) * SEAL_RECORD >= o->size;
	if (n < CHATD_CIPHER_EXTRA) {
		complain(o->self, at, -EBADMSG, chatd_str_of(NULL, 0));
		return -EBADMSG;
	}
	chatd_status rc = seal_open(o->self, at, chatd_str_of(room->sealed, n), room->plain);
	at->number++;
	return rc < 0 ? rc : o->write(o->arg, room->plain, n - CHATD_CIPHER_EXTRA);
}

chatd_status opener_run(const struct opener *o, int fd)
{
	struct chunk_room *room = malloc(sizeof(*room));
	struct seal_at at = { .name = o->name };
	chatd_status rc = room ? 0 : -ENOMEM;
	for (int64_t done = 0; rc == 0 && (done < o->size || done == 0);) {
		size_t want = o->size - done < SEAL_RECORD ? (size_t)(o->size - done) : SEAL_RECORD;
		rc = read_fully(fd, done, room->sealed, want);
		rc = rc < 0 ? rc : open_next(o, room, &at, want);
		done += SEAL_RECORD;
	}
	free(room);
	return rc;
}

chatd_status seal_open_small(const struct self *self, const char *name, char *p, size_t *n)
{
	struct chunk_room *room = malloc(sizeof(*room));
	size_t at = 0, out = 0;
	struct seal_at place = { .name = name };
	chatd_status rc = room ? 0 : -ENOMEM;
	do {
		size_t part = *n - at < SEAL_RECORD ? *n - at : SEAL_RECORD;
		place.last = at + part == *n;
		rc = rc < 0 ? rc : part < CHATD_CIPHER_EXTRA ? -EBADMSG : 0;
		rc = rc < 0 ? rc : seal_open(self, &place, chatd_str_of(p + at, part), room->plain);
		if (rc == 0) {
			memcpy(p + out, room->plain, part - CHATD_CIPHER_EXTRA);
			out += part - CHATD_CIPHER_EXTRA;
		}
		at += part;
		place.number++;
	} while (rc == 0 && at < *n);
	free(room);
	*n = out;
	return rc;
}

/* ---- to a program -------------------------------------------------------------------------- */

struct feeding {
	int to;
	int64_t until; /* monotonic ms */
};

static int64_t clock_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* -EPIPE: it reads no more. */
static chatd_status push(void *arg, const char *p, size_t n)
{
	const struct feeding *f = arg;
	while (n) {
		struct pollfd wait = { .fd = f->to, .events = POLLOUT };
		int64_t left = f->until - clock_ms();
		int ready = left > 0 ? poll(&wait, 1, (int)left) : 0;
		if (ready == 0) {
			return -ETIME;
		}
		ssize_t done = ready < 0 ? -1 : write(f->to, p, n);
		if (done < 0 && errno != EINTR && errno != EAGAIN) {
			return -errno;
		}
		p += done > 0 ? done : 0;
		n -= done > 0 ? (size_t)done : 0;
	}
	return 0;
}

chatd_status seal_feed(struct seal_feed *f)
{
	struct stat st;
	struct feeding to = { f->to, clock_ms() + f->ms };
	chatd_status rc = fstat(f->from, &st) < 0 || fcntl(f->to, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
	if (rc == 0) {
		const struct opener o = { f->self, f->name, st.st_size, push, &to };
		rc = opener_run(&o, f->from);
	}
	rc = rc == -EPIPE ? 0 : rc; /* it has seen enough, or has been ended */
	if (rc < 0) {
		syscall(SYS_pidfd_send_signal, f->pidfd, SIGKILL, NULL, 0);
	}
	close(f->to);
	close(f->from);
	return rc;
}
