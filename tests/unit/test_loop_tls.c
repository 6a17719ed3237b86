/* SPDX-License-Identifier: Apache-2.0 */
/* TLS streams against OpenSSL's own client, and what is said about bad files. */
#include "loop_kit.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

/* ---- certificates ------------------------------------------------------ */

struct files {
	char dir[64], cert[96], key[96], other_key[96], locked_key[96], none[96];
	char kept_cert[96], kept_key[96]; /* while others have their names */
};

static struct files files;

static void write_key(const char *path, EVP_PKEY *key, const char *pass)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	const EVP_CIPHER *cipher = pass ? EVP_aes_128_cbc() : NULL;
	assert_int_equal(PEM_write_PKCS8PrivateKey(
							 f, key, cipher, pass, pass ? (int)strlen(pass) : 0, NULL, NULL),
			1);
	fclose(f);
}

/* Valid from @p from on to @p until, seconds from now. */
static void write_cert(const char *path, EVP_PKEY *key, long serial, const long when[2])
{
	X509 *x = X509_new();
	assert_non_null(x);
	ASN1_INTEGER_set(X509_get_serialNumber(x), serial);
	X509_gmtime_adj(X509_getm_notBefore(x), when[0]);
	X509_gmtime_adj(X509_getm_notAfter(x), when[1]);
	X509_set_pubkey(x, key);
	X509_NAME *name = X509_get_subject_name(x);
	X509_NAME_add_entry_by_txt(
			name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0);
	X509_set_issuer_name(x, name);
	assert_true(X509_sign(x, key, EVP_sha256()) > 0);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, x), 1);
	fclose(f);
	X509_free(x);
}

static int make_files(void **state)
{
	(void)state;
	snprintf(files.dir, sizeof(files.dir), "/tmp/chatd-tls-XXXXXX");
	assert_non_null(mkdtemp(files.dir));
	snprintf(files.cert, sizeof(files.cert), "%s/cert.pem", files.dir);
	snprintf(files.key, sizeof(files.key), "%s/key.pem", files.dir);
	snprintf(files.other_key, sizeof(files.other_key), "%s/other.pem", files.dir);
	snprintf(files.locked_key, sizeof(files.locked_key), "%s/locked.pem", files.dir);
	snprintf(files.none, sizeof(files.none), "%s/none.pem", files.dir);
	snprintf(files.kept_cert, sizeof(files.kept_cert), "%s/kept-cert.pem", files.dir);
	snprintf(files.kept_key, sizeof(files.kept_key), "%s/kept-key.pem", files.dir);
	EVP_PKEY *key = EVP_EC_gen("P-256");
	EVP_PKEY *other = EVP_EC_gen("P-256");
	assert_non_null(key);
	assert_non_null(other);
	write_cert(files.cert, key, 1, (const long[2]){ -60, 86400 });
	write_key(files.key, key, NULL);
	write_key(files.locked_key, key, "secret");
	write_key(files.other_key, other, NULL);
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
	return 0;
}

static int remove_files(void **state)
{
	(void)state;
	unlink(files.cert);
	unlink(files.key);
	unlink(files.other_key);
	unlink(files.locked_key);
	return rmdir(files.dir);
}

/* ---- server ------------------------------------------------------------ */

struct test {
	struct kit kit;
	chatd_stream *stream;
	chatd_worker *w;
	atomic_int accepted, gone, tls;
	const char *then; /* what to do with the first bytes: "echo", "close", "flood" */
};

static size_t on_data(void *arg, const char *p, size_t n)
{
	struct test *t = arg;
	if (strcmp(t->then, "echo") == 0) {
		/* In two buffers, to be put together into one record. */
		kit_send_copy(t->stream, p, n / 2);
		kit_send_copy(t->stream, p + n / 2, n - n / 2);
		return n;
	}
	chatd_buf *b = buf_new(0, 100000);
	if (!b)
		abort();
	memset(buf_data(b), 'x', buf_len(b));
	for (int i = 0; i < 40; i++)
		t->stream->ops->send(t->stream, b);
	buf_unref(b);
	if (strcmp(t->then, "close") == 0)
		t->stream->ops->close(t->stream);
	return n;
}

static void on_gone(void *arg, int32_t why)
{
	atomic_store(&((struct test *)arg)->gone, why);
}

static const struct chatd_stream_user user = {
	.struct_size = sizeof(user), .data = on_data, .gone = on_gone
};

