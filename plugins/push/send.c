/* SPDX-License-Identifier: Apache-2.0 */
/* One push, to a browser's push service or to the gateway of the configuration. */
#include "push.h"

enum { AUDIENCE = 300, HEADERS = 6, LINE = 1400 };

/* The origin of a URL that chatd.fetch has found good. */
static int audience_of(const char *url, char ret[AUDIENCE])
{
	const char *host = strstr(url, "://");
	size_t n = host ? (size_t)(host + 3 - url) + strcspn(host + 3, "/?#") : 0;
	if (n == 0 || n >= AUDIENCE) {
		return 0;
	}
	memcpy(ret, url, n);
	ret[n] = '\0';
	return 1;
}

static chatd_status ask(
		const struct push *p, const struct chatd_fetch_request *r, chatd_fetch_fn *fn, void *arg)
{
	const struct self *self = p->ws->self;
	const struct chatd_fetch *f = self->fetch->vt;
	return f->fetch(self->fetch->obj, p->ws->w, r, fn, arg);
}

static chatd_status send_web(const struct push *p, chatd_fetch_fn *fn, void *arg)
{
	char audience[AUDIENCE], who[LINE], ttl[32], topic[64], point[TEXT_POINT];
	uint8_t body[PUSH_MAX];
	struct browser_keys keys;
	const char *endpoint = json_text_of(p->sub, "endpoint");
	if (!audience_of(endpoint, audience) ||
			browser_keys_read(text(json_text_of(p->sub, "p256dh")),
					text(json_text_of(p->sub, "auth")), &keys) < 0) {
		return -EINVAL;
	}
	const char *token = keys_token(p->ws, audience);
	long n = token ? push_encrypt(&keys, p->plain, body) : -EAGAIN;
	if (n < 0) {
		return n == -EMSGSIZE ? -EINVAL : -EAGAIN;
	}
	base64_put(p->ws->vapid.point, POINT, point, sizeof(point));
	snprintf(who, sizeof(who), "Authorization: vapid t=%s, k=%s", token, point);
	snprintf(ttl, sizeof(ttl), "TTL: %lld", (long long)p->ws->self->conf->ttl / 1000);
	snprintf(topic, sizeof(topic), "Topic: %s", p->topic);
	const struct chatd_str headers[HEADERS] = { text(who), text(ttl), text(topic),
		p->urgent ? CHATD_LIT("Urgency: high") : CHATD_LIT("Urgency: normal"),
		CHATD_LIT("Content-Encoding: aes128gcm"),
		CHATD_LIT("Content-Type: application/octet-stream") };
	const struct chatd_fetch_request r = { .struct_size = sizeof(r),
		.flags = CHATD_FETCH_OUTSIDE,
		.method = CHATD_LIT("POST"),
		.url = text(endpoint),
		.body = { (const char *)body, (size_t)n },
		.headers = headers,
		.n_headers = HEADERS };
	return ask(p, &r, fn, arg);
}

static void write_hook(struct chatd_json *j, const struct push *p)
{
	char id[37];
	p->ws->self->h->new_id(id);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", text(id));
	chatd_json_member(j, "kind", text(json_text_of(p->sub, "kind")));
	chatd_json_member(j, "token", text(json_text_of(p->sub, "endpoint")));
	chatd_json_member(j, "collapse", text(p->topic));
	chatd_json_key(j, "notification");
	chatd_json_raw(j, p->plain.p, p->plain.n);
	chatd_json_lit(j, "}");
}

static chatd_status send_hook(const struct push *p, chatd_fetch_fn *fn, void *arg)
{
	const struct conf *conf = p->ws->self->conf;
	char at[24], when[64], mark[68], signature[128];
	struct chatd_json j;
	if (!conf->webhook_url) {
		return -EINVAL;
	}
	chatd_json_init(&j, NULL, 0);
	write_hook(&j, p);
	snprintf(at, sizeof(at), "%lld", (long long)p->ws->self->h->wall_ms() / 1000);
	webhook_sign(conf->webhook_secret, at, chatd_json_str(&j), mark);
	snprintf(when, sizeof(when), "Chatd-Timestamp: %s", at);
	snprintf(signature, sizeof(signature), "Chatd-Signature: %s", mark);
	const struct chatd_str headers[] = { text(when), text(signature),
		CHATD_LIT("Content-Type: application/json") };
	const struct chatd_fetch_request r = { .struct_size = sizeof(r),
		.method = CHATD_LIT("POST"),
		.url = text(conf->webhook_url),
		.body = chatd_json_str(&j),
		.headers = headers,
		.n_headers = 3 };
	chatd_status rc = j.failed ? -ENOMEM : ask(p, &r, fn, arg);
	chatd_json_free(&j);
	return rc;
}

chatd_status send_push(const struct push *p, chatd_fetch_fn *fn, void *arg)
{
	return strcmp(json_text_of(p->sub, "kind"), "web") == 0 ? send_web(p, fn, arg)
															: send_hook(p, fn, arg);
}
