/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load generator: speaks STOMP over WebSocket to any server and prints one JSON line about
 * what happened. Exit 0 for a valid run, 3 for an invalid one (something was lost, refused or hung
 * up), 64 for wrong arguments.
 */
#include "load.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static const char usage_text[] =
		"usage: bench-load MODE HOST:PORT[,HOST:PORT...] [options]\n"
		"connection i dials address i modulo their number\n"
		"modes\n"
		"  fanout   one topic, many subscribers\n"
		"  direct   pairs of users\n"
		"  durable  senders that each keep --window messages without a receipt\n"
		"  resume   come back at once to --window messages of a room\n"
		"  idle     open, subscribe, hold\n"
		"  churn    connect, subscribe and leave, over and over\n"
		"options\n"
		"  -n, --connections N   subscribers, users, idle or concurrent connections (1000)\n"
		"  -s, --seconds T       how long; idle: 0 = until a line on stdin (3)\n"
		"  -r, --rate R          fanout: deliveries, direct: messages a second; 0 = unpaced (0)\n"
		"      --path PATH       of the WebSocket (/ws-chat)\n"
		"      --topic NAME      what to subscribe to (/topic/bench)\n"
		"      --room ID         fanout: publish through /app/chat.send to this room\n"
		"      --chat            direct: through /app/chat.send and /user/queue/messages\n"
		"      --one-way         direct: one of each pair only listens\n"
		"      --messages N      direct: so many in all, each sender's last with a receipt (no limit)\n"
		"      --go-on           count what is lost and send on\n"
		"      --rest T          seconds before the first message (0)\n"
		"      --hold            begin when a line comes on stdin, all being connected\n"
		"      --publishers N    fanout: 1 to 16 (1)\n"
		"      --body BYTES      of each SEND (150)\n"
		"      --window N        messages in flight at most (32; paced 1000)\n"
		"      --burst N         messages published at once when unpaced, 1 to 64 (8)\n"
		"      --warm T          seconds before the measuring begins (0.5)\n"
		"      --settle T        idle, churn: seconds before memory is read (1)\n"
		"      --total N         churn: connections at most (200000)\n"
		"      --sources N       dial from N addresses of 127.0.0.x (churn 16, else 1)\n"
		"      --login L, --passcode P\n"
		"      --numbered        a number is added to the login, another for each connection\n"
		"      --cpu NAME=PID,…  other processes whose CPU is read too; up to 8 times\n"
		"      --pid PID         of the server, to report its CPU and memory\n";

enum { GROUPS_MAX = 8 };

enum opt_id {
	O_PATH = 256,
	O_TOPIC,
	O_ROOM,
	O_CHAT,
	O_ONE_WAY,
	O_MESSAGES,
	O_GO_ON,
	O_REST,
	O_HOLD,
	O_NUMBERED,
	O_CPU,
	O_PUBLISHERS,
	O_BODY,
	O_WINDOW,
	O_BURST,
	O_WARM,
	O_SETTLE,
	O_TOTAL,
	O_SOURCES,
	O_LOGIN,
	O_PASSCODE,
	O_PID
};

static const struct option long_options[] = { { "connections", required_argument, NULL, 'n' },
	{ "seconds", required_argument, NULL, 's' }, { "rate", required_argument, NULL, 'r' },
	{ "path", required_argument, NULL, O_PATH }, { "topic", required_argument, NULL, O_TOPIC },
	{ "room", required_argument, NULL, O_ROOM }, { "chat", no_argument, NULL, O_CHAT },
	{ "one-way", no_argument, NULL, O_ONE_WAY }, { "go-on", no_argument, NULL, O_GO_ON },
	{ "messages", required_argument, NULL, O_MESSAGES },
	{ "rest", required_argument, NULL, O_REST }, { "hold", no_argument, NULL, O_HOLD },
	{ "numbered", no_argument, NULL, O_NUMBERED }, { "cpu", required_argument, NULL, O_CPU },
	{ "publishers", required_argument, NULL, O_PUBLISHERS },
	{ "body", required_argument, NULL, O_BODY }, { "window", required_argument, NULL, O_WINDOW },
	{ "burst", required_argument, NULL, O_BURST }, { "warm", required_argument, NULL, O_WARM },
	{ "settle", required_argument, NULL, O_SETTLE }, { "total", required_argument, NULL, O_TOTAL },
	{ "sources", required_argument, NULL, O_SOURCES },
	{ "login", required_argument, NULL, O_LOGIN },
	{ "passcode", required_argument, NULL, O_PASSCODE }, { "pid", required_argument, NULL, O_PID },
	{ 0 } };

