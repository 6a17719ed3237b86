/* SPDX-License-Identifier: Apache-2.0 */
#include "s3.h"

#include "s3sign.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	URL = 1024,
	HANDLES = 16, /* kept with their connections */
	TRIES = 3,
	WAIT_MS = 150, /* and four times as long the next time */
	CONNECT_MS = 3000,
	SLOW_S = 10, /* without 1 KiB a second */
	DOWN_AFTER = 3,
	DOWN_S = 3,
	FRESH_S = 3, /* what has answered so lately is there */
	LIST_BYTES = 2 << 20,
};

static const char hash_of_nothing[] =
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

struct s3 {
	struct s3_conf conf;
	char base[URL], top[URL]; /* what is in front of a name, and of the prefix */
	char host[256], path[URL], auth[512], service[128];
	pthread_mutex_t lock;
	CURL *idle[HANDLES];
	int n_idle, failures;
	int64_t down_until, answered; /* monotonic seconds */
};

/* One request. */
struct call {
	const char *method; /* NULL: GET */
	const char *name, *query, *hash;
	int64_t from; /* -1: all of it */
	size_t n;
	int in; /* a file to be sent; -1: none */
	int64_t in_size;
	const char *body;
	size_t body_n, sent;
	char *to;
	size_t cap, got;
	int out; /* a file that takes it; -1: .to does */
	int overflows;
};

/* ---- who is asked -------------------------------------------------------------------------- */

static int64_t seconds_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static CURL *take_handle(struct s3 *s)
{
	pthread_mutex_lock(&s->lock);
	CURL *c = s->n_idle ? s->idle[--s->n_idle] : NULL;
	pthread_mutex_unlock(&s->lock);
	return c ? c : curl_easy_init();
}

static void give_handle(struct s3 *s, CURL *c)
{
	curl_easy_reset(c); /* not its connections */
	pthread_mutex_lock(&s->lock);
	if (s->n_idle < HANDLES) {
		s->idle[s->n_idle++] = c;
		c = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	curl_easy_cleanup(c);
}

/* While it is known to be away, one a while finds out whether it is back. */
static int is_down(struct s3 *s)
{
	int64_t now = seconds_now();
	pthread_mutex_lock(&s->lock);
	int down = s->failures >= DOWN_AFTER && now < s->down_until;
	if (!down && s->failures >= DOWN_AFTER) {
		s->down_until = now + DOWN_S;
	}
	pthread_mutex_unlock(&s->lock);
	return down;
}

static void note_result(struct s3 *s, int failed)
{
	pthread_mutex_lock(&s->lock);
	int before = s->failures >= DOWN_AFTER;
	s->failures = failed ? s->failures + 1 : 0;
	if (failed) {
		s->down_until = seconds_now() + DOWN_S;
	} else {
		s->answered = seconds_now();
	}
	int after = s->failures >= DOWN_AFTER;
	pthread_mutex_unlock(&s->lock);
	if (before != after) {
		s->conf.tell(s->conf.arg, before);
	}
}

int s3_answers(struct s3 *s)
{
	pthread_mutex_lock(&s->lock);
	int is = s->failures == 0 && s->answered && seconds_now() < s->answered + FRESH_S;
	pthread_mutex_unlock(&s->lock);
	return is;
}

/* ---- one request --------------------------------------------------------------------------- */

static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
	struct call *call = arg;
	size_t want = size * n;
	if (call->in < 0) {
		size_t left = call->body_n - call->sent;
		want = want < left ? want : left;
		memcpy(to, call->body + call->sent, want);
		call->sent += want;
		return want;
	}
	ssize_t got = pread(call->in, to, want, (off_t)call->sent);
	call->sent += got > 0 ? (size_t)got : 0;
	return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

static int on_seek(void *arg, curl_off_t at, int from)
{
	struct call *call = arg;
	if (from != SEEK_SET || at < 0) {
		return CURL_SEEKFUNC_CANTSEEK;
	}
	call->sent = (size_t)at;
	return CURL_SEEKFUNC_OK;
}

static size_t on_write(char *p, size_t size, size_t n, void *arg)
{
	struct call *call = arg;
	size_t got = size * n;
	if (call->out >= 0) {
		if (call->cap && call->got + got > call->cap) {
			call->overflows = 1;
			return 0;
		}
		ssize_t done = pwrite(call->out, p, got, (off_t)call->got);
		call->got += done > 0 ? (size_t)done : 0;
		return done < 0 ? 0 : (size_t)done;
	}
	if (call->got + got > call->cap) {
		call->overflows = 1;
		return call->to ? 0 : got; /* without a place for it, nobody wants it */
	}
	memcpy(call->to + call->got, p, got);
	call->got += got;
	return got;
}

static void set_sender(CURL *c, struct call *call)
{
	if (call->in < 0 && !call->body) {
		return;
	}
	curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(c, CURLOPT_READDATA, call);
	curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(c, CURLOPT_SEEKDATA, call);
	curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE,
			(curl_off_t)(call->in < 0 ? (int64_t)call->body_n : call->in_size));
}