static void accepted(void *arg, chatd_worker *w, chatd_stream *s)
{
	struct test *t = arg;
	t->stream = s;
	t->w = w;
	atomic_store(&t->tls, s->ops->is_tls(s));
	s->ops->attach(s, &user, t);
	atomic_fetch_add(&t->accepted, 1);
}

static void begin(struct test *t, int workers, const char *then, const char *kind)
{
	memset(t, 0, sizeof(*t));
	t->then = then;
	struct chatd_listen conf = { .accepted = accepted, .arg = t };
	conf.kind = kind;
	conf.tls_cert = files.cert;
	conf.tls_key = files.key;
	conf.handshake_ms = 300;
	kit_listen(&t->kit, workers, conf);
}

static uint64_t refused(const struct kit *k)
{
	uint64_t n = 0;
	for (int32_t i = 0; i < loop_count(k->loop); i++)
		n += net_stats(loop_worker(k->loop, i))->refused;
	return n;
}

static void stop_and_expect_refused(struct test *t, uint64_t want)
{
	loop_stop(t->kit.loop);
	loop_join(t->kit.loop);
	assert_int_equal(refused(&t->kit), want);
	net_destroy(t->kit.net);
	loop_destroy(t->kit.loop);
}

/* ---- client ------------------------------------------------------------ */

struct client {
	SSL_CTX *ctx;
	SSL *ssl;
	int fd;
};

static int client_try(struct client *c, const struct kit *k, int version, const char *alpn)
{
	c->ctx = SSL_CTX_new(TLS_client_method());
	assert_non_null(c->ctx);
	SSL_CTX_set_security_level(c->ctx, 0); /* so that TLS 1.0 is really offered */
	SSL_CTX_set_min_proto_version(c->ctx, version);
	SSL_CTX_set_max_proto_version(c->ctx, version);
	c->ssl = SSL_new(c->ctx);
	c->fd = kit_connect(k);
	SSL_set_fd(c->ssl, c->fd);
	if (alpn)
		SSL_set_alpn_protos(c->ssl, (const unsigned char *)alpn, (unsigned)strlen(alpn));
	int rc = SSL_connect(c->ssl);
	ERR_clear_error();
	return rc;
}

static void client_end(struct client *c)
{
	SSL_free(c->ssl);
	SSL_CTX_free(c->ctx);
	close(c->fd);
}

static void echo_in_odd_pieces(SSL *ssl, size_t total)
{
	static char out[40000];
	static char in[40000];
	unsigned x = 99;
	for (size_t sent = 0; sent < total;) {
		x = x * 1103515245 + 12345;
		int n = (int)(1 + (x >> 16) % sizeof(out));
		for (int i = 0; i < n; i++)
			out[i] = (char)((sent + (size_t)i) * 2654435761u >> 11);
		assert_int_equal(SSL_write(ssl, out, n), n);
		for (int got = 0; got < n;) {
			int rc = SSL_read(ssl, in + got, n - got);
			assert_true(rc > 0);
			got += rc;
		}
		assert_memory_equal(in, out, (size_t)n);
		sent += (size_t)n;
	}
}

/* ---- claims ------------------------------------------------------------ */

static void tls_1_2_and_1_3_carry_bytes_both_ways(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	for (int i = 0; i < 2; i++) {
		static struct test t;
		struct client c;
		begin(&t, *(int *)*state, "echo", "test");
		assert_int_equal(client_try(&c, &t.kit, versions[i], NULL), 1);
		echo_in_odd_pieces(c.ssl, 3000000);
		assert_int_equal(atomic_load(&t.tls), 1);
		SSL_shutdown(c.ssl);
		WAIT_FOR(atomic_load(&t.gone) == CHATD_END_EOF);
		client_end(&c);
		stop_and_expect_refused(&t, 0);
	}
}

static void older_versions_are_refused(void **state)
{
	static const int versions[] = { TLS1_VERSION, TLS1_1_VERSION };
	static struct test t;
	begin(&t, *(int *)*state, "echo", "test");
	for (int i = 0; i < 2; i++) {
		struct client c;
		assert_int_not_equal(client_try(&c, &t.kit, versions[i], NULL), 1);
		client_end(&c);
	}
	assert_int_equal(atomic_load(&t.accepted), 0);
	stop_and_expect_refused(&t, 2);
}

