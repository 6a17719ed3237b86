/* SPDX-License-Identifier: Apache-2.0 */
/* Deeds of a plugin that the kit has to find, each in a process of its own, as the kit ends it. */
#ifndef KIT_DEEDS_H
#define KIT_DEEDS_H

struct deed_row {
	int deed;
	const char *name, *says; /* says: part of what the kit must complain of; NULL: of nothing */
};

/* Prints TAP; 1 if one of them went as it should not. */
int deeds_run(void (*deed)(int), const struct deed_row *rows, int n);

#endif