static void set_up(const struct s3 *s, CURL *c, struct call *call, const char *url)
{
	char range[64];
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1024L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)SLOW_S);
	curl_easy_setopt(c, CURLOPT_AWS_SIGV4, s->service);
	curl_easy_setopt(c, CURLOPT_USERPWD, s->auth);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "chatd");
	if (s->conf.ca) {
		curl_easy_setopt(c, CURLOPT_CAINFO, s->conf.ca);
	}
	if (call->method) {
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, call->method);
		curl_easy_setopt(c, CURLOPT_NOBODY, (long)(strcmp(call->method, "HEAD") == 0));
	}
	if (call->from >= 0) {
		snprintf(range, sizeof(range), "%lld-%lld", (long long)call->from,
				(long long)(call->from + (int64_t)call->n - 1));
		curl_easy_setopt(c, CURLOPT_RANGE, range);
	}
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_write);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, call);
	set_sender(c, call);
}

/* The answer's status; 0: there was none. */
static long perform(const struct s3 *s, CURL *c, struct call *call, const char *url)
{
	char hash[128];
	long status = 0;
	/* libcurl's signature needs it said in any case. */
	snprintf(hash, sizeof(hash), "x-amz-content-sha256: %s",
			call->hash ? call->hash : hash_of_nothing);
	/* And it signs each header that stands here, also one that is taken away ("Expect:"). */
	struct curl_slist *headers = curl_slist_append(NULL, hash);
	call->got = call->sent = 0;
	call->overflows = 0;
	set_up(s, c, call, url);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	CURLcode rc = headers ? curl_easy_perform(c) : CURLE_OUT_OF_MEMORY;
	if (rc == CURLE_OK || call->overflows) {
		curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
	}
	curl_slist_free_all(headers);
	return status;
}

static chatd_status meaning(const struct call *call, long status)
{
	if (status == 404) {
		return -ENOENT;
	}
	if (status == 401 || status == 403) {
		return -EKEYREJECTED;
	}
	if (status == 507) {
		return -ENOSPC;
	}
	if (status < 200 || status > 299) {
		return status == 0 || status == 429 || status > 499 ? -EHOSTDOWN : -EIO;
	}
	return (call->to || call->out >= 0) && call->overflows ? -EFBIG : 0;
}

static chatd_status ask(struct s3 *s, struct call *call)
{
	char url[5 * URL];
	chatd_status rc = -EHOSTDOWN;
	if (is_down(s)) {
		return -EHOSTDOWN;
	}
	if (call->query) { /* of the bucket */
		snprintf(url, sizeof(url), "%s?%s", s->top, call->query);
	} else {
		snprintf(url, sizeof(url), "%s%s", s->base, call->name);
	}
	for (int i = 0, ms = WAIT_MS; i < TRIES && rc == -EHOSTDOWN; i++, ms *= 4) {
		if (i > 0) {
			usleep((useconds_t)ms / 4 * 1000);
		}
		CURL *c = take_handle(s);
		if (!c) {
			return -ENOMEM;
		}
		rc = meaning(call, perform(s, c, call, url));
		give_handle(s, c);
	}
	note_result(s, rc == -EHOSTDOWN);
	return rc;
}

/* ---- what is asked for --------------------------------------------------------------------- */

