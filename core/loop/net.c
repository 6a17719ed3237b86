/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/net.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "loop/stream_impl.h"

static int fd_limit(void)
{
	struct rlimit lim;
	if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur > INT_MAX)
		return INT_MAX;
	return (int)(lim.rlim_cur / 10 * 9 + lim.rlim_cur % 10 * 9 / 10);
}

static void on_stop(void *arg)
{
	struct net_worker *nw = arg;
	for (struct net_listener *l = nw->net->listeners; l; l = l->next)
		acceptor_stop(&l->acceptors[worker_index(nw->w)]);
	stream_stop_all(nw);
	worker_timer_clear(&nw->sweep);
}

static int add_worker(struct net *net, int32_t i)
{
	struct net_worker *nw = calloc(1, sizeof(*nw));
	if (!nw)
		return -ENOMEM;
	net->workers[i] = nw;
	nw->net = net;
	nw->w = loop_worker(net->loop, i);
	nw->todo_end = &nw->todo;
	nw->later_end = &nw->later;
	worker_set_data(nw->w, WORKER_DATA_NET, nw);
	int rc = worker_on_turn_end(nw->w, WORKER_TURN_NET, stream_turn_end, nw);
	return rc < 0 ? rc : worker_on_stop(nw->w, on_stop, nw);
}

struct net *net_create(struct loop *loop)
{
	size_t n = (size_t)loop_count(loop);
	struct net *net = calloc(1, sizeof(*net) + n * sizeof(struct net_worker *));
	if (!net)
		return NULL;
	net->loop = loop;
	net->fd_max = fd_limit();
	for (int32_t i = 0; i < loop_count(loop); i++) {
		if (add_worker(net, i) < 0) {
			net_destroy(net);
			return NULL;
		}
	}
	return net;
}

static void free_listener(struct net_listener *l)
{
	listen_close(l);
	tls_server_destroy(l->tls);
	free(l);
}

void net_destroy(struct net *net)
{
	if (!net)
		return;
	while (net->listeners) {
		struct net_listener *l = net->listeners;
		net->listeners = l->next;
		free_listener(l);
	}
	for (int32_t i = 0; i < loop_count(net->loop); i++) {
		struct net_worker *nw = net->workers[i];
		while (nw && nw->spare) {
			struct chunk *c = nw->spare;
			nw->spare = c->next;
			free(c);
		}
		free(nw);
	}
	free(net);
}

/* ---- listeners --------------------------------------------------------- */

static struct net_listener *new_listener(struct net *net, const struct chatd_listen *conf)
{
	size_t n = (size_t)loop_count(net->loop);
	struct net_listener *l = calloc(1, sizeof(*l) + n * sizeof(l->acceptors[0]));
	if (!l)
		return NULL;
	l->net = net;
	/* An older caller's struct is shorter: what it does not have stays zero. */
	memcpy(&l->conf, conf, conf->struct_size < sizeof(*conf) ? conf->struct_size : sizeof(*conf));
	l->n = (int32_t)n;
	for (int32_t i = 0; i < l->n; i++) {
		l->acceptors[i].listener = l;
		l->acceptors[i].nw = net->workers[i];
		l->acceptors[i].fd = -1;
	}
	return l;
}

static int set_up(struct net_listener *l, struct net_error *err)
{
	const struct chatd_listen *c = &l->conf;
	if (!c->accepted) {
		snprintf(err->text, sizeof(err->text), "nobody would take the connections");
		return -EINVAL;
	}
	const char *wrong = c->proxy_from ? net_address_check(c->proxy_from) : NULL;
	if (wrong) {
		snprintf(err->text, sizeof(err->text),
				"\"%s\" is no address or prefix such as \"10.0.0.0/8\", \"::1\" or \"unix\"",
				wrong);
		return -EINVAL;
	}
	if (!c->tls_cert != !c->tls_key) {
		snprintf(err->text, sizeof(err->text),
				"TLS needs both a certificate and a key; only the %s is given",
				c->tls_cert ? "certificate" : "key");
		return -EINVAL;
	}
	if (c->tls_cert) {
		struct tls_conf tls = { c->tls_cert, c->tls_key, c->kind };
		int rc = tls_server_create(&tls, &l->tls, err);
		if (rc < 0)
			return rc;
	}
	return listen_open(l, err);
}

int net_listen(struct net *net, const struct chatd_listen *conf, struct net_listener **ret,
		struct net_error *ret_err)
{
	struct net_listener *l = new_listener(net, conf);
	if (!l) {
		snprintf(ret_err->text, sizeof(ret_err->text), "out of memory");
		return -ENOMEM;
	}
	int rc = set_up(l, ret_err);
	if (rc < 0) {
		free_listener(l);
		return rc;
	}
	l->next = net->listeners;
	net->listeners = l;
	*ret = l;
	return 0;
}

const char *net_bound(const struct net_listener *listener)
{
	return listener->bound;
}

int net_tls_reread(struct net *net, struct net_error *ret_err)
{
	for (struct net_listener *l = net->listeners; l; l = l->next) {
		int rc = l->tls ? tls_server_reread(l->tls, ret_err) : 0;
		if (rc < 0) {
			net_tls_renew(net, false);
			return rc;
		}
	}
	return 0;
}

void net_tls_renew(struct net *net, bool use)
{
	for (struct net_listener *l = net->listeners; l; l = l->next) {
		if (l->tls)
			tls_server_renew(l->tls, use);
	}
}

/* ---- starting and stopping --------------------------------------------- */

struct all {
	struct net *net;
	atomic_int rc;
};

static void start_here(struct chatd_worker *w, void *arg)
{
	struct all *all = arg;
	for (struct net_listener *l = all->net->listeners; l; l = l->next) {
		int rc = acceptor_start(&l->acceptors[worker_index(w)]);
		if (rc < 0)
			atomic_store(&all->rc, rc);
	}
}

static void stop_here(struct chatd_worker *w, void *arg)
{
	struct net *net = arg;
	for (struct net_listener *l = net->listeners; l; l = l->next)
		acceptor_stop(&l->acceptors[worker_index(w)]);
}

int net_accept_start(struct net *net)
{
	struct all all = { .net = net };
	int rc = loop_run_all(net->loop, start_here, &all);
	return rc < 0 ? rc : atomic_load(&all.rc);
}

int net_accept_stop(struct net *net)
{
	int rc = loop_run_all(net->loop, stop_here, net);
	for (struct net_listener *l = net->listeners; rc == 0 && l; l = l->next)
		listen_close(l); /* what is left: the file of a unix socket */
	return rc;
}

/* ---- small things ------------------------------------------------------ */

bool net_address_in(struct chatd_str peer, const char *const *nets)
{
	for (; nets && *nets; nets++) {
		if (addr_in(peer, *nets))
			return true;
	}
	return false;
}

const char *net_address_check(const char *const *nets)
{
	for (; nets && *nets; nets++) {
		if (!addr_is_net(*nets))
			return *nets;
	}
	return NULL;
}

const struct net_stats *net_stats(chatd_worker *w)
{
	struct net_worker *nw = worker_data(w, WORKER_DATA_NET);
	return &nw->stats;
}
