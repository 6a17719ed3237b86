/* SPDX-License-Identifier: Apache-2.0 */
/* chatd-fetch [PARENT]: its standard input is a socket to a chatd that speaks as wire.h says; it ends
 * with that connection, and with the process PARENT if it is started by that. */
#include "helper.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Also if it went before we could say so. */
static void end_with(const char *parent)
{
	char *end;
	long pid = strtol(parent, &end, 10);
	if (*end || end == parent || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
		give_up(WIRE_EXIT_USAGE);
	}
	if (getppid() != pid) {
		give_up(0);
	}
}

static void begin(struct helper *helper)
{
	uint32_t flaws = 0;
	helper->base = event_base_new();
	if (!helper->base || fence_limits(&helper->setup) < 0 ||
			curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
			lane_start(&helper->ours, helper) || lane_start(&helper->outside, helper) ||
			pipe_open(helper)) {
		give_up(WIRE_EXIT_SYSTEM);
	}
	if (fence_enter(&flaws) < 0) {
		give_up(WIRE_EXIT_FENCE);
	}
	pipe_ready(helper, flaws);
}

int main(int argc, char **argv)
{
	static struct helper helper;
	struct stat st;
	if (argc > 2 || fstat(STDIN_FILENO, &st) < 0 || !S_ISSOCK(st.st_mode)) {
		static const char usage[] =
				"chatd-fetch is started by chatd, or with a socket as its standard "
				"input; see plugins/fetch/README.md\n";
		(void)!write(STDERR_FILENO, usage, sizeof(usage) - 1);
		return WIRE_EXIT_USAGE;
	}
	close_range(3, ~0u, 0);
	(void)signal(SIGPIPE, SIG_IGN);
	if (argc == 2) {
		end_with(argv[1]);
	}
	pipe_setup(&helper);
	begin(&helper);
	(void)event_base_dispatch(helper.base);
	give_up(0);
}