chatd_status s3_put_file(struct s3 *s, const char *path, const char *name, const char *hash)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		chatd_status rc = -errno;
		if (fd >= 0) {
			close(fd);
		}
		return rc;
	}
	struct call call = {
		.name = name, .hash = hash, .from = -1, .in = fd, .in_size = st.st_size, .out = -1
	};
	chatd_status rc = ask(s, &call);
	close(fd);
	return rc == -ENOENT ? -EHOSTDOWN : rc; /* it has no such bucket */
}

chatd_status s3_put(struct s3 *s, const char *name, const void *p, size_t n)
{
	unsigned char sum[EVP_MAX_MD_SIZE] = { 0 };
	char hash[65];
	EVP_Digest(p, n, sum, NULL, EVP_sha256(), NULL);
	for (int i = 0; i < 32; i++) {
		snprintf(hash + 2 * (size_t)i, 3, "%02x", sum[i]);
	}
	struct call call = {
		.name = name, .hash = hash, .from = -1, .in = -1, .out = -1, .body = p, .body_n = n
	};
	chatd_status rc = ask(s, &call);
	return rc == -ENOENT ? -EHOSTDOWN : rc;
}

chatd_status s3_look(struct s3 *s, const char *name)
{
	struct call call = { .method = "HEAD", .name = name, .from = -1, .in = -1, .out = -1 };
	return ask(s, &call);
}

chatd_status s3_read(struct s3 *s, const char *name, int64_t from, void *to, size_t n)
{
	struct call call = {
		.name = name, .from = from, .n = n, .in = -1, .out = -1, .to = to, .cap = n
	};
	chatd_status rc = ask(s, &call);
	return rc == 0 && call.got != n ? -EIO : rc;
}

chatd_status s3_get(struct s3 *s, const char *name, void *to, size_t cap, size_t *ret_n)
{
	struct call call = { .name = name, .from = -1, .in = -1, .out = -1, .to = to, .cap = cap };
	chatd_status rc = ask(s, &call);
	*ret_n = call.got;
	return rc;
}

chatd_status s3_get_file(struct s3 *s, const char *name, int fd, int64_t most)
{
	struct call call = { .name = name, .from = -1, .in = -1, .out = fd, .cap = (size_t)most };
	return ask(s, &call);
}

chatd_status s3_remove(struct s3 *s, const char *name)
{
	struct call call = { .method = "DELETE", .name = name, .from = -1, .in = -1, .out = -1 };
	chatd_status rc = ask(s, &call);
	return rc == -ENOENT ? 0 : rc;
}

/* ---- lists --------------------------------------------------------------------------------- */

/* What stands in <NAME>...</NAME> after @p p, before @p end; names of ours need no entities. */
static int element(const char *p, const char *end, const char *name, char *ret, size_t cap)
{
	char open[40], close[40];
	int n_open = snprintf(open, sizeof(open), "<%s>", name);
	snprintf(close, sizeof(close), "</%s>", name);
	const char *from = strstr(p, open), *to = from ? strstr(from, close) : NULL;
	if (!to || to > end || (size_t)(to - from - n_open) >= cap) {
		return 0;
	}
	snprintf(ret, cap, "%.*s", (int)(to - from - n_open), from + n_open);
	return 1;
}

static int64_t seconds_of(const char *iso)
{
	struct tm tm = { 0 };
	return strptime(iso, "%Y-%m-%dT%H:%M:%S", &tm) ? timegm(&tm) : INT64_MAX;
}

/* Goes through one page; 1: enough. */
static int each_item(const char *page, size_t skip, int64_t before,
		int (*found)(void *arg, const char *rest), void *arg)
{
	char name[URL], date[64];
	for (const char *p = page, *end; (p = strstr(p, "<Contents>")); p = end) {
		end = strstr(p, "</Contents>");
		if (!end) {
			break;
		}
		if (element(p, end, "Key", name, sizeof(name)) && strlen(name) > skip &&
				element(p, end, "LastModified", date, sizeof(date)) && seconds_of(date) < before &&
				found(arg, name + skip)) {
			return 1;
		}
	}
	return 0;
}

