/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/kit_fakes.h
 * @brief Fakes of what reaches outside (chatd.fetch/1, mailer, limiter, cluster), of what is told
 * something (audit, reports, users, log, stats, plugins), and of what knows or keeps something
 * (privacy, tokens, cipher, redis).
 *
 * They are there for every plugin that names them in .needs or .wants (cluster, log, cipher and redis
 * in .needs only; else a test asks for them with KIT_FAKE); a test that wants none gives a
 * kit_service whose .vt is NULL.  kit_hold(), kit_answer() and their like work on them.
 */
#ifndef CHATD_KIT_FAKES_H
#define CHATD_KIT_FAKES_H

#include <chatd/audit.h>
#include <chatd/cipher.h>
#include <chatd/cluster.h>
#include <chatd/fetch.h>
#include <chatd/kit.h>
#include <chatd/limiter.h>
#include <chatd/log.h>
#include <chatd/mailer.h>
#include <chatd/plugins.h>
#include <chatd/privacy.h>
#include <chatd/redis.h>
#include <chatd/reports.h>
#include <chatd/stats.h>
#include <chatd/tokens.h>
#include <chatd/users.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What requests are answered with from now on, whatever they ask: @p status with @p body, as
 *  application/json.  As it begins: nobody is there (-ECONNREFUSED). */
void kit_fetch_gives(struct kit *, int32_t status, const char *body);
/** The oldest request that no expectation has taken away is this; parts of its URL and body. */
#define kit_expect_fetched(k, method, url, body) kit_expect_fetched_at(k, method, url, body, KIT_AT)
void kit_expect_fetched_at(
		struct kit *, const char *method, const char *url, const char *body, struct kit_at);
/** Likewise a mail: who gets it, and a part of its text. */
#define kit_expect_mailed(k, to, text) kit_expect_mailed_at(k, to, text, KIT_AT)
void kit_expect_mailed_at(struct kit *, const char *to, const char *text, struct kit_at);
/** No request and no mail is left. */
#define kit_expect_nothing_sent(k) kit_expect_nothing_sent_at(k, KIT_AT)
void kit_expect_nothing_sent_at(struct kit *, struct kit_at);
/** From now on buckets are empty, and filled again in @p retry_ms; 0 (as it begins): they never
 *  are. */
void kit_limit(struct kit *, int64_t retry_ms);

/** The oldest thing that @p service was told, and that no expectation has taken away:
 *  CHATD_AUDIT: the action; a part of "TARGET (DETAIL)".  CHATD_REPORTS: the message; "REASON (NOTE)".
 *  CHATD_ROOMS: "kick", "ban", "mute"; "USER in ROOM for SECONDS (over)"; "leave_all"; "USER (NICK)".
 *  CHATD_USERS, a ban: the user; the reason.  CHATD_LOG: the message; the body of what was published,
 *  or "removed".  CHATD_CLUSTER: the kind; the body.  CHATD_PLUGINS, a change: "enable", "set",
 *  "load at once" ...; "NAME KEY: VALUE".  CHATD_REDIS: the command, or "script 1"; its other words.
 *  NULL: any. */
#define kit_expect_told(k, service, what, text) kit_expect_told_at(k, service, what, text, KIT_AT)
void kit_expect_told_at(
		struct kit *, const char *service, const char *what, const char *text, struct kit_at);
#define kit_expect_not_told(k, service) kit_expect_not_told_at(k, service, KIT_AT)
void kit_expect_not_told_at(struct kit *, const char *service, struct kit_at);

/** What the plugin has counted under this name, on all workers; @p labels may be NULL. */
int64_t kit_stat(struct kit *, const char *name, const char *labels);
/** @p who has blocked @p whom, or does so no more; whoever watches hears of it. */
void kit_block(struct kit *, const char *who, const char *whom, int on);
void kit_hide_reads(struct kit *, const char *user, int on);
/** 0: from now on nothing of that is known (-EAGAIN), as in the first moments of a server. */
void kit_privacy_known(struct kit *, int known);
/** A token that says this, as issue() would make it: lives until kit_free().  They are good for
 *  KIT_TOKEN_MS unless the claims say otherwise, and no JWT: their text says nothing. */
const char *kit_token(struct kit *, const struct chatd_claims *);
enum { KIT_TOKEN_MS = 900000 };
/** An event from another node: whoever receives its kind gets it. */
void kit_cluster_comes(struct kit *, const struct chatd_cluster_event *);
/** The broker is there (as it begins), or gone; whoever receives hears of it. */
void kit_cluster_up(struct kit *, int up);
/** A row was written: here (1), for stored(), or on another node, for watch() of chatd.log/1. */
void kit_row(struct kit *, const struct chatd_store_message *, int here_written);

/** Keys have numbers: those from @p first to @p last are there, @p active is what seals from now on.
 *  As it begins 1, 1, 1; after 1, 2, 2 it is to seal anew what key 1 sealed (CHATD_CIPHER_OLD), after
 *  2, 2, 2 key 1 is lost, and of 1, 1, 2 number 2 is one that other nodes use already. */
void kit_keys(struct kit *, int first, int active, int last);
/** Of conf(): whether it seals, and whether words may be written; both 1 as it begins. */
void kit_seals(struct kit *, int seals, int words);
/** For tests that seal and open themselves: obj is the kit, kit_cipher_vt.keys(k) the keys. */
extern const struct chatd_cipher kit_cipher_vt;

/** Redis is there (as it begins), or gone; whoever watches hears of it. */
void kit_redis_up(struct kit *, int up);
/** By itself it knows PING, GET, SET (NX, XX, EX, PX), DEL, UNLINK, EXISTS, INCR, INCRBY, EXPIRE,
 *  PEXPIRE, TTL, PTTL and PUBLISH, with texts and the kit's clock.  @p fn is asked before about
 *  everything, scripts too: 1: *ret is the answer (its texts and items must last until the next
 *  question; CHATD_REDIS_ERROR: the plugin hears -EPROTO), 0: it is not for it to say.  A command
 *  that nobody knows, and a script, is answered with an error. */
typedef int kit_redis_fn(
		void *arg, const struct chatd_redis_command *, struct chatd_redis_reply *ret);
void kit_redis_answers(struct kit *, kit_redis_fn *fn, void *arg);
/** What other programs do there: keys and channels with the prefix, which is "kit:". */
void kit_redis_put(struct kit *, const char *key, const char *value);
const char *kit_redis_value(struct kit *, const char *key); /**< NULL: there is none */
void kit_redis_comes(struct kit *, const char *channel, const char *payload);

/** One more of what collect() and left_out() tell; its texts must last. */
void kit_plugin(struct kit *, const struct chatd_plugin_facts *);

#ifdef __cplusplus
}
#endif
#endif
