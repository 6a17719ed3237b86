/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/utf8.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 128, GAP_MS = 1000, TEXT_MAX = LOG_LINE_MAX };

/* One (who, reason) that was heard of lately. */
struct slot {
	uint64_t key;
	int64_t last_ms;
	uint64_t left_out;
};

static struct {
	_Atomic int32_t level;
	_Atomic int32_t json;
	_Atomic int fd;
	pthread_mutex_t lock; /* guards slots */
	struct slot slots[SLOTS];
} state = { .level = CHATD_LOG_INFO, .fd = STDERR_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER };

static const char *const names[] = { "ERROR", "WARN ", "INFO ", "DEBUG", "TRACE" };
static const char *const json_names[] = { "error", "warn", "info", "debug", "trace" };

/* Where a line is put together; what does not fit is left out. */
struct out {
	char *p;
	size_t n, max;
};

void log_open(int32_t level, int32_t json)
{
	atomic_store(&state.level, level);
	atomic_store(&state.json, json);
}

void log_to(int fd)
{
	atomic_store(&state.fd, fd);
}

int log_fd(void)
{
	return atomic_load(&state.fd);
}

int log_is_json(void)
{
	return atomic_load(&state.json) != 0;
}

int log_wants(int32_t level)
{
	return level <= atomic_load_explicit(&state.level, memory_order_relaxed);
}

