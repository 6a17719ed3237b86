/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/mailer.h
 * @brief Sends e-mail: codes for addresses and passwords.
 *
 * Draft: no part of contract 1.0.  It may change or go with any release.
 *
 * Provided by "mail-smtp", and by "mail-file" for tests.
 */
#ifndef CHATD_MAILER_H
#define CHATD_MAILER_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_MAILER "chatd.mailer/1"

/** Plain text, UTF-8.  The sender's address and the encoding are the provider's business. */
struct chatd_mail {
	uint32_t struct_size;
	struct chatd_str to;      /**< one address, without a display name */
	struct chatd_str subject; /**< one line, no control characters: else -EINVAL */
	struct chatd_str text;    /**< lines end in "\n" */
};

/** [worker] rc 0: handed over to the next mail server (or written). */
typedef void chatd_mail_fn(void *arg, chatd_status rc);

struct chatd_mailer {
	uint32_t struct_size;
	/** [worker] The mail is copied.  fn runs later, once, on this worker, unless an error is
	 *  returned at once: -EINVAL; -EAGAIN: too many are waiting. */
	chatd_status (*send)(
			void *obj, chatd_worker *, const struct chatd_mail *, chatd_mail_fn *fn, void *arg);
};

#ifdef __cplusplus
}
#endif
#endif
