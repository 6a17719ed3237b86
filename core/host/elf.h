/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/elf.h
 * @brief Looks at a plugin file before the dynamic linker does.
 *
 * The linker maps what a file's header promises and does not look whether the file is that long: a
 * half-copied plugin would kill the server with SIGBUS instead of being refused.  And of a file for
 * another processor it says that there is no such file.  [any]
 */
#ifndef HOST_ELF_H
#define HOST_ELF_H

#include <stddef.h>

/** 0: the linker may have it.  -1: @p ret_why says what it is instead. */
int elf_check(const char *path, char *ret_why, size_t room);

#endif
