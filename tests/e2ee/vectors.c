/* SPDX-License-Identifier: Apache-2.0 */
#include "vectors.h"

#include "bytes.h"
#include "e2ee.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int vectors_base64(const char *text, uint8_t ret[32])
{
	return base64_read(text, ret, E2EE_KEY);
}

static const char *text_of(const json_t *object, const char *name)
{
	const char *s = json_string_value(json_object_get(object, name));
	return s ? s : "";
}

static size_t read_faces(const json_t *devices, const char *user, struct e2ee_face *faces)
{
	size_t n = 0, i;
	json_t *item;
	json_array_foreach (json_object_get(devices, user), i, item) {
		if (n < E2EE_DEVICES && !e2ee_read_face(&faces[n], user, item)) {
			n++;
		}
	}
	return n;
}

/* ---- opening ------------------------------------------------------------------------------ */

static int open_one(const json_t *v, int number)
{
	static struct e2ee_device device;
	struct e2ee_face faces[E2EE_DEVICES];
	const json_t *message = json_object_get(v, "message");
	char *text = NULL;
	const char *fault = "the vector is none";
	if (e2ee_from_secrets(&device, json_object_get(v, "receiver"))) {
		size_t n = read_faces(json_object_get(v, "devices"), text_of(message, "senderId"), faces);
		fault = e2ee_unseal(&device, faces, n, message, &text);
	}
	int good = strcmp(fault ? fault : "", text_of(v, "fault")) == 0 &&
			strcmp(text ? text : "", text_of(v, "text")) == 0;
	printf("%sok %d - %s\n", good ? "" : "not ", number, text_of(v, "name"));
	if (!good) {
		printf("# text: %s, fault: %s\n", text ? text : "(none)", fault ? fault : "(none)");
	}
	free(text);
	return good;
}

static int check_safety(const json_t *v, int number)
{
	struct e2ee_face faces[2][E2EE_DEVICES];
	const json_t *devices = json_object_get(v, "devices");
	const char *users[2];
	size_t n[2];
	char digits[61];
	for (size_t i = 0; i < 2; i++) {
		users[i] = json_string_value(json_array_get(json_object_get(v, "users"), i));
		n[i] = read_faces(devices, users[i] ? users[i] : "", faces[i]);
	}
	e2ee_safety(users, (const struct e2ee_face *[2]){ faces[0], faces[1] }, n, digits);
	int good = n[0] && n[1] && strcmp(digits, text_of(v, "digits")) == 0;
	printf("%sok %d - the safety number\n", good ? "" : "not ", number);
	return good;
}

int vectors_open(const char *path)
{
	json_t *all = json_load_file(path, 0, NULL), *item;
	size_t i;
	int n = 0, bad = 0;
	json_array_foreach (json_object_get(all, "vectors"), i, item) {
		bad += !open_one(item, ++n);
	}
	bad += !check_safety(json_object_get(all, "safety"), ++n);
	printf("1..%d\n", n);
	json_decref(all);
	return bad || n < 2;
}

/* ---- making ---------------------------------------------------------------------------------- */

static json_t *devices_json(const struct e2ee_device *a, const struct e2ee_device *b)
{
	json_t *one = e2ee_bundle(a, 0), *other = e2ee_bundle(b, 0);
	json_t *v = json_pack("{s[O]s[O]}", a->user, json_object_get(one, "device"), b->user,
			json_object_get(other, "device"));
	json_decref(one);
	json_decref(other);
	return v;
}

struct plan {
	const char *name, *text, *fault;
	int onetime, edit, own; /* own: the sender's device opens it */
	const char *reply_to;
	const char *change, *to; /* a member of the message that is changed afterwards */
};

static json_t *vector(
		const struct plan *p, const struct e2ee_device *from, const struct e2ee_device *to)
{
	struct e2ee_face face;
	json_t *devices = devices_json(from, to);
	const json_t *public = json_array_get(json_object_get(devices, to->user), 0);
	if (e2ee_read_face(&face, to->user, public)) {
		abort();
	}
	if (p->onetime) {
		face.onetime_id = to->onetimes[0].id;
		memcpy(face.onetime, to->onetimes[0].public, E2EE_KEY);
	}
	const struct e2ee_context c = { from->user, from->id, to->user,
		p->edit ? "edit:m-1" : "message:c-1", p->reply_to ? p->reply_to : "", p->edit };
	char *content = e2ee_seal(from, &c, p->text, &face, 1);
	json_t *m = json_pack("{ssssssssssss}", "id", "m-1", "clientId", "c-1", "senderId", from->user,
			"receiverId", to->user, "keyId", from->id, "content", content);
	if (p->reply_to) {
		json_object_set_new(m, "replyTo", json_string(p->reply_to));
	}
	if (p->change) {
		json_object_set_new(m, p->change, json_string(p->to));
	}
	free(content);
	return json_pack("{sssosososs}", "name", p->name, "receiver", e2ee_secrets(p->own ? from : to),
			"devices", devices, "message", m, p->fault ? "fault" : "text",
			p->fault ? p->fault : p->text);
}

int vectors_make(void)
{
	static const struct plan plans[] = {
		{ .name = "a message with a one-time prekey", .text = "Grüße, 안녕 👋", .onetime = 1 },
		{ .name = "a message without one", .text = "x" },
		{ .name = "one's own message", .text = "mine", .own = 1 },
		{ .name = "an edit", .text = "reworded", .edit = 1 },
		{ .name = "an answer", .text = "yes", .reply_to = "m-0" },
		{ .name = "a text of several blocks",
				.onetime = 1,
				.text = "0123456789012345678901234567890123456789012345678901234567890123456789"
						"0123456789012345678901234567890123456789012345678901234567890123456789" },
		{ .name = "a false clientId",
				.text = "x",
				.change = "clientId",
				.to = "c-2",
				.fault = "BAD_SIGNATURE" },
		{ .name = "another receiver",
				.text = "x",
				.change = "receiverId",
				.to = "eve",
				.fault = "BAD_SIGNATURE" },
		{ .name = "an answer to something else",
				.text = "x",
				.reply_to = "m-0",
				.change = "replyTo",
				.to = "m-9",
				.fault = "BAD_SIGNATURE" },
		{ .name = "another sender",
				.text = "x",
				.change = "senderId",
				.to = "bob",
				.fault = "UNKNOWN_DEVICE" },
	};
	static struct e2ee_device ann, bob;
	struct e2ee_face faces[2];
	char digits[61];
	json_t *list = json_array();
	e2ee_make(&ann, "ann", 2);
	e2ee_make(&bob, "bob", 2);
	for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
		json_array_append_new(list, vector(&plans[i], &ann, &bob));
	}
	json_t *devices = devices_json(&ann, &bob);
	const char *users[2] = { "ann", "bob" };
	const size_t n[2] = { read_faces(devices, "ann", &faces[0]),
		read_faces(devices, "bob", &faces[1]) };
	e2ee_safety(users, (const struct e2ee_face *[2]){ &faces[0], &faces[1] }, n, digits);
	json_t *safety =
			json_pack("{s[ss]soss}", "users", "ann", "bob", "devices", devices, "digits", digits);
	json_t *all = json_pack(
			"{sssoso}", "made by", "tests/e2ee/vectors.c", "safety", safety, "vectors", list);
	json_dumpf(all, stdout, JSON_INDENT(1));
	printf("\n");
	json_decref(all);
	return 0;
}
