/* SPDX-License-Identifier: Apache-2.0 */
/* Which service a plugin is given when it asks for one. */
#include "chat/ident.h"
#include "kit_impl.h"

#include <chatd/kit_fakes.h>

#include <string.h>

/* ---- sessions: the server's own, but that identities are counted ----------------------------- */

static struct chatd_sessions sessions_vt;

static const chatd_ident *s_make_ident(void *obj, const struct chatd_identity *who)
{
	struct kit *k = kit_the();
	const chatd_ident *made = kit_fault(k) ? NULL : k->sessions->make_ident(obj, who);
	k->idents += made != NULL;
	kit_took(k, KIT_IDENT, made, 1, KIT_CALLER);
	return made;
}

/* What render() makes is the core's from then on. */
static chatd_buf *s_render(uint32_t form, struct chatd_str sub, struct chatd_str ack,
		const chatd_msg *msg, uint32_t *ret_flags)
{
	struct kit *k = kit_the();
	chatd_buf *b = k->codec->render(form, sub, ack, msg, ret_flags);
	k->bufs -= b != NULL;
	kit_gave(k, KIT_BUFFER, b);
	return b;
}

static chatd_session *s_open(void *obj, chatd_worker *w, const struct chatd_conn_ops *ops,
		void *conn, const struct chatd_layer *layer)
{
	struct kit *k = kit_the();
	if (k->codec && k->codec != ops) {
		kit_broken(k, "the kit knows but one kind of connection of a plugin");
	}
	if (kit_fault(k)) {
		return NULL;
	}
	size_t n = ops->struct_size < sizeof(k->codec_ops) ? ops->struct_size : sizeof(k->codec_ops);
	memcpy(&k->codec_ops, ops, n);
	k->codec = ops;
	k->codec_ops.render = s_render;
	return k->sessions->open(obj, w, &k->codec_ops, conn, layer);
}

/* What the plugin says in somebody's name is the server's, and the test may look for it. */
static void s_input_as(void *obj, chatd_worker *w, const chatd_ident *ident, chatd_msg *msg,
		chatd_done *done, void *arg)
{
	struct kit *k = kit_the();
	kit_remember(&k->said_tail, ident_user(ident), msg);
	k->sessions->input_as(obj, w, ident, msg, done, arg);
}

/* ---- which there are --------------------------------------------------------------------- */

static const void *const tables[KIT_SERVICES] = {
	[KIT_PRESENCE] = &kit_presence_vt,
	[KIT_ACCOUNTS] = &kit_accounts_vt,
	[KIT_ROOMS] = &kit_rooms_vt,
	[KIT_FETCH] = &kit_fetch_vt,
	[KIT_MAILER] = &kit_mailer_vt,
	[KIT_LIMITER] = &kit_limiter_vt,
	[KIT_HTTP] = &kit_http_vt,
	[KIT_NET] = &kit_net_vt,
	[KIT_USERS] = &kit_users_vt,
	[KIT_LOG] = &kit_log_vt,
	[KIT_CLUSTER] = &kit_cluster_vt,
	[KIT_STATS] = &kit_stats_vt,
	[KIT_AUDIT] = &kit_audit_vt,
	[KIT_REPORTS] = &kit_reports_vt,
	[KIT_PRIVACY] = &kit_privacy_vt,
	[KIT_TOKENS] = &kit_tokens_vt,
	[KIT_CIPHER] = &kit_cipher_vt,
	[KIT_REDIS] = &kit_redis_vt,
	[KIT_PLUGINS] = &kit_plugins_vt,
	[KIT_WEBSOCKET] = &kit_websocket_vt,
	[KIT_SOCKJS] = &kit_sockjs_vt,
};

void kit_services_init(struct kit *k)
{
	for (int i = 0; i < KIT_SERVICES; i++) {
		k->service[i] = (struct chatd_service){ tables[i], k };
	}
	sessions_vt = *k->sessions;
	sessions_vt.make_ident = s_make_ident;
	sessions_vt.open = s_open;
	sessions_vt.input_as = s_input_as;
	k->own_sessions = (struct chatd_service){ &sessions_vt, k->chat };
}

/* kit_complaints() is a server with the plugin and what it needs, and nothing that it only wants:
 * so what check() says of that can be seen.  kit_complaints_beside() has that as well. */
static const struct chatd_service *announced(const struct kit *k, const char *interface)
{
	static const struct chatd_service there = { NULL, NULL };
	int is = kit_listed(k->plugin->needs, interface) ||
			(kit_beside() && kit_listed(k->plugin->wants, interface));
	return is ? &there : NULL;
}

/* check() learns but whether a service will be there. */
const struct chatd_service *kit_in_check(const struct kit *k, const struct chatd_service *s)
{
	static const struct chatd_service there;
	return s && k->checking ? &there : s;
}

const struct chatd_service *kit_fake(struct kit *k, const char *interface)
{
	if (!k->service[0].vt) {
		return announced(k, interface);
	}
	for (int i = 0; i < KIT_SERVICES; i++) {
		if (strcmp(kit_service_names[i], interface) == 0) {
			/* With them a plugin that merely wants them does something else. */
			int unasked = i != KIT_CLUSTER && i != KIT_LOG && i != KIT_REDIS && i != KIT_CIPHER;
			return unasked || announced(k, interface) ? &k->service[i] : NULL;
		}
	}
	return strcmp(interface, CHATD_SESSIONS) == 0 ? &k->own_sessions : NULL; /* the server's own */
}

struct chatd_service kit_fake_of(struct kit *k, const char *interface)
{
	for (int i = 0; i < KIT_SERVICES; i++) {
		if (strcmp(kit_service_names[i], interface) == 0) {
			return k->service[i];
		}
	}
	kit_broken(k, "of %s the kit has no fake", interface);
	return (struct chatd_service){ NULL, NULL };
}
