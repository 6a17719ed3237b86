/* SPDX-License-Identifier: Apache-2.0 */
/* What faultpre.so writes down for those who cut the power afterwards: images.py reads it.
 *
 * FAULTREC=LOG FAULTREC_DB=DATABASE (an absolute path without links): what changes that file, its
 * -wal and its -journal, each sync of them and of their folder that succeeded, and what is sent to
 * sockets, in the order in which it happened.  Several processes may append to one log.  Without
 * these variables all calls do nothing. */
#ifndef FAULTREC_H
#define FAULTREC_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Of a file: after the call, with what it did. */
void rec_write(int fd, const void *p, size_t n, int64_t at);
void rec_truncate(int fd, int64_t n);
void rec_sync(int fd);
void rec_unlink(const char *path);

/* To a socket: before the call, so that nothing leaves before it is written down. */
void rec_send(int fd, const struct iovec *iov, size_t n);

#endif
