/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/kit_store.h
 * @brief A store for the unit tests of plugins that keep records: in memory, answers by post.
 *
 *     static const struct kit_service services[] = { { CHATD_STORE, &kit_store_vt, NULL }, { 0 } };
 *     kit_store_clear();
 *     struct kit *k = kit_new_with(&chatd_plugin_under_test, "", &(struct kit_conf){ .services = services });
 *     kit_store_put("push.sub", "ann/1", "{}");
 *
 * Records as chatd/store.h says; of the rest: accounts that were made, rooms and their members that a
 * test names, and rows that it says were written: message() and written() know them.  Other calls are
 * answered with -ENOSYS.
 */
#ifndef CHATD_KIT_STORE_H
#define CHATD_KIT_STORE_H

#include <chatd/kit.h>
#include <chatd/store.h>

#ifdef __cplusplus
extern "C" {
#endif

extern const struct chatd_store kit_store_vt;

void kit_store_clear(void); /**< forgets all; before kit_new() and at the end of a test */
/** Every call fails with this from now on, by its answer; 0: none does. */
void kit_store_fail(chatd_status rc);
/** 1: what is asked from now on is answered only when 0 is set again. */
void kit_store_hold(int on);
size_t kit_store_held(void);
void kit_store_shared(int on); /**< what is_shared() tells */
/** Answers hold so many records at most, as those of a real one hold 4 MiB; 0: as many as asked. */
void kit_store_page(size_t n);
void kit_store_room(const char *id);
void kit_store_member(const char *room, const char *user, int32_t role); /**< CHATD_ROLE_* */
/** The next row of written(); texts must last.  Its place. */
int64_t kit_store_row(const struct chatd_store_message *);
void kit_store_put(const char *space, const char *key, const char *value);
void kit_store_due(const char *space, const char *key, int64_t at); /**< for record_claim() */
/** NULL: there is none; lasts until it is put again, or ended. */
const char *kit_store_value(const char *space, const char *key);
size_t kit_store_count(const char *space);

#ifdef __cplusplus
}
#endif
#endif
