/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file claims.h
 * @brief What a token says, once its signature was checked.
 */
#ifndef CLAIMS_H
#define CLAIMS_H

#include <chatd/plugin.h>

#include <jansson.h>

enum { CLAIMS_LEEWAY_S = 30 };

/** exp (required), nbf and iat, whole seconds: -EKEYREJECTED, or -EKEYEXPIRED. */
chatd_status claims_times(const json_t *claims, int64_t wall_ms, int64_t *ret_exp_ms);
/** Member @p name is that text. */
int claims_are(const json_t *claims, const char *name, const char *text);
/** `aud` is that text, or an array that has it. */
int claims_for(const json_t *claims, const char *audience);
/** A member, or of members of members by a dotted path; NULL: none. */
const json_t *claims_at(const json_t *claims, const char *path);
/** Text of a member; .p NULL: there is none, or it is no text. */
struct chatd_str claims_text(const json_t *claims, const char *path);
/** Each word of a text, or text of an array, at @p path. */
void claims_each(const json_t *claims, const char *path,
		void (*fn)(void *arg, struct chatd_str word), void *arg);
/** CHATD_ID_* that such server-wide roles ("moderator support") mean. */
uint32_t claims_role_flags(struct chatd_str roles);

#endif
