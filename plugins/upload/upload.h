/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file upload.h
 * @brief What the parts of the plugin share.
 *
 * A request's bytes go through a sink to a file of tmp/, 256 KiB at a time; whoever sends faster
 * than the disk takes it is held.  A whole file becomes an object and then a row of the store; what
 * is left over from a crash between any two steps is taken by the sweep.
 */
#ifndef UPLOAD_UPLOAD_H
#define UPLOAD_UPLOAD_H

#include <chatd-sdk/json.h>
#include <chatd/cipher.h>
#include <chatd/http.h>
#include <chatd/store.h>

#include <pthread.h>

#include "bytes.h"
#include "crew.h"
#include "dir.h"
#include "names.h"
#include "sign.h"
#include "types.h"

enum { BACKEND_DIR = 0, BACKEND_S3 = 1 };
enum { ENCRYPT_AUTO = 0, ENCRYPT_OFF = 1, ENCRYPT_REQUIRED = 2 };
enum { BLOCK = 256 * 1024, EDGES_MAX = 8, RANDOM_NAME = 2 * 16 + 1 };

struct conf {
	const char *path, *key;
	const char *const *types, *const *scanner, *const *thumbnails;
	const char *thumbnailer;
	const char *s3_endpoint, *s3_bucket, *s3_prefix, *s3_region, *s3_key, *s3_secret, *s3_ca;
	int64_t presigned_ttl;
	int32_t backend, presigned, presigned_uploads, encrypt, encrypt_stored;
	int64_t max_size, user_bytes, user_files, day_bytes, uploads, uploads_per_user;
	int64_t unattached, url_ttl, partial_ttl, partials, scan_timeout, pixels, thumb_timeout,
			threads;
	int32_t anonymous;
};

/** Who uploads something at the moment.  [any] */
struct slots {
	pthread_mutex_t lock;
	struct slot {
		char user[CHATD_ID_MAX + 1];
		int64_t n;
	} * slot;
	int64_t total;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *http, *store;
	const struct chatd_service *cipher; /* NULL: there is none */
	int seals;                          /* what is new is encrypted */
	unsigned char key[SIGN_KEY];
	struct types *types;
	struct dir dir;
	struct s3 *s3; /* NULL: objects lie in the folder */
	struct slots slots;
	struct crew *crew;     /* what has to do with bytes */
	struct crew *painters; /* what waits for programs that make small pictures */
	struct crew *feeders;  /* what the scanner reads is decrypted; NULL: it reads files */
	char thumbnailer[DIR_PATH];
	int edges[EDGES_MAX]; /* of small pictures, the smallest first */
	int n_edges;          /* 0: there are none */
};

struct worker {
	struct self *self;
	chatd_worker *w;
	struct chatd_timer timer; /* of the sweep; on the first worker alone */
	struct sweep *sweep;
	struct chatd_timer renewal_timer; /* likewise */
	struct renewal *renewal;
	struct scanner *scanner; /* likewise; NULL: there is none */
};

static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/** 32 hex digits that nobody has had. */
static inline void random_name(struct self *self, char ret[RANDOM_NAME])
{
	unsigned char random[(RANDOM_NAME - 1) / 2];
	self->h->random(random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++) {
		snprintf(ret + 2 * i, 3, "%02x", random[i]);
	}
}

/* slots.c */
chatd_status slots_init(struct slots *, int64_t most);
void slots_finish(struct slots *);
/** 0, -EBUSY: the server has enough of them, -EDQUOT: the user has. */
chatd_status slots_take(struct self *, struct chatd_str user);
void slots_give(struct self *, struct chatd_str user);

/* ---- sink.c: bytes on their way to a file ------------------------------------------------ */

struct sink;
struct sink_user {
	/** More must not come for now (1), may come again (0). */
	void (*hold)(void *arg, int on);
	/** It has failed: -ENOSPC, -EIO ..., -EPROTOTYPE: that type is not allowed; of a file that was
	 *  there, -EAGAIN: somebody else writes to it, -ESTALE: it is not as long as said.  Once. */
	void (*failed)(void *arg, chatd_status rc);
	/** After sink_finish(): all of it is written and synced, .hash and .type are there. */
	void (*done)(void *arg);
};

/** What a sink has found out; valid in done(). */
struct sink_facts {
	char path[DIR_PATH], hash[DIR_HASH + 1], type[TYPE_BYTES];
	char name[OBJECT_NAME]; /* that it was encrypted for; "": it was not */
	char sum[DIR_HASH + 1]; /* SHA-256 of what lies at .path; "" if nobody asks */
	int64_t size;
};

