/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that other nodes pass on, as a released program wrote them: route-rabbitmq's test_older.c reads the
 * same from the bytes (tests/cluster/events-2.inc). */
#include <chatd/cluster.h>
#include <chatd/kit.h>
#include <chatd/kit_fakes.h>
#include <chatd/redis.h>
#include <chatd/transport.h>

#include <string.h>

extern const struct chatd_plugin chatd_plugin_under_test;

static struct kit *k;

static size_t max_frame(void *obj)
{
	(void)obj;
	return 65536;
}

static void begin(void)
{
	/* Nobody has a session here. */
	static const struct chatd_codec codec = { .struct_size = sizeof(codec),
		.max_frame = max_frame };
	static const struct kit_service services[] = { { CHATD_CLUSTER, KIT_FAKE, NULL },
		{ CHATD_REDIS, KIT_FAKE, NULL }, { CHATD_CODEC_STOMP, &codec, NULL },
		{ NULL, NULL, NULL } };
	const struct kit_conf conf = { .services = services };
	k = kit_new_with(&chatd_plugin_under_test, "", &conf);
}

static void asks(const char *op, const char *transport, const char *session)
{
	const struct chatd_cluster_header headers[] = {
		{ CHATD_LIT("id"), CHATD_LIT("00112233445566aa.1.7") },
		{ CHATD_LIT("op"), chatd_str_of(op, strlen(op)) },
		{ CHATD_LIT("boot"), CHATD_LIT("00112233445566bb") },
		{ CHATD_LIT("path"), CHATD_LIT("/ws-chat") },
		{ CHATD_LIT("session"), chatd_str_of(session, strlen(session)) },
		{ CHATD_LIT("transport"), chatd_str_of(transport, strlen(transport)) },
		{ CHATD_LIT("callback"), CHATD_LIT("") },
		{ CHATD_LIT("peer"), CHATD_LIT("e5a7c6f3a5a9a4c2a0b3c8d5f2e1a7b6") },
	};
	const struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_NODE,
		.flags = CHATD_CLUSTER_EPHEMERAL,
		.kind = CHATD_LIT("sockjs.ask"),
		.from = CHATD_LIT("n1"),
		.headers = headers,
		.n_headers = sizeof(headers) / sizeof(headers[0]),
		.body = CHATD_LIT("[\"x\"]") };
	kit_cluster_comes(k, &e);
	kit_run(k);
}

/* Of a process that is no more: so its session is, and whoever asks is told. */
static void what_an_older_node_asks_is_answered(void)
{
	begin();
	asks("poll", "xhr", "3030302f733132");
	kit_expect_told(k, CHATD_CLUSTER, "sockjs.re", "");
	asks("send", "xhr_send", "3030302f733132");
	kit_expect_told(k, CHATD_CLUSTER, "sockjs.re", "");
	asks("left", "xhr", "3030302f733132");
	kit_expect_not_told(k, CHATD_CLUSTER);
	kit_free(k);
}

static void what_cannot_be_is_not_answered(void)
{
	begin();
	asks("poll", "carrier-pigeon", "3030302f733132");
	asks("poll", "xhr", "no hex");
	asks("poll", "xhr", "");
	kit_expect_not_told(k, CHATD_CLUSTER);
	kit_free(k);
}

KIT_MAIN(KIT_TEST(what_an_older_node_asks_is_answered), KIT_TEST(what_cannot_be_is_not_answered))
