/* SPDX-License-Identifier: Apache-2.0 */
/* A client in C that chats end-to-end encrypted: REST by libcurl, STOMP over TCP by hand.
 *
 *   e2ee-peer                 commands from the standard input, one JSON object a line, an answer each:
 *     {"do":"open","http":URL,"tcp":PORT,"user":ID,"token":TOKEN}   makes a device, publishes it, connects
 *     {"do":"send","to":ID,"text":TEXT}       {"do":"receive"}      {"do":"safety","with":ID}
 *     {"do":"edit","to":ID,"messageId":ID,"text":TEXT}
 *   e2ee-peer vectors FILE    opens every vector of FILE and prints TAP
 *   e2ee-peer make            prints vectors of its own */
#include "e2ee.h"
#include "vectors.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { FRAME_MAX = 256 * 1024, PATIENCE_S = 60, ONETIMES = 20 };

struct peer {
	struct e2ee_device device;
	char *http, *auth;
	int fd;
	unsigned receipts;
	char in[FRAME_MAX];
	size_t n_in;
};

static void fail(const char *what)
{
	json_t *v = json_pack("{ss}", "error", what);
	json_dumpf(v, stdout, JSON_COMPACT);
	printf("\n");
	exit(1);
}

static const char *text_of(const json_t *object, const char *name)
{
	const char *s = json_string_value(json_object_get(object, name));
	return s ? s : "";
}

/* ---- REST ---------------------------------------------------------------------------- */

struct answer {
	char *p;
	size_t n;
};

static size_t on_data(char *p, size_t size, size_t n, void *arg)
{
	struct answer *a = arg;
	char *to = realloc(a->p, a->n + size * n + 1);
	if (!to) {
		return 0;
	}
	memcpy(to + a->n, p, size * n);
	a->p = to;
	a->n += size * n;
	return size * n;
}

static json_t *rest(const struct peer *p, const char *method, const char *path, json_t *body)
{
	char url[512];
	struct answer a = { NULL, 0 };
	char *json = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
	CURL *curl = curl_easy_init();
	long status = 0;
	snprintf(url, sizeof(url), "%s%s", p->http, path);
	headers = curl_slist_append(headers, p->auth);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)PATIENCE_S);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &a);
	if (json) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, json);
	}
	if (curl_easy_perform(curl) != CURLE_OK) {
		fail("the server cannot be reached");
	}
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(curl);
	curl_slist_free_all(headers);
	json_t *v = a.p ? json_loadb(a.p, a.n, 0, NULL) : NULL;
	if (status >= 300) {
		fail(text_of(v, "code"));
	}
	free(a.p);
	free(json);
	json_decref(body);
	return v;
}

/* ---- STOMP ----------------------------------------------------------------------------- */

static void write_all(struct peer *p, const char *s, size_t n)
{
	while (n) {
		ssize_t sent = send(p->fd, s, n, MSG_NOSIGNAL);
		if (sent <= 0) {
			fail("the connection broke");
		}
		s += sent;
		n -= (size_t)sent;
	}
}

/* The next frame, ended with a NUL, in place; the one before is gone. */
static const char *read_frame(struct peer *p)
{
	static char frame[FRAME_MAX];
	for (;;) {
		size_t skip = 0;
		while (skip < p->n_in && (p->in[skip] == '\n' || p->in[skip] == '\r')) {
			skip++;
		}
		const char *end = memchr(p->in + skip, 0, p->n_in - skip);
		if (end) {
			size_t n = (size_t)(end - p->in) - skip + 1;
			memcpy(frame, p->in + skip, n);
			p->n_in -= skip + n;
			memmove(p->in, p->in + skip + n, p->n_in);
			return frame;
		}
		ssize_t got = recv(p->fd, p->in + p->n_in, sizeof(p->in) - p->n_in, 0);
		if (got <= 0) {
			fail("nothing comes");
		}
		p->n_in += (size_t)got;
	}
}

static int begins(const char *s, const char *with)
{
	return strncmp(s, with, strlen(with)) == 0;
}

static const char *body_of(const char *frame)
{
	const char *body = strstr(frame, "\n\n");
	return body ? body + 2 : "";
}