static void wrong(const char *what, const char *text)
{
	fprintf(stderr, "bench-load: %s \"%s\"\n%s", what, text, usage_text);
	exit(64);
}

static double number(const char *text, double least, double most)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end != '\0' || !(v >= least && v <= most))
		wrong("not a number in range:", text);
	return v;
}

static uint32_t count(const char *text, uint32_t least, uint32_t most)
{
	return (uint32_t)number(text, least, most);
}

/* What only matters with several nodes. */
static void take_cluster(struct load_opts *o, int opt, char *arg)
{
	switch (opt) {
	case O_ONE_WAY:
		o->one_way = true;
		break;
	case O_MESSAGES:
		o->messages = count(arg, 1, 100000000);
		break;
	case O_GO_ON:
		o->go_on = true;
		break;
	case O_HOLD:
		o->hold = true;
		break;
	case O_REST:
		o->rest = number(arg, 0, 60);
		break;
	case O_NUMBERED:
		o->to.numbered = true;
		break;
	case O_CPU:
		if (o->groups == GROUPS_MAX || !stats_group_parse(&o->group[o->groups++], arg))
			wrong("not NAME=PID,PID (at most 64 of them), or more than 8 such groups:", arg);
		break;
	default:
		fputs(usage_text, stderr);
		exit(64);
	}
}

static void take(struct load_opts *o, int opt, char *arg)
{
	switch (opt) {
	case 'n':
		o->connections = count(arg, 1, 100000);
		break;
	case 's':
		o->seconds = number(arg, 0, 3600);
		break;
	case 'r':
		o->rate = number(arg, 0, 1e8);
		break;
	case O_PATH:
		o->to.path = arg;
		break;
	case O_TOPIC:
		o->topic = arg;
		break;
	case O_ROOM:
		o->room = arg;
		break;
	case O_CHAT:
		o->chat = true;
		break;
	case O_PUBLISHERS:
		o->publishers = count(arg, 1, SWARM_SLOTS);
		break;
	case O_BODY:
		o->body = count(arg, 1, 65536);
		break;
	case O_WINDOW:
		o->window = count(arg, 1, 1000000);
		break;
	case O_BURST:
		o->burst = count(arg, 1, 64);
		break;
	case O_WARM:
		o->warm = number(arg, 0, 60);
		break;
	case O_SETTLE:
		o->settle = number(arg, 0, 60);
		break;
	case O_TOTAL:
		o->total = count(arg, 1, 10000000);
		break;
	case O_SOURCES:
		o->to.sources = count(arg, 1, 200);
		break;
	case O_LOGIN:
		o->to.login = arg;
		break;
	case O_PASSCODE:
		o->to.passcode = arg;
		break;
	case O_PID:
		o->pid = (pid_t)count(arg, 1, 0x7fffffff);
		break;
	default:
		take_cluster(o, opt, arg);
	}
}