static void a_handshake_that_stalls_is_ended(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, "echo", "test");
	int silent = kit_connect(&t.kit);
	int half = kit_connect(&t.kit);
	int garbage = kit_connect(&t.kit);
	kit_write(half, "\x16\x03\x01\x02\x00", 5); /* the head of a record, and no more */
	kit_write(garbage, "GET / HTTP/1.1\r\n\r\n", 18);
	kit_expect_end(silent);
	kit_expect_end(half);
	char buf[64];
	int err;
	kit_read(garbage, buf, sizeof(buf), &err); /* an alert may come, and then the end */
	close(silent);
	close(half);
	close(garbage);
	assert_int_equal(atomic_load(&t.accepted), 0);
	stop_and_expect_refused(&t, 3);
}

static void http_negotiates_http_1_1_only(void **state)
{
	static struct test t;
	struct client c;
	const unsigned char *chosen;
	unsigned n;
	begin(&t, *(int *)*state, "echo", "http");
	assert_int_equal(client_try(&c, &t.kit, TLS1_3_VERSION, "\x02h2\x08http/1.1"), 1);
	SSL_get0_alpn_selected(c.ssl, &chosen, &n);
	assert_int_equal(n, 8);
	assert_memory_equal(chosen, "http/1.1", 8);
	client_end(&c);
	assert_int_not_equal(client_try(&c, &t.kit, TLS1_3_VERSION, "\x02h2"), 1);
	client_end(&c);
	stop_and_expect_refused(&t, 1);
}

static void close_delivers_everything_and_says_goodbye(void **state)
{
	static struct test t;
	static char buf[65536];
	struct client c;
	begin(&t, *(int *)*state, "close", "test");
	assert_int_equal(client_try(&c, &t.kit, TLS1_3_VERSION, NULL), 1);
	assert_int_equal(SSL_write(c.ssl, "go", 2), 2);
	size_t got = 0;
	int rc;
	while ((rc = SSL_read(c.ssl, buf, sizeof(buf))) > 0)
		got += (size_t)rc;
	assert_int_equal(SSL_get_error(c.ssl, rc), SSL_ERROR_ZERO_RETURN); /* close_notify */
	assert_int_equal(got, 4000000);
	client_end(&c);
	kit_stop(&t.kit);
}

static void set_limit(void *arg)
{
	struct test *t = arg;
	t->stream->ops->limits(t->stream, 1000000, 0);
	atomic_fetch_add(&t->accepted, 1);
}

static void a_slow_reader_is_ended_under_tls_too(void **state)
{
	static struct test t;
	struct client c;
	begin(&t, *(int *)*state, "flood", "test");
	assert_int_equal(client_try(&c, &t.kit, TLS1_3_VERSION, NULL), 1);
	WAIT_FOR(atomic_load(&t.accepted) == 1);
	worker_post(t.w, set_limit, &t);
	WAIT_FOR(atomic_load(&t.accepted) == 2);
	for (int i = 0; i < 100 && !atomic_load(&t.gone); i++) {
		if (SSL_write(c.ssl, "go", 2) <= 0)
			break;
	}
	WAIT_FOR(atomic_load(&t.gone) == CHATD_END_SLOW);
	client_end(&c);
	kit_stop(&t.kit);
}

