/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/cipher.h
 * @brief "chatd.cipher/1": encryption of what lies on a disk.
 *
 * Who keeps things asks for it (wants) and, if it is there, writes what seal() makes and reads
 * through open().  All calls are [any]: they lock nothing, allocate nothing and never wait.
 *
 * Keys change while the server runs.  keys() gives those of this moment; they never change, and
 * stay good until the plugin ends, so a caller that began with them goes on with them.  Another
 * pointer means that there are others now.
 *
 * A sealed record begins with CHATD_CIPHER_HEAD bytes that say how it was sealed: records with
 * equal heads were sealed with the same key and the same settings.  It is bound to its place:
 * at any other place, or changed by a bit, it does not open.
 */
#ifndef CHATD_CIPHER_H
#define CHATD_CIPHER_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_CIPHER "chatd.cipher/1"

enum {
	CHATD_CIPHER_HEAD = 10,
	CHATD_CIPHER_EXTRA = 50, /**< so many bytes is a sealed record longer than what is in it */
	CHATD_CIPHER_WORD = 12,  /**< characters of a keyed word, [0-9a-f] */
	CHATD_CIPHER_MARK = 33,  /**< bytes of a mark */
	CHATD_CIPHER_NAME = 64,  /**< of a key, for people, with its end */
};

/** What a record is bound to.  What is not given is empty, which is not the same as any text. */
struct chatd_cipher_place {
	uint32_t struct_size;
	struct chatd_str kind; /**< "message", "outbox" ...: one table's records are no other's */
	struct chatd_str conv; /**< the conversation, or the record's key */
	struct chatd_str sender;
	int64_t seq;
};

/** What to do with a record that is there. */
enum {
	CHATD_CIPHER_GOOD = 0,  /**< seal() would make it with the same key and settings */
	CHATD_CIPHER_OLD = 1,   /**< it is to be sealed anew */
	CHATD_CIPHER_LATER = 2, /**< its key comes after the active one: other nodes use it already */
	CHATD_CIPHER_LOST = 3,  /**< nobody here has its key */
};

struct chatd_cipher_conf {
	uint32_t struct_size;
	/** 0: nothing new is sealed, and what is sealed shall be written as plain text again. */
	int32_t seals;
	int32_t words; /**< 1: keyed words for search may be written beside a record; 0: none */
	int64_t pace;  /**< records to seal anew per second, at most */
};

struct chatd_keys; /**< a set of keys, immutable */

struct chatd_cipher {
	uint32_t struct_size;
	const struct chatd_keys *(*keys)(void *obj);
	void (*conf)(void *obj, struct chatd_cipher_conf *ret);
	/** plain.n + CHATD_CIPHER_EXTRA bytes at @p to.  -EIO: the kernel's random numbers repeat
	 *  themselves, and nothing was written. */
	chatd_status (*seal)(const struct chatd_keys *, const struct chatd_cipher_place *,
			struct chatd_str plain, char *to);
	/** sealed.n - CHATD_CIPHER_EXTRA bytes at @p to.  -ENOKEY: there is no such key here;
	 *  -EBADMSG: it is damaged, cut, changed or not of this place.  Then @p to is not written. */
	chatd_status (*open)(const struct chatd_keys *, const struct chatd_cipher_place *,
			struct chatd_str sealed, char *to);
	/** The beginning of what seal() makes. */
	void (*head)(const struct chatd_keys *, char to[CHATD_CIPHER_HEAD]);
	/** CHATD_CIPHER_GOOD ...; @p head: the record, or its first CHATD_CIPHER_HEAD bytes. */
	int32_t (*look)(const struct chatd_keys *, struct chatd_str head);
	/** What is equal for equal words, and says nothing else about them.  @p key 0: the active
	 *  key; 1, 2 ...: others, which older records may have; -ENOENT behind the last. */
	chatd_status (*word)(const struct chatd_keys *, size_t key, struct chatd_str word,
			char to[CHATD_CIPHER_WORD]);
	/** A keyed hash of a hash, so that nobody can try texts on it. */
	void (*mark)(const struct chatd_keys *, struct chatd_str hash, char to[CHATD_CIPHER_MARK]);
	/** 1: @p mark is that of @p hash, or of a key that is not here; 0: it is not. */
	int32_t (*is_mark)(const struct chatd_keys *, struct chatd_str mark, struct chatd_str hash);
	/** The key that a record names, for people: its name in the configuration, or its number. */
	void (*name)(const struct chatd_keys *, struct chatd_str head, char to[CHATD_CIPHER_NAME]);
};

#ifdef __cplusplus
}
#endif
#endif