/* Until the RECEIPT; what comes before it is of no interest. */
static void command(struct peer *p, const char *head, const char *body)
{
	char wanted[64], end[64];
	p->receipts++;
	snprintf(end, sizeof(end), "receipt:r%u\n\n", p->receipts);
	snprintf(wanted, sizeof(wanted), "receipt-id:r%u\n", p->receipts);
	write_all(p, head, strlen(head));
	write_all(p, end, strlen(end));
	write_all(p, body, strlen(body) + 1);
	for (;;) {
		const char *frame = read_frame(p);
		if (begins(frame, "ERROR") || strstr(frame, "destination:/user/queue/errors")) {
			fail(body_of(frame));
		}
		if (begins(frame, "RECEIPT") && strstr(frame, wanted)) {
			return;
		}
	}
}

static void connect_to(struct peer *p, int port, const char *token)
{
	char frame[4096];
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct timeval patience = { .tv_sec = PATIENCE_S };
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	p->fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(p->fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
		fail("the STOMP port cannot be reached");
	}
	int n = snprintf(frame, sizeof(frame),
			"CONNECT\naccept-version:1.2\nhost:x\nheart-beat:0,0\npasscode:%s\n\n", token);
	write_all(p, frame, (size_t)n + 1);
	if (!begins(read_frame(p), "CONNECTED")) {
		fail("the server does not let it in");
	}
	command(p, "SUBSCRIBE\nid:0\ndestination:/user/queue/errors\n", "");
	command(p, "SUBSCRIBE\nid:1\ndestination:/user/queue/messages\n", "");
}

/* ---- what it is told to do --------------------------------------------------------------- */

static size_t faces_of(const struct peer *p, const char *user, struct e2ee_face faces[E2EE_DEVICES])
{
	char path[128];
	size_t n = 0, i;
	json_t *item;
	snprintf(path, sizeof(path), "/api/keys/%s", user);
	json_t *v = rest(p, "GET", path, NULL);
	json_array_foreach (json_object_get(v, "devices"), i, item) {
		const char *fault = n < E2EE_DEVICES ? e2ee_read_face(&faces[n], user, item) : "too many";
		if (fault) {
			fail(fault);
		}
		n++;
	}
	json_decref(v);
	return n;
}

static size_t find_face(const struct e2ee_face *faces, size_t n, const char *id)
{
	size_t i = 0;
	while (i < n && strcmp(faces[i].id, id) != 0) {
		i++;
	}
	return i;
}

static void claim(const struct peer *p, const char *user, struct e2ee_face *faces, size_t n)
{
	char path[128];
	json_t *ids = json_array(), *item;
	size_t i;
	for (i = 0; i < n; i++) {
		json_array_append_new(ids, json_string(faces[i].id));
	}
	snprintf(path, sizeof(path), "/api/keys/%s/prekeys", user);
	json_t *v = rest(p, "POST", path, json_pack("{so}", "devices", ids));
	json_array_foreach (json_object_get(v, "prekeys"), i, item) {
		size_t at = find_face(faces, n, text_of(item, "deviceId"));
		if (at == n || !vectors_base64(text_of(item, "key"), faces[at].onetime)) {
			fail("a prekey of nobody's");
		}
		faces[at].onetime_id = json_integer_value(json_object_get(item, "id"));
	}
	json_decref(v);
}

static json_t *do_open(struct peer *p, const json_t *v)
{
	char auth[4096];
	p->http = strdup(text_of(v, "http"));
	snprintf(auth, sizeof(auth), "Authorization: Bearer %s", text_of(v, "token"));
	p->auth = strdup(auth);
	e2ee_make(&p->device, text_of(v, "user"), ONETIMES);
	json_t *answer = rest(p, "PUT", "/api/keys", e2ee_bundle(&p->device, 1));
	connect_to(p, (int)json_integer_value(json_object_get(v, "tcp")), text_of(v, "token"));
	return answer;
}

static char *seal(struct peer *p, const json_t *v, const char *reference, int edit)
{
	struct e2ee_face faces[E2EE_DEVICES];
	const char *to = text_of(v, "to");
	const struct e2ee_context c = { p->device.user, p->device.id, to, reference, "", edit };
	size_t n = faces_of(p, to, faces);
	claim(p, to, faces, n);
	return e2ee_seal(&p->device, &c, text_of(v, "text"), faces, n);
}