static void print(const char *mode, const struct load_opts *o, const struct load_result *r)
{
	const struct stats_hist *h = &r->latency;

	printf("{\"mode\":\"%s\",\"valid\":%s,\"why\":\"%s\",\"connections\":%u,\"seconds\":%.3f", mode,
			r->why ? "false" : "true", r->why ? r->why : "", r->connections, r->seconds);
	printf(",\"sent\":%" PRIu64 ",\"deliveries\":%" PRIu64 ",\"completed\":%" PRIu64, r->sent,
			r->deliveries, r->completed);
	printf(",\"lost\":%" PRIu64 ",\"disorder\":%" PRIu64 ",\"errors\":%" PRIu64
		   ",\"disconnects\":%" PRIu64 ",\"held_back\":%" PRIu64,
			r->lost, r->disorder, r->errors, r->disconnects, r->held_back);
	printf(",\"doubled\":%" PRIu64 ",\"publish_seconds\":%.3f,\"cpu_us\":{", r->doubled,
			r->publish_seconds);
	for (uint32_t i = 0; i < o->groups; i++)
		printf("%s\"%s\":%.1f", i ? "," : "", o->group[i].name,
				(double)stats_group_cpu(&o->group[i]) / 1000);
	printf("},\"bytes_in\":%" PRIu64 ",\"reads\":%" PRIu64, r->bytes_in, r->reads);
	printf(",\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f", stats_quantile(h, 0.5),
			stats_quantile(h, 0.99), stats_quantile(h, 1));
	printf(",\"server_cpu_us\":%.1f,\"load_cpu_us\":%.1f", (double)r->server_cpu / 1000,
			(double)r->load_cpu / 1000);
	printf(",\"pss_kb\":[%" PRId64 ",%" PRId64 ",%" PRId64 "]", r->before.pss_kb, r->after.pss_kb,
			r->end.pss_kb);
	printf(",\"rss_kb\":[%" PRId64 ",%" PRId64 ",%" PRId64 "]}\n", r->before.rss_kb,
			r->after.rss_kb, r->end.rss_kb);
}

static void allow_descriptors(uint32_t want)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return;
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < want + 16) {
		fprintf(stderr, "bench-load: %u connections, but only %ju descriptors are allowed\n", want,
				(uintmax_t)files.rlim_cur);
		exit(64);
	}
}

static void split_target(struct load_opts *o, char *text)
{
	char *rest = NULL;

	for (char *one = strtok_r(text, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
		char *colon = strrchr(one, ':');
		if (!colon || o->to.nodes == SWARM_NODES)
			wrong("not HOST:PORT, or more than 8 of them:", one);
		*colon = '\0';
		o->to.node[o->to.nodes++] =
				(struct swarm_node){ one, (uint16_t)count(colon + 1, 1, 65535) };
	}
	if (o->to.nodes == 0)
		wrong("not HOST:PORT:", text);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const struct load_opts *o, struct load_result *r);
		unsigned sources;
	} modes[] = { { "fanout", traffic_fanout, 1 }, { "direct", traffic_direct, 1 },
		{ "durable", durable_send, 1 }, { "resume", durable_resume, 1 }, { "idle", crowd_idle, 1 },
		{ "churn", crowd_churn, 16 } };
	static struct stats_group groups[GROUPS_MAX];
	struct load_opts o = { .group = groups,
		.to = { .path = "/ws-chat" },
		.connections = 1000,
		.publishers = 1,
		.body = 150,
		.burst = 8,
		.total = 200000,
		.seconds = 3,
		.warm = 0.5,
		.settle = 1,
		.topic = "/topic/bench" };
	struct load_result *r = calloc(1, sizeof *r);
	size_t m = 0;
	int opt;

	while ((opt = getopt_long(argc, argv, "n:s:r:", long_options, NULL)) != -1)
		take(&o, opt, optarg);
	if (argc - optind != 2 || !r) {
		fputs(usage_text, stderr);
		return 64;
	}
	while (m < sizeof modes / sizeof *modes && strcmp(modes[m].name, argv[optind]) != 0)
		m++;
	if (m == sizeof modes / sizeof *modes)
		wrong("no such mode:", argv[optind]);
	split_target(&o, argv[optind + 1]);
	if (!o.to.sources)
		o.to.sources = modes[m].sources;
	if (!o.window)
		o.window = o.rate > 0 ? 1000 : 32;
	if (o.window < o.burst)
		o.burst = o.window;
	allow_descriptors(o.connections + o.connections / 100 + o.publishers);
	prctl(PR_SET_TIMERSLACK, 1ul); /* a paced message should leave when it is due */
	modes[m].run(&o, r);
	if (!r->why && (r->errors || r->disconnects))
		r->why = "the server refused something or closed a connection";
	print(modes[m].name, &o, r);
	int rc = r->why ? 3 : 0;
	free(r);
	return rc;
}