chatd_status s3_list(struct s3 *s, const char *prefix, int64_t before,
		int (*found)(void *arg, const char *rest), void *arg)
{
	char whole[URL], encoded[URL], token[URL] = "", query[3 * URL];
	char *page = malloc(LIST_BYTES + 1);
	chatd_status rc = page ? 0 : -ENOMEM;
	snprintf(whole, sizeof(whole), "%.200s%.200s", s->conf.prefix, prefix);
	while (rc == 0) {
		struct call call = {
			.query = query, .from = -1, .in = -1, .out = -1, .to = page, .cap = LIST_BYTES
		};
		/* Sorted and encoded: libcurl signs it as it is. */
		rc = s3_encode(token, encoded, sizeof(encoded));
		int n = snprintf(query, sizeof(query),
				"%s%s%slist-type=2&prefix=", token[0] ? "continuation-token=" : "",
				token[0] ? encoded : "", token[0] ? "&" : "");
		rc = rc < 0 ? rc : s3_encode(whole, query + n, sizeof(query) - (size_t)n);
		rc = rc < 0 ? rc : ask(s, &call);
		if (rc < 0) {
			break;
		}
		page[call.got] = '\0';
		if (each_item(page, strlen(whole), before, found, arg) ||
				!element(page, page + call.got, "NextContinuationToken", token, sizeof(token))) {
			break;
		}
	}
	free(page);
	return rc;
}

/* ---- addresses ----------------------------------------------------------------------------- */

static chatd_status sign_address(
		const struct s3 *s, const char *name, const struct s3_presign *more, char *ret, size_t cap)
{
	char path[2 * URL];
	snprintf(path, sizeof(path), "%s%.300s", s->path, name);
	const struct s3_presign what = { .key = s->conf.key,
		.secret = s->conf.secret,
		.region = s->conf.region,
		.host = s->host,
		.path = path,
		.query = more->query,
		.puts = more->puts,
		.now = time(NULL),
		.expires = more->expires };
	int n = snprintf(ret, cap, "%s%.300s?", s->base, name);
	return n < 0 || (size_t)n >= cap ? -ENOSPC : s3_presign(&what, ret + n, cap - (size_t)n);
}

struct chatd_str s3_origin(const struct s3 *s)
{
	const char *host = strstr(s->base, "://") + 3;
	return chatd_str_of(s->base, (size_t)(host - s->base) + strcspn(host, "/"));
}

chatd_status s3_address(
		const struct s3 *s, const char *name, const char *query, int seconds, char *ret, size_t cap)
{
	const struct s3_presign what = { .query = query, .expires = seconds };
	return sign_address(s, name, &what, ret, cap);
}

chatd_status s3_put_address(
		const struct s3 *s, const char *name, int64_t n, int seconds, char *ret, size_t cap)
{
	const struct s3_presign what = { .query = "", .puts = n, .expires = seconds };
	return sign_address(s, name, &what, ret, cap);
}

/* ---- life ---------------------------------------------------------------------------------- */

struct s3 *s3_create(const struct s3_conf *conf)
{
	struct s3 *s = calloc(1, sizeof(*s));
	if (!s || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
		free(s);
		return NULL;
	}
	s->conf = *conf;
	pthread_mutex_init(&s->lock, NULL);
	int slash = conf->endpoint[strlen(conf->endpoint) - 1] == '/';
	snprintf(s->top, sizeof(s->top), "%.400s%s%.64s", conf->endpoint, slash ? "" : "/",
			conf->bucket);
	snprintf(s->base, sizeof(s->base), "%.500s%s%.200s", s->top, conf->bucket[0] ? "/" : "",
			conf->prefix);
	const char *host = strstr(s->base, "://") + 3;
	snprintf(s->host, sizeof(s->host), "%.*s", (int)strcspn(host, "/"), host);
	snprintf(s->path, sizeof(s->path), "%s", host + strcspn(host, "/"));
	snprintf(s->auth, sizeof(s->auth), "%s:%s", conf->key, conf->secret);
	snprintf(s->service, sizeof(s->service), "aws:amz:%s:s3", conf->region);
	return s;
}

void s3_destroy(struct s3 *s)
{
	if (!s) {
		return;
	}
	while (s->n_idle) {
		curl_easy_cleanup(s->idle[--s->n_idle]);
	}
	pthread_mutex_destroy(&s->lock);
	free(s);
	curl_global_cleanup();
}
