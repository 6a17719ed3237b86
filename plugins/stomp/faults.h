/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What a client can get wrong, and the exact answer: X(name, message, code, close).
 * message and code are headers of the ERROR frame, close is the RFC 6455 code that the
 * connection ends with.  The body of the frame, one line, comes from the place that
 * found the fault.  Clients and tests know these texts: change one, change a promise.
 */
#ifndef STOMP_FAULTS_H
#define STOMP_FAULTS_H

#include <stdint.h>

#define STOMP_FAULT_MAP(X)                                                                \
	X(BAD_COMMAND, "Bad command", "BAD_COMMAND", 1002)                                    \
	X(ILLEGAL_COMMAND, "Illegal command", "ILLEGAL_COMMAND", 1002)                        \
	X(VERSION_MISMATCH, "Version mismatch", "VERSION_MISMATCH", 1002)                     \
	X(BAD_CONNECT, "Bad CONNECT", "BAD_CONNECT", 1002)                                    \
	X(ACCESS_REFUSED, "Bad CONNECT", "ACCESS_REFUSED", 1008)                              \
	X(CONNECT_TIMEOUT, "CONNECT timeout", "CONNECT_TIMEOUT", 4408)                        \
	X(BAD_LENGTH, "Bad content-length", "BAD_CONTENT_LENGTH", 1002)                       \
	X(TOO_LARGE, "Frame too large", "TOO_LARGE", 1009)                                    \
	X(NO_NULL, "Frame must be terminated with a null octet", "MALFORMED_FRAME", 1002)     \
	X(INCOMPLETE, "Incomplete frame", "INCOMPLETE_FRAME", 1002)                           \
	X(HEADER_LIMIT, "Header limit exceeded", "HEADER_LIMIT", 1002)                        \
	X(MALFORMED, "Malformed frame", "MALFORMED_FRAME", 1002)                              \
	X(NOT_UTF8, "Malformed frame", "MALFORMED_FRAME", 1007)                               \
	X(NO_DESTINATION, "Missing destination", "MISSING_DESTINATION", 1002)                 \
	X(BAD_DESTINATION, "Invalid destination", "INVALID_DESTINATION", 1002)                \
	X(MISSING_HEADER, "Missing Header", "MISSING_HEADER", 1002)                           \
	X(BAD_HEADER, "Invalid header", "INVALID_HEADER", 1002)                               \
	X(UNSUPPORTED_HEADER, "Unsupported header", "UNSUPPORTED_HEADER", 1002)               \
	X(DUPLICATE_ID, "Duplicated subscription identifier", "DUPLICATE_SUBSCRIPTION", 1002) \
	X(NO_SUBSCRIPTION, "Subscription not found", "SUBSCRIPTION_NOT_FOUND", 1002)          \
	X(SUBSCRIPTION_LIMIT, "Subscription limit exceeded", "SUBSCRIPTION_LIMIT", 1008)      \
	X(NO_MESSAGE, "Message not found", "MESSAGE_NOT_FOUND", 1002)                         \
	X(TX_LIMIT, "Transaction limit exceeded", "TRANSACTION_LIMIT", 1002)                  \
	X(TX_TOO_LARGE, "Transaction too large", "TRANSACTION_TOO_LARGE", 1002)               \
	X(BAD_TX, "Bad transaction", "BAD_TRANSACTION", 1002)                                 \
	X(HEARTBEAT, "heart-beat timeout", "HEARTBEAT_TIMEOUT", 1002)                         \
	X(INTERNAL, "Internal error", "INTERNAL", 1011)

enum stomp_fault {
	STOMP_OK,
#define CHATD_X(name, message, code, close) STOMP_##name,
	STOMP_FAULT_MAP(CHATD_X)
#undef CHATD_X
			STOMP_FAULT_COUNT
};

struct stomp_fault_text {
	const char *message, *code;
	int32_t close;
};

/** The row of @p fault; not for STOMP_OK. */
const struct stomp_fault_text *stomp_fault_text(enum stomp_fault fault);

#endif
