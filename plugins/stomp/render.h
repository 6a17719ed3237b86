/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Frames for clients: into buffers with room in front for the layer's framing.
 *
 * Nothing here knows a connection: what comes out depends on the arguments alone, so
 * that one MESSAGE can be shared by all who have the same wire form.
 */
#ifndef STOMP_RENDER_H
#define STOMP_RENDER_H

#include "parser.h"
#include <chatd/transport.h>

struct render_frame {
	const char *command;
	uint32_t form; /**< 10, 11, 12: the receiver's version; 0 as 10 */
	const struct stomp_header *header;
	size_t n;              /**< of header; those with .value.p NULL are left out */
	const chatd_msg *more; /**< headers that follow, but for the names above; or NULL */
	int32_t with_length;   /**< write content-length */
	struct chatd_str body;
};

/** [main] Before anything else here; once per process, always the same table.
 *  chatd_conn_ops.render is given no context, so this is the one thing kept aside. */
void render_init(const struct chatd_host *h);

/** NULL: no memory. */
chatd_buf *render_frame(const struct render_frame *);

/** See chatd_conn_ops.render. */
chatd_buf *render_message(uint32_t form, struct chatd_str sub, struct chatd_str ack,
		const chatd_msg *msg, uint32_t *ret_flags);

/** A heart-beat. */
chatd_buf *render_beat(void);

#endif
