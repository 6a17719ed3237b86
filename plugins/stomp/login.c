/* SPDX-License-Identifier: Apache-2.0 */
/* CONNECT: version, heart-beats, credentials, CONNECTED. */
#include "render.h"
#include "stomp.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define VERSIONS "1.0,1.1,1.2"

static int same(struct chatd_str s, const char *lit)
{
	size_t n = strlen(lit);
	return s.n == n && memcmp(s.p, lit, n) == 0;
}

/** The next item of a comma-separated list, off the front of *list. */
static struct chatd_str next_item(struct chatd_str *list)
{
	const char *comma = memchr(list->p, ',', list->n);
	struct chatd_str item = chatd_str_of(list->p, comma ? (size_t)(comma - list->p) : list->n);
	size_t used = item.n + (comma != NULL);
	list->p += used;
	list->n -= used;
	return stomp_trim(item);
}

/** 12, 11 or 10; 0: none in common. */
static uint8_t choose_version(struct chatd_str accept)
{
	static const struct {
		const char *name;
		uint8_t version;
	} known[] = { { "1.0", 10 }, { "1.1", 11 }, { "1.2", 12 } };
	uint8_t best = 0;
	if (!accept.p) {
		return 10; /* 1.0 knows no such header */
	}
	while (accept.n) {
		struct chatd_str item = next_item(&accept);
		for (size_t i = 0; i < 3; i++) {
			if (same(item, known[i].name) && known[i].version > best) {
				best = known[i].version;
			}
		}
	}
	return best;
}

/** Milliseconds; more than 49 days is as good as 49 days.  -1: no number. */
static int64_t beat_number(struct chatd_str s)
{
	int64_t n = 0;
	if (!s.n) {
		return -1;
	}
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9') {
			return -1;
		}
		n = n * 10 + (s.p[i] - '0');
		n = n > UINT32_MAX ? UINT32_MAX : n;
	}
	return n;
}

/** What comes of the client's @p theirs: as often as asked, but within our bounds. */
static uint32_t agree(const struct stomp_conf *conf, int64_t theirs)
{
	if (!theirs || !conf->heartbeat) {
		return 0;
	}
	return (uint32_t)(theirs > conf->heartbeat_min ? theirs : conf->heartbeat_min);
}

/** 0, or -1: malformed. */
static int read_beats(struct stomp_conn *c, struct chatd_str s)
{
	const struct stomp_conf *conf = c->w->self->conf;
	if (!s.p) {
		return 0;
	}
	if (!memchr(s.p, ',', s.n)) {
		return -1;
	}
	int64_t sends = beat_number(next_item(&s));
	int64_t wants = beat_number(stomp_trim(s));
	if (sends < 0 || wants < 0) {
		return -1;
	}
	c->beat_in = agree(conf, sends);
	c->beat_out = agree(conf, wants);
	return 0;
}

/* ---- credentials ------------------------------------------------------------- */

static struct chatd_str bearer_token(struct chatd_str s)
{
	s = stomp_trim(s);
	if (s.n >= 7 && strncasecmp(s.p, "Bearer ", 7) == 0) {
		s = stomp_trim(chatd_str_of(s.p + 7, s.n - 7));
	}
	return s;
}

static struct chatd_str frame_bearer(const struct stomp_frame *f)
{
	struct chatd_str s = stomp_header_get(f, "Authorization");
	if (!s.p) {
		s = stomp_header_get(f, "authorization");
	}
	return s.p ? bearer_token(s) : s;
}

struct creds {
	const struct chatd_host *h;
	chatd_msg *msg;
	chatd_status rc;
};

static void add(struct creds *to, const char *name, struct chatd_str value)
{
	if (value.p && to->rc == 0) {
		to->rc = to->h->msg_set(to->msg, name, value);
	}
}

static void add_request(struct stomp_conn *c, struct creds *to, const char *name)
{
	if (!to->h->msg_get(to->msg, name).p) {
		add(to, name, c->layer->attr(c->link, name));
	}
}

