/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/kit_fakes.h
 * @brief Fakes of what reaches outside: chatd.fetch/1, chatd.mailer/1, chatd.limiter/1.
 *
 * They are there for every plugin that names them in .needs or .wants; a test that wants none
 * gives a kit_service whose .vt is NULL.  kit_hold(), kit_answer() and their like work on them.
 */
#ifndef CHATD_KIT_FAKES_H
#define CHATD_KIT_FAKES_H

#include <chatd/fetch.h>
#include <chatd/kit.h>
#include <chatd/limiter.h>
#include <chatd/mailer.h>

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

#ifdef __cplusplus
}
#endif
#endif