static json_t *do_send(struct peer *p, const json_t *v)
{
	char client_id[40], reference[64];
	snprintf(client_id, sizeof(client_id), "c-%08x", randombytes_random());
	snprintf(reference, sizeof(reference), "message:%s", client_id);
	char *content = seal(p, v, reference, 0);
	json_t *m = json_pack("{sssssbssss}", "to", text_of(v, "to"), "clientId", client_id,
			"encrypted", 1, "keyId", p->device.id, "content", content);
	char *body = json_dumps(m, JSON_COMPACT);
	command(p, "SEND\ndestination:/app/chat.send\n", body);
	json_decref(m);
	free(body);
	free(content);
	return json_pack("{ss}", "clientId", client_id);
}

static json_t *do_edit(struct peer *p, const json_t *v)
{
	char reference[128];
	snprintf(reference, sizeof(reference), "edit:%s", text_of(v, "messageId"));
	char *content = seal(p, v, reference, 1);
	json_t *m = json_pack("{sssbssss}", "messageId", text_of(v, "messageId"), "encrypted", 1,
			"keyId", p->device.id, "content", content);
	char *body = json_dumps(m, JSON_COMPACT);
	command(p, "SEND\ndestination:/app/chat.edit\n", body);
	json_decref(m);
	free(body);
	free(content);
	return json_object();
}

static json_t *do_receive(struct peer *p)
{
	struct e2ee_face faces[E2EE_DEVICES];
	for (;;) {
		const char *frame = read_frame(p);
		json_t *m = begins(frame, "MESSAGE") ? json_loads(body_of(frame), 0, NULL) : NULL;
		if (m && strcmp(text_of(m, "senderId"), p->device.user) != 0) {
			char *text = NULL;
			size_t n = faces_of(p, text_of(m, "senderId"), faces);
			const char *fault = e2ee_unseal(&p->device, faces, n, m, &text);
			json_t *answer = json_pack("{ssssss*ss*}", "id", text_of(m, "id"), "sender",
					text_of(m, "senderId"), "text", text, "fault", fault);
			free(text);
			json_decref(m);
			return answer;
		}
		json_decref(m);
	}
}

static json_t *do_safety(const struct peer *p, const json_t *v)
{
	struct e2ee_face own[E2EE_DEVICES], other[E2EE_DEVICES];
	char digits[61];
	const char *users[2] = { p->device.user, text_of(v, "with") };
	const struct e2ee_face *devices[2] = { own, other };
	const size_t n[2] = { faces_of(p, users[0], own), faces_of(p, users[1], other) };
	e2ee_safety(users, devices, n, digits);
	return json_pack("{ss}", "digits", digits);
}

static json_t *obey(struct peer *p, const json_t *v)
{
	const char *what = text_of(v, "do");
	if (strcmp(what, "open") == 0) {
		return do_open(p, v);
	}
	if (strcmp(what, "send") == 0) {
		return do_send(p, v);
	}
	if (strcmp(what, "edit") == 0) {
		return do_edit(p, v);
	}
	if (strcmp(what, "receive") == 0) {
		return do_receive(p);
	}
	if (strcmp(what, "safety") == 0) {
		return do_safety(p, v);
	}
	fail("no such command");
	return NULL;
}

int main(int argc, char **argv)
{
	static struct peer peer = { .fd = -1 };
	char line[8192];
	if (sodium_init() < 0) {
		return 1;
	}
	if (argc == 3 && strcmp(argv[1], "vectors") == 0) {
		return vectors_open(argv[2]);
	}
	if (argc == 2 && strcmp(argv[1], "make") == 0) {
		return vectors_make();
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	while (fgets(line, sizeof(line), stdin)) {
		json_t *v = json_loads(line, 0, NULL);
		json_t *answer = obey(&peer, v);
		json_dumpf(answer, stdout, JSON_COMPACT);
		printf("\n");
		fflush(stdout);
		json_decref(answer);
		json_decref(v);
	}
	curl_global_cleanup();
	free(peer.http);
	free(peer.auth);
	if (peer.fd >= 0) {
		close(peer.fd);
	}
	return 0;
}