static int same_text(struct chatd_str a, struct chatd_str b)
{
	return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

/** Both the frame and the request may bring a token: each must hold.  There is room for two;
 *  of three different ones none is taken for good. */
static void add_bearers(struct stomp_conn *c, const struct stomp_frame *f, struct creds *to)
{
	struct chatd_str ours = frame_bearer(f);
	struct chatd_str request = c->layer->attr(c->link, CHATD_CRED_BEARER);
	request = request.p ? bearer_token(request) : request;
	add(to, CHATD_CRED_BEARER, ours.p ? ours : request);
	add(to, CHATD_CRED_TOKEN, c->layer->attr(c->link, CHATD_CRED_TOKEN));
	if (!ours.p || !request.p || same_text(ours, request)) {
		return;
	}
	if (to->h->msg_get(to->msg, CHATD_CRED_TOKEN).p) {
		add(to, CHATD_CRED_BEARER, CHATD_LIT("three tokens"));
		return;
	}
	add(to, CHATD_CRED_TOKEN, request);
	add(to, CHATD_CRED_TOKEN_VIA, CHATD_LIT("authorization"));
}

/** NULL: no memory. */
static chatd_msg *collect(struct stomp_conn *c, const struct stomp_frame *f)
{
	const struct chatd_host *h = c->w->self->h;
	struct creds to = { h, h->msg_new(chatd_str_of("", 0), chatd_str_of("", 0)), 0 };
	struct chatd_str login = stomp_header_get(f, "login");
	struct chatd_str passcode = stomp_header_get(f, "passcode");
	if (!to.msg) {
		return NULL;
	}
	if (login.n || passcode.n) { /* many clients send both empty when they have none */
		add(&to, CHATD_CRED_LOGIN, login.n ? login : chatd_str_of(NULL, 0));
		add(&to, CHATD_CRED_PASSCODE, passcode);
	}
	add_bearers(c, f, &to);
	add(&to, CHATD_CRED_DEVICE, stomp_header_get(f, CHATD_CRED_DEVICE));
	add(&to, CHATD_CRED_NICKNAME, stomp_header_get(f, CHATD_CRED_NICKNAME));
	add(&to, CHATD_CRED_HOST, stomp_header_get(f, CHATD_CRED_HOST));
	add(&to, "receipt", f->receipt);
	add_request(c, &to, CHATD_CRED_DEVICE);
	add_request(c, &to, CHATD_CRED_NICKNAME);
	add_request(c, &to, CHATD_CRED_PEER);
	add_request(c, &to, CHATD_CRED_AGENT);
	if (to.rc < 0) {
		h->msg_unref(to.msg);
		return NULL;
	}
	return to.msg;
}

/* ---- the login ------------------------------------------------------------------ */

/** 0, or -1: refused. */
static int negotiate(struct stomp_conn *c, struct stomp_frame *f)
{
	c->version = choose_version(stomp_header_get(f, "accept-version"));
	if (!c->version) {
		struct refusal r = { .fault = STOMP_VERSION_MISMATCH,
			.detail = CHATD_LIT("Supported versions are " VERSIONS),
			.receipt = f->receipt,
			.version = CHATD_LIT(VERSIONS) };
		conn_refuse(c, &r);
		return -1;
	}
	for (size_t i = 0; c->version == 10 && i < f->n; i++) {
		f->header[i].value = stomp_trim(f->header[i].value);
	}
	if (read_beats(c, stomp_header_get(f, "heart-beat")) < 0) {
		conn_fault(c, STOMP_BAD_CONNECT, "Invalid heart-beat", f->receipt);
		return -1;
	}
	return 0;
}

void login_begin(struct stomp_conn *c, struct stomp_frame *f)
{
	const struct stomp *self = c->w->self;
	if (self->h->stopping() == CHATD_DRAINS) {
		conn_end(c, 1012, "service restart");
		return;
	}
	if (negotiate(c, f) < 0) {
		return;
	}
	chatd_msg *creds = collect(c, f);
	if (creds) {
		c->session =
				self->sessions->open(self->sessions_obj, c->w->w, &stomp_conn_ops, c, c->layer);
	}
	if (!c->session) {
		self->h->msg_unref(creds);
		conn_fault(c, STOMP_INTERNAL, "Out of memory", f->receipt);
		return;
	}
	self->sessions->set_form(c->session, c->version);
	c->state = CONN_LOGIN;
	c->since = 0;
	c->op = OP_LOGIN;
	c->op_msg = creds;
	c->in_op = 1;
	self->sessions->login(c->session, creds, conn_done, c);
	c->in_op = 0;
}

static void send_connected(struct stomp_conn *c, const chatd_msg *reply)
{
	static const char *const versions[] = { "1.0", "1.1", "1.2" };
	const struct stomp *self = c->w->self;
	int64_t offer = self->conf->heartbeat;
	char beats[48];
	int n = snprintf(beats, sizeof(beats), "%lld,%lld",
			(long long)(c->beat_out && c->beat_out < offer ? c->beat_out : offer),
			(long long)(c->beat_in && c->beat_in < offer ? c->beat_in : offer));
	const struct chatd_ident *ident = self->h->session_ident(c->session);
	const char *server = self->conf->server_header;
	struct chatd_str level = { NULL, 0 };
	struct chatd_str user = level;
	if (reply) {
		level = self->h->msg_get(reply, "ack-level");
	}
	if (ident) {
		user = self->h->ident_user(ident);
	}
	const struct stomp_header header[] = {
		{ CHATD_LIT("version"), chatd_str_of(versions[c->version - 10], 3) },
		{ CHATD_LIT("session"), self->sessions->id(c->session) },
		{ CHATD_LIT("server"), chatd_str_of(*server ? server : NULL, strlen(server)) },
		{ CHATD_LIT("heart-beat"), chatd_str_of(beats, (size_t)n) },
		{ CHATD_LIT("user-name"), user },
		{ CHATD_LIT("ack-level"), level.p ? level : CHATD_LIT("accepted") },
	};
	/* CONNECTED is never escaped, whatever the version: 1.0 clients must read it too. */
	struct render_frame f = { .command = "CONNECTED",
		.form = 10,
		.header = header,
		.n = sizeof(header) / sizeof(header[0]),
		.more = reply };
	(void)conn_put(c, render_frame(&f));
}

void login_done(struct stomp_conn *c, chatd_msg *creds, const struct chatd_outcome *o)
{
	if (o->verdict != CHATD_ACCEPT) {
		/* Not who it is, but that there are too many: reconnecting slowly helps. */
		int limited = o->code && strcmp(o->code, "RATE_LIMIT_EXCEEDED") == 0;
		struct refusal r = { .fault = STOMP_ACCESS_REFUSED,
			.close = limited ? 4429 : 0,
			.detail = o->why.n ? o->why : CHATD_LIT("Access refused"),
			.receipt = c->w->self->h->msg_get(creds, "receipt"),
			.code = o->code };
		conn_refuse(c, &r);
		return;
	}
	c->state = CONN_OPEN;
	conn_uncount(c);
	send_connected(c, o->reply);
	if (c->state != CONN_OPEN) {
		return;
	}
	if ((c->beat_in || c->beat_out) && CHATD_HAS(c->layer, beats)) {
		c->layer->beats(c->link);
	}
	if (CHATD_HAS(c->layer, settled)) {
		c->layer->settled(c->link);
	}
	conn_arm(c);
}