static int64_t clock_ms(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Whole or not at all: half an escape would change what follows it. */
static int put(struct out *o, const char *p, size_t n)
{
	if (n > o->max - o->n)
		return -1;
	memcpy(o->p + o->n, p, n);
	o->n += n;
	return 0;
}

static int put_text(struct out *o, const char *s)
{
	return put(o, s, strlen(s));
}

/* Length of the credential's label at @p p whose value must not be shown, or 0. */
static size_t label(const char *p)
{
	static const char *const words[] = { "token=", "bearer ", "basic ", "passcode", "password",
		"secret=", NULL };
	for (size_t i = 0; words[i]; i++) {
		size_t n = strlen(words[i]);
		if (strncasecmp(p, words[i], n) == 0)
			return n;
	}
	return 0;
}

/* Where the value of the label that ends at @p at begins; 0: it is a word in prose. */
static size_t value_start(const char *p, size_t at)
{
	size_t i = at;
	if (p[at - 1] == '=' || p[at - 1] == ' ')
		return at;
	while (p[i] == '"' || p[i] == '\'' || p[i] == ' ')
		i++;
	if (p[i] != ':' && p[i] != '=')
		return 0;
	i++;
	while (p[i] == '"' || p[i] == '\'' || p[i] == ' ')
		i++;
	return i;
}

/* Puts the character at @p p, escaped if need be; returns its length, -1: no room. */
static int put_char(struct out *o, const char *p, int json)
{
	unsigned char c = (unsigned char)*p;
	if (c >= 0x20 && c < 0x7f) {
		int quote = json && (c == '"' || c == '\\');
		char two[2] = { '\\', *p };
		return put(o, quote ? two : p, quote ? 2 : 1) ? -1 : 1;
	}
	size_t n = utf8_char(p, strnlen(p, 4));
	/* U+0080 to U+009F are control characters too, and terminals obey some. */
	int c1 = n == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0;
	if (n > 1 && !c1)
		return put(o, p, n) ? -1 : (int)n;
	char esc[8];
	const char *slash = json ? "\\\\" : "\\"; /* a stray byte has no JSON escape of its own */
	if (json && n)
		snprintf(esc, sizeof(esc), "\\u%04x", c1 ? (unsigned char)p[1] : c);
	else
		snprintf(esc, sizeof(esc), "%sx%02x", slash, c1 ? (unsigned char)p[1] : c);
	return put_text(o, esc) ? -1 : (n ? (int)n : 1);
}

static int put_message(struct out *o, const char *p, int json)
{
	size_t i = 0;
	while (p[i]) {
		size_t n = label(p + i);
		size_t v = n ? value_start(p + i, n) : 0;
		for (size_t k = 0; k < (v ? v : 1) && p[i];) {
			int step = put_char(o, p + i, json);
			if (step < 0)
				return -1;
			i += (size_t)step;
			k += (size_t)step;
		}
		if (!v)
			continue;
		size_t hidden = strcspn(p + i, " \t\r\n\"'&,;)}]");
		if (hidden && put_text(o, "***"))
			return -1;
		i += hidden;
	}
	return 0;
}

static int put_time(struct out *o, int64_t ms)
{
	time_t secs = (time_t)(ms / 1000);
	struct tm tm;
	char day[32], all[48];
	gmtime_r(&secs, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(all, sizeof(all), "%s.%03dZ", day, (int)(ms % 1000));
	return put_text(o, all);
}

size_t log_format(char *ret, size_t n, const struct log_line *l)
{
	/* Kept back: "..." where the message was cut, and the end of the line. */
	size_t tail = sizeof("...\"}\n");
	if (n <= tail)
		return 0;
	struct out o = { .p = ret, .max = n - tail };
	int level = l->level < 0 ? 0 : l->level > CHATD_LOG_TRACE ? CHATD_LOG_TRACE : l->level;
	if (l->json)
		put_text(&o, "{\"time\":\"");
	put_time(&o, l->wall_ms);
	put_text(&o, l->json ? "\",\"level\":\"" : " ");
	put_text(&o, l->json ? json_names[level] : names[level]);
	put_text(&o, l->json ? "\",\"plugin\":\"" : " ");
	put_message(&o, l->who, l->json);
	put_text(&o, l->json ? "\",\"message\":\"" : ": ");
	int cut = put_message(&o, l->text, l->json);
	o.max = n;
	if (cut)
		put_text(&o, "...");
	put_text(&o, l->json ? "\"}\n" : "\n");
	return o.n;
}

void log_vwrite(int32_t level, const char *who, const char *fmt, va_list ap)
{
	char text[TEXT_MAX], line[LOG_LINE_MAX];
	if (!log_wants(level))
		return;
	int saved = errno;
	vsnprintf(text, sizeof(text), fmt, ap);
	struct log_line l = { .wall_ms = clock_ms(CLOCK_REALTIME),
		.level = level,
		.json = atomic_load(&state.json),
		.who = who ? who : "core",
		.text = text };
	size_t n = log_format(line, sizeof(line), &l), done = 0;
	while (done < n) {
		ssize_t k = write(atomic_load(&state.fd), line + done, n - done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			break; /* nobody to tell */
		done += (size_t)k;
	}
	errno = saved;
}

void log_write(int32_t level, const char *who, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	log_vwrite(level, who, fmt, ap);
	va_end(ap);
}

static uint64_t key_of(const char *who, const char *reason)
{
	uint64_t h = 14695981039346656037u; /* FNV-1a: both are the server's own words */
	for (const char *p = who; *p; p++)
		h = (h ^ (unsigned char)*p) * 1099511628211u;
	h = (h ^ 0xff) * 1099511628211u;
	for (const char *p = reason; *p; p++)
		h = (h ^ (unsigned char)*p) * 1099511628211u;
	return h;
}

/* May a line go out?  *ret_left_out: how many did not since the last one. */
static int admit(uint64_t key, uint64_t *ret_left_out)
{
	int64_t now = clock_ms(CLOCK_MONOTONIC);
	struct slot *s = &state.slots[key % SLOTS];
	pthread_mutex_lock(&state.lock);
	/* Two reasons that share a slot take turns losing their count, never their line. */
	if (s->key != key)
		*s = (struct slot){ .key = key, .last_ms = now - GAP_MS };
	int ok = now - s->last_ms >= GAP_MS;
	if (ok) {
		*ret_left_out = s->left_out;
		s->left_out = 0;
		s->last_ms = now;
	} else {
		s->left_out++;
	}
	pthread_mutex_unlock(&state.lock);
	return ok;
}

void log_limited(int32_t level, const char *who, const char *reason, const char *fmt, ...)
{
	uint64_t left_out = 0;
	if (!log_wants(level) || !admit(key_of(who, reason), &left_out))
		return;
	char text[TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (left_out)
		log_write(level, who, "%s (%llu more like this)", text, (unsigned long long)left_out);
	else
		log_write(level, who, "%s", text);
}
