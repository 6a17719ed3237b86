/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a configuration: whatever they are, complaints or values come out, and
 * nothing else happens.  With clang:
 *   clang -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Icore -Iinclude -Itests/unit \
 *       tests/fuzz/fuzz_conf.c core/base/?*.c core/conf/?*.c -lyaml -lsodium -ljansson -lpthread
 * The golden files of tests/conf are a good corpus to start from.
 */
#include "conf/conf.h"
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The text ends at the first zero byte; what follows, up to the next one, is a --set. */
static void run(const char *yaml, size_t n, const char *assignment)
{
	struct diag d = { 0 };
	struct conf *c = conf_load_text("fuzz.yaml", chatd_str_of(yaml, n), &d);
	if (c) {
		if (assignment)
			conf_set(c, assignment, &d);
		conf_plan(c, &d);
		for (size_t i = 0; i < conf_plugin_count(c); i++) {
			struct sample s;
			const struct conf_plugin *p = conf_plugin_at(c, i);
			memset(&s, 0, sizeof(s));
			conf_fill(c, p->node, p->name, sample_opts, sizeof(sample_opts[0]), &s, &d);
			conf_complain(c, p->node, "rules.0.prefix", &d, "%s", p->name);
		}
	} else if (!diag_count(&d)) {
		abort(); /* refused without a word */
	}
	char *out = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&out, &len);
	diag_print(&d, f);
	fclose(f);
	free(out);
	conf_free(c);
	diag_finish(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *copy = malloc(n + 1);
	if (!copy)
		return 0;
	memcpy(copy, data, n);
	copy[n] = '\0';
	size_t yaml = strlen(copy);
	if (yaml < n)
		run(copy, yaml, copy + yaml + 1);
	run(copy, n, NULL);
	free(copy);
	return 0;
}
