/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/wire.h
 * @brief Wire forms: what makes two subscribers' frames the same bytes.
 *
 * Codec, codec form, layer and subscription id.  Stock clients call their first
 * subscription "sub-0", so most subscribers of a destination share one form, and a
 * message is rendered once for all of them.  [worker]; one table per worker.
 */
#ifndef CHAT_WIRE_H
#define CHAT_WIRE_H

#include <chatd/plugin.h>
#include <chatd/transport.h>

struct wire_table;

struct wire {
	const struct chatd_conn_ops *ops;
	const struct chatd_layer *layer;
	uint32_t form;
	struct chatd_str id;
	chatd_buf *buf;       /**< of the message now being fanned out; NULL: not rendered yet */
	struct wire *touched; /**< list of those that were rendered for this message */
};

struct wire_table *wire_table_create(void); /**< NULL: no memory */
void wire_table_destroy(struct wire_table *);

/** A reference to the form that @p like describes (its buf and touched are ignored).
 *  NULL: no memory. */
struct wire *wire_get(struct wire_table *, const struct wire *like);
void wire_put(struct wire_table *, struct wire *); /**< NULL is fine */

/** Render and frame @p msg; a reference for the caller.  NULL: no memory. */
chatd_buf *wire_render(const struct wire *, struct chatd_str ack, const chatd_msg *msg);

#endif