static void a_flood_of_key_updates_ends_the_stream(void **state)
{
	static struct test t;
	struct client c;
	begin(&t, *(int *)*state, "echo", "test");
	assert_int_equal(client_try(&c, &t.kit, TLS1_3_VERSION, NULL), 1);
	for (int i = 0; i < 20; i++) { /* some are everybody's right */
		assert_int_equal(SSL_key_update(c.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		assert_int_equal(SSL_do_handshake(c.ssl), 1);
	}
	echo_in_odd_pieces(c.ssl, 1000);
	assert_int_equal(atomic_load(&t.gone), 0);
	for (int i = 0; i < 10000 && !atomic_load(&t.gone); i++) {
		if (SSL_key_update(c.ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1 ||
				SSL_do_handshake(c.ssl) != 1)
			break;
	}
	WAIT_FOR(atomic_load(&t.gone) == CHATD_END_ERROR);
	client_end(&c);
	kit_stop(&t.kit);
}

/* Of the certificate that a client is shown. */
static long serial_now(const struct kit *k)
{
	struct client c;
	assert_int_equal(client_try(&c, k, TLS1_3_VERSION, NULL), 1);
	X509 *x = SSL_get1_peer_certificate(c.ssl);
	assert_non_null(x);
	long serial = ASN1_INTEGER_get(X509_get_serialNumber(x));
	X509_free(x);
	client_end(&c);
	return serial;
}

static void who_comes_later_sees_what_was_read_again(void **state)
{
	static struct test t;
	struct net_error err;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	begin(&t, *(int *)*state, "echo", "test");
	assert_int_equal(rename(files.cert, files.kept_cert), 0);
	assert_int_equal(rename(files.key, files.kept_key), 0);
	write_cert(files.cert, key, 2, (const long[2]){ -60, 60 });
	write_key(files.key, key, NULL);
	assert_int_equal(net_tls_reread(t.kit.net, &err), 0);
	assert_int_equal(serial_now(&t.kit), 1); /* not yet */
	net_tls_renew(t.kit.net, false);
	assert_int_equal(serial_now(&t.kit), 1);
	assert_int_equal(net_tls_reread(t.kit.net, &err), 0);
	net_tls_renew(t.kit.net, true);
	assert_int_equal(serial_now(&t.kit), 2);
	assert_int_equal(rename(files.kept_cert, files.cert), 0);
	assert_int_equal(rename(files.kept_key, files.key), 0);
	EVP_PKEY_free(key);
	kit_stop(&t.kit);
}

static void not_taken(struct test *t, const char *want)
{
	struct net_error err;
	assert_int_equal(net_tls_reread(t->kit.net, &err), -EBADMSG);
	assert_non_null(strstr(err.text, want));
	net_tls_renew(t->kit.net, true);
	assert_int_equal(serial_now(&t->kit), 1); /* the old ones stay */
}

static void what_is_read_again_must_be_good(void **state)
{
	static struct test t;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	begin(&t, *(int *)*state, "echo", "test");
	assert_int_equal(rename(files.key, files.kept_key), 0);
	not_taken(&t, "No such file");
	write_key(files.key, key, NULL);
	not_taken(&t, "does not belong to the certificate");
	assert_int_equal(rename(files.cert, files.kept_cert), 0);
	write_cert(files.cert, key, 2, (const long[2]){ -86400, -60 });
	not_taken(&t, "it has expired on 20");
	write_cert(files.cert, key, 2, (const long[2]){ 3600, 7200 });
	not_taken(&t, "it is not valid before 20");
	assert_int_equal(rename(files.kept_cert, files.cert), 0);
	assert_int_equal(rename(files.kept_key, files.key), 0);
	EVP_PKEY_free(key);
	kit_stop(&t.kit);
}

static void check_files(struct net *net, const char *cert, const char *key, const char *want)
{
	struct net_error err;
	struct net_listener *l;
	struct chatd_listen conf = { .struct_size = sizeof(conf),
		.address = "127.0.0.1:0",
		.kind = "test",
		.tls_cert = cert,
		.tls_key = key,
		.accepted = accepted };
	int rc = net_listen(net, &conf, &l, &err);
	assert_int_equal(rc, cert && key ? -EBADMSG : -EINVAL);
	if (!strstr(err.text, want))
		fail_msg("\"%s\" does not say \"%s\"", err.text, want);
	if (cert && key && !strstr(err.text, files.dir))
		fail_msg("\"%s\" names no file", err.text);
}

static void bad_files_are_named_with_the_reason(void **state)
{
	(void)state;
	struct loop *loop = kit_loop(1);
	struct net *net = net_create(loop);
	check_files(net, files.none, files.key, "No such file or directory");
	check_files(net, files.cert, files.none, "No such file or directory");
	check_files(net, files.key, files.key, "no PEM certificate in it");
	check_files(net, files.cert, files.cert, "no PEM private key in it");
	check_files(net, files.cert, files.other_key, "does not belong to the certificate in");
	check_files(net, files.cert, files.locked_key, "encrypted with a passphrase");
	check_files(net, files.dir, files.key, "certificate");
	check_files(net, files.cert, NULL, "only the certificate is given");
	check_files(net, NULL, files.key, "only the key is given");
	net_destroy(net);
	loop_destroy(loop);
}

int main(void)
{
	static int one = 1;
	static int four = 4;
#define BOTH(f) cmocka_unit_test_prestate(f, &one), cmocka_unit_test_prestate(f, &four)
	const struct CMUnitTest tests[] = {
		BOTH(tls_1_2_and_1_3_carry_bytes_both_ways),
		BOTH(older_versions_are_refused),
		BOTH(a_handshake_that_stalls_is_ended),
		BOTH(http_negotiates_http_1_1_only),
		BOTH(close_delivers_everything_and_says_goodbye),
		BOTH(a_slow_reader_is_ended_under_tls_too),
		BOTH(a_flood_of_key_updates_ends_the_stream),
		BOTH(who_comes_later_sees_what_was_read_again),
		BOTH(what_is_read_again_must_be_good),
		cmocka_unit_test(bad_files_are_named_with_the_reason),
	};
	return cmocka_run_group_tests(tests, make_files, remove_files);
}