/** @p path .p NULL: a new file of tmp/; else one that is there, from @p from on. */
struct sink *sink_open(struct self *, chatd_worker *, const char *path, int64_t from);
void sink_user(struct sink *, const struct sink_user *, void *arg);
void sink_write(struct sink *, const char *p, size_t n);
void sink_finish(struct sink *);
/** What comes is not the beginning of a file: its type is not looked at.  Before the first byte. */
void sink_piece(struct sink *);
/** The same where more will come later: no type; done() says that it is on the disk. */
void sink_pause(struct sink *);
/** What is written must have this sum, else failed() says -EBADMSG and nothing was written.
 *  -EINVAL: no such digest.  Before the first byte. */
chatd_status sink_check(struct sink *, const char *digest, struct chatd_str sum);
/** [crew] A file of tmp/ that is written at once, where it blocks: taken in as a seal_write_fn would,
 *  and ended with what became of it.  NULL: no memory.  Of one that is lost there is nothing left. */
struct sink *sink_copy(struct self *);
chatd_status sink_take(void *sink, const char *p, size_t n);
chatd_status sink_copied(struct sink *, chatd_status rc, struct sink_facts *ret);
int64_t sink_size(const struct sink *);
const struct sink_facts *sink_facts(const struct sink *);
/** Ends it; no callback runs any more.  @p remove: the file goes. */
void sink_close(struct sink *, int remove);

/* ---- keep.c: a written file becomes one of the store's ------------------------------------ */

struct keep;
/** @p rc 0: @p file is there; -EDQUOT with .why of the answer, ... */
typedef void keep_fn(void *arg, chatd_status rc, const struct chatd_store_answer *, const char *id);
struct keep_what {
	struct self *self;
	chatd_worker *w;
	const struct sink_facts *facts;
	struct chatd_str owner;
	const char *name;
	const char *id; /**< NULL: a new one */
};
/** The file at facts->path belongs to it from now on.  fn runs once, later.  -ENOMEM, -EBUSY: it
 *  does not, and the file stays where it was. */
chatd_status keep_start(const struct keep_what *, keep_fn *fn, void *arg);
/** {"id","url","name","size","contentType","width"?,"height"?,"thumbnail"?,"quarantined"?} */
void file_json(struct chatd_json *, const struct chatd_store_file *);
/** 1: it is known how large the picture is. */
int file_picture(struct chatd_str info, int64_t *ret_width, int64_t *ret_height);

/* ---- thumb.c: small pictures ---------------------------------------------------------------- */

/** [main] Finds the program; without it, or without sizes, there are none. */
void thumb_init(struct self *);
/** Is there a small one of what is of this type? */
int thumb_can(const struct self *, struct chatd_str type);
/** What the small picture of @p object is called. */
void thumb_object(const char *object, int edge, char ret[OBJECT_NAME]);
struct thumb_what {
	struct self *self;
	chatd_worker *w;
	const char *path;   /**< where the picture lies; NULL: it is an object already */
	const char *object; /**< what it is called, or will be */
};
/** All sizes, beside the object.  @p rc 0, and how large the picture is as it should be seen;
 *  -ENODATA: it cannot be made small, and that is remembered; others: not now. */
typedef void thumb_fn(void *arg, chatd_status rc, int width, int height);
chatd_status thumb_start(const struct thumb_what *, thumb_fn *fn, void *arg);

/* ---- the routes ---------------------------------------------------------------------------- */

/* intake.c */
void on_upload(void *self, chatd_req *);
/** Says why the store refused, or could not. */
void problem_store(struct self *, chatd_req *, chatd_status rc, const struct chatd_store_answer *);
void problem_sink(struct self *, chatd_req *, chatd_status rc);
/** May they upload at all?  0: the request is answered. */
int may_upload(struct self *, chatd_req *, const chatd_ident *);
int take_slot(struct self *, chatd_req *, struct chatd_str user);
/** How much more they may store; 0 and the request is answered: nothing. */
int64_t space_left(struct self *, chatd_req *, const struct chatd_store_answer *);

/* serve.c */
void on_download(void *self, chatd_req *);
void on_thumbnail(void *self, chatd_req *);
void on_delete(void *self, chatd_req *);
void on_sign(void *self, chatd_req *);

/* tus.c */
extern const struct tus_route {
	uint32_t methods, flags;
	const char *path;
	void (*handle)(void *self, chatd_req *);
} tus_routes[];
enum { TUS_ROUTES = 6 };

/* direct.c */
extern const struct direct_route {
	const char *path;
	size_t max_body;
	void (*handle)(void *self, chatd_req *);
} direct_routes[];
enum { DIRECT_ROUTES = 2 };

/* scan.c */
void scan_start(struct worker *);
void scan_stop(struct worker *);
/** [any] It was just stored, and nobody has looked into it. */
void scan_soon(struct self *, struct chatd_str object);

/* hook.c */
chatd_verdict on_message_in(chatd_call *, void *self, void *wself);

/* sweep.c */
void sweep_start(struct worker *);
void sweep_stop(struct worker *);

/* renew.c: files of older keys */
void renew_start(struct worker *);
void renew_stop(struct worker *);

#endif
