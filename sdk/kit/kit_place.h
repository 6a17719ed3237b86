/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file kit_place.h
 * @brief Where in the sources something was: for what is said of leaks, broken rules and crashes.
 *
 * Addresses are turned into functions and lines by addr2line (binutils, which comes with every
 * compiler), when something went wrong and never before.  Without it, or without -g, a plugin's
 * file and the offset in it are told.
 */
#ifndef KIT_PLACE_H
#define KIT_PLACE_H

#include <stddef.h>
#include <stdint.h>

enum { KIT_FRAMES = 32, KIT_OBJECTS = 48, KIT_PATH = 240 };

/* What is mapped where.  Whoever looks at the frames may be another process. */
struct kit_objects {
	size_t n;
	struct kit_object {
		uintptr_t begin, end, bias;
		char path[KIT_PATH];
	} at[KIT_OBJECTS];
};

struct kit_frames {
	int n;
	void *pc[KIT_FRAMES];
};

/* What a child leaves to its parent, in shared memory. */
struct kit_crash {
	struct kit_objects objects;
	struct kit_frames here;  /* where it was when the signal came; n 0: there was none */
	struct kit_frames fault; /* the call of the host that was made to fail; n 0: none */
	long failing;            /* its number */
	int null_call;           /* a function was called whose address is NULL */
	char doing[240];
};

/* [parent] Before the fork; NULL: no memory, and there will be no report. */
struct kit_crash *kit_crash_create(void);
void kit_crash_free(struct kit_crash *);
/* [child] Signals are noted there from now on; again after something was loaded. */
void kit_crash_watch(struct kit_crash *);
/* [parent] Appends to @p text what is known: "\n  at on_put (quiet.c:120)" ... */
void kit_crash_tell(const struct kit_crash *, char *text, size_t room);
/* The child's, or of this process if none is watched: where the failing call is noted. */
struct kit_frames *kit_fault_frames(void);
void kit_crash_failing(long call);
void kit_crash_doing(const char *who, const char *what);

void kit_frames_now(struct kit_frames *);
/* Appends the frames that are the plugin's or the test's, at most @p max of them, each after
 * @p before.  Returns how many. */
int kit_frames_tell(
		const struct kit_frames *, const char *before, int max, char *text, size_t room);
/* The first of those frames as FILE and line: 1; 0: it is not known. */
int kit_frames_first(const struct kit_frames *, char *file, size_t room, int *ret_line);

#endif
