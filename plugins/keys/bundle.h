/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file bundle.h
 * @brief The public keys of a device, as PUT /api/keys brings them.  Pure.
 *
 * What others would refuse is refused here: lengths, encodings, signatures.  That protects no
 * secret, it keeps rubbish out; clients check everything themselves.
 */
#ifndef KEYS_BUNDLE_H
#define KEYS_BUNDLE_H

#include <chatd-sdk/json.h>

enum { DEVICE_ID_CHARS = 22, DEVICE_NAME_MAX = 100, PREKEY_ID_MAX = 2000000000 };

/* Borrows its texts from the root of the body. */
struct bundle {
	char id[DEVICE_ID_CHARS + 1];                      /* of the device: follows from its keys */
	struct chatd_str identity, dh, dh_signature, name; /* name: .p NULL: none */
	int64_t prekey_id;
	struct chatd_str prekey, prekey_signature;
	json_t *onetime; /* checked: [{"id","key"}]; NULL: none */
};

/* 1, or 0 and what is wrong.  @p root is an object. */
int bundle_read(json_t *root, struct chatd_str user, struct bundle *ret, char why[CHATD_JSON_WHY]);
/* The line that others get. */
void bundle_write(struct chatd_json *, const struct bundle *);
/* What a one-time prekey of a checked list is. */
int64_t onetime_id(const json_t *);
struct chatd_str onetime_key(const json_t *);

#endif
