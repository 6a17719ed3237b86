/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "loop/net.h"

struct tls_server {
	struct tls_conf conf;
	pthread_mutex_t lock; /* guards ctx: a reload replaces it while workers accept */
	SSL_CTX *ctx;
	SSL_CTX *next; /* read again, not in use yet; main's */
};

static const char tls12_suites[] = "ECDHE+AESGCM:ECDHE+CHACHA20";

const char *tls_reason(void)
{
	unsigned long e = ERR_peek_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;
	return reason ? reason : "connection lost";
}

static int bad(struct net_error *err, const char *what, const char *file, const char *why)
{
	snprintf(err->text, sizeof(err->text), "%s \"%s\": %s", what, file, why);
	ERR_clear_error();
	return -EBADMSG;
}

/** OpenSSL says "system library" for a file that is not there: the kernel's word is better. */
static int readable(struct net_error *err, const char *what, const char *file)
{
	FILE *f = fopen(file, "re");
	if (!f)
		return bad(err, what, file, strerror(errno));
	fclose(f);
	return 0;
}

static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	(void)rwflag;
	*(bool *)arg = true;
	if (size > 0)
		buf[0] = '\0';
	return -1;
}

static int load_cert(SSL_CTX *ctx, const char *file, struct net_error *err)
{
	int rc = readable(err, "certificate", file);
	if (rc < 0)
		return rc;
	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(ctx, file) == 1)
		return 0;
	if (ERR_GET_REASON(ERR_peek_error()) == PEM_R_NO_START_LINE)
		return bad(err, "certificate", file, "there is no PEM certificate in it");
	return bad(err, "certificate", file, tls_reason());
}

static int load_key(SSL_CTX *ctx, const struct tls_conf *conf, struct net_error *err)
{
	int rc = readable(err, "key", conf->key);
	if (rc < 0)
		return rc;
	bool encrypted = false;
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, &encrypted);
	ERR_clear_error();
	int ok = SSL_CTX_use_PrivateKey_file(ctx, conf->key, SSL_FILETYPE_PEM);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
	SSL_CTX_set_default_passwd_cb(ctx, NULL);
	if (encrypted)
		return bad(err, "key", conf->key,
				"it is encrypted with a passphrase; give a key without one, readable by the "
				"server only");
	unsigned long e = ERR_peek_last_error();
	bool mismatch = ERR_GET_LIB(e) == ERR_LIB_X509 &&
			(ERR_GET_REASON(e) == X509_R_KEY_VALUES_MISMATCH ||
					ERR_GET_REASON(e) == X509_R_KEY_TYPE_MISMATCH);
	if (ok != 1 && !mismatch)
		return bad(err, "key", conf->key,
				ERR_GET_REASON(ERR_peek_error()) == PEM_R_NO_START_LINE ||
								ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_OSSL_DECODER
						? "there is no PEM private key in it"
						: tls_reason());
	if (mismatch || SSL_CTX_check_private_key(ctx) != 1) {
		snprintf(err->text, sizeof(err->text),
				"key \"%s\" does not belong to the certificate in \"%s\"", conf->key, conf->cert);
		ERR_clear_error();
		return -EBADMSG;
	}
	return 0;
}

static int on_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_n,
		const unsigned char *offered, unsigned n, void *arg)
{
	(void)ssl;
	(void)arg;
	static const unsigned char http[] = "\x08http/1.1";
	unsigned char *chosen = NULL;
	int rc = SSL_select_next_proto(&chosen, ret_n, http, sizeof(http) - 1, offered, n);
	*ret = chosen;
	/* RFC 7301: a client that speaks only other protocols is told so. */
	return rc == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void on_message(
		int sent, int version, int type, const void *p, size_t n, SSL *ssl, void *arg)
{
	(void)version;
	(void)arg;
	uint16_t *count = SSL_get_app_data(ssl);
	if (!sent && type == SSL3_RT_HANDSHAKE && n > 0 &&
			*(const unsigned char *)p == SSL3_MT_KEY_UPDATE && count && *count < UINT16_MAX)
		++*count;
}

static SSL_CTX *make_ctx(const struct tls_conf *conf)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	if (!ctx)
		return NULL;
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx,
			SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_PRIORITIZE_CHACHA |
					SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ctx,
			SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
					SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* One record per read: a flood of KeyUpdates comes back to us after each. */
	SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
	static const unsigned char context[] = "chatd";
	SSL_CTX_set_session_id_context(ctx, context, sizeof(context) - 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets keep no state here */
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_msg_callback(ctx, on_message);
	if (conf->kind && strcmp(conf->kind, "http") == 0)
		SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	if (SSL_CTX_set_cipher_list(ctx, tls12_suites) != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

static int load(const struct tls_conf *conf, SSL_CTX **ret, struct net_error *err)
{
	SSL_CTX *ctx = make_ctx(conf);
	if (!ctx) {
		snprintf(err->text, sizeof(err->text), "TLS: %s", tls_reason());
		return -ENOMEM;
	}
	int rc = load_cert(ctx, conf->cert, err);
	if (rc == 0)
		rc = load_key(ctx, conf, err);
	if (rc < 0)
		SSL_CTX_free(ctx);
	else
		*ret = ctx;
	return rc;
}

/** @p ret_when: of the date that is wrong. */
static const char *not_valid(SSL_CTX *ctx, char ret_when[32])
{
	const X509 *x = SSL_CTX_get0_certificate(ctx);
	const ASN1_TIME *from = X509_get0_notBefore(x), *until = X509_get0_notAfter(x);
	int expired = X509_cmp_current_time(until) < 0;
	struct tm tm;
	if (!expired && X509_cmp_current_time(from) < 0)
		return NULL;
	if (ASN1_TIME_to_tm(expired ? until : from, &tm) != 1 ||
			!strftime(ret_when, 32, "%Y-%m-%d %H:%M:%S UTC", &tm))
		ret_when[0] = '\0';
	return expired ? "has expired on" : "is not valid before";
}

int tls_server_create(
		const struct tls_conf *conf, struct tls_server **ret, struct net_error *ret_err)
{
	struct tls_server *srv = calloc(1, sizeof(*srv));
	if (!srv) {
		snprintf(ret_err->text, sizeof(ret_err->text), "out of memory");
		return -ENOMEM;
	}
	srv->conf = *conf;
	int rc = load(conf, &srv->ctx, ret_err);
	if (rc < 0) {
		free(srv);
		return rc;
	}
	char when[32];
	const char *why = not_valid(srv->ctx, when);
	if (why)
		log_write(CHATD_LOG_WARN, conf->kind ? conf->kind : "core",
				"certificate \"%s\": it %s %s; clients will refuse it", conf->cert, why, when);
	pthread_mutex_init(&srv->lock, NULL);
	*ret = srv;
	return 0;
}

int tls_server_reread(struct tls_server *srv, struct net_error *ret_err)
{
	char when[32];
	tls_server_renew(srv, false);
	int rc = load(&srv->conf, &srv->next, ret_err);
	const char *why = rc < 0 ? NULL : not_valid(srv->next, when);
	if (why) {
		snprintf(ret_err->text, sizeof(ret_err->text), "certificate \"%s\": it %s %s",
				srv->conf.cert, why, when);
		tls_server_renew(srv, false);
		return -EBADMSG;
	}
	return rc;
}

void tls_server_renew(struct tls_server *srv, bool use)
{
	SSL_CTX *old = srv->next;
	if (use && old) {
		pthread_mutex_lock(&srv->lock);
		old = srv->ctx;
		srv->ctx = srv->next;
		pthread_mutex_unlock(&srv->lock);
	}
	srv->next = NULL;
	SSL_CTX_free(old);
}

void tls_server_destroy(struct tls_server *srv)
{
	if (!srv)
		return;
	SSL_CTX_free(srv->ctx);
	SSL_CTX_free(srv->next);
	pthread_mutex_destroy(&srv->lock);
	free(srv);
}

SSL *tls_new(struct tls_server *srv, int fd, uint16_t *key_updates)
{
	pthread_mutex_lock(&srv->lock);
	SSL *ssl = SSL_new(srv->ctx);
	pthread_mutex_unlock(&srv->lock);
	if (!ssl)
		return NULL;
	if (SSL_set_fd(ssl, fd) != 1) {
		SSL_free(ssl);
		return NULL;
	}
	SSL_set_app_data(ssl, key_updates);
	SSL_set_accept_state(ssl);
	return ssl;
}

void tls_free(SSL *ssl)
{
	SSL_free(ssl);
}

static int result(SSL *ssl, int rc)
{
	switch (SSL_get_error(ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		return TLS_AGAIN_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_AGAIN_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		return TLS_FAILED;
	}
}

int tls_handshake(SSL *ssl)
{
	ERR_clear_error();
	int rc = SSL_do_handshake(ssl);
	if (rc == 1)
		return 0;
	int why = result(ssl, rc);
	return why == 0 ? TLS_FAILED : why;
}

ssize_t tls_read(SSL *ssl, char *p, size_t n)
{
	size_t got = 0;
	ERR_clear_error();
	int rc = SSL_read_ex(ssl, p, n, &got);
	return rc == 1 ? (ssize_t)got : result(ssl, rc);
}

ssize_t tls_write(SSL *ssl, const char *p, size_t n)
{
	size_t put = 0;
	ERR_clear_error();
	int rc = SSL_write_ex(ssl, p, n, &put);
	if (rc == 1)
		return (ssize_t)put;
	int why = result(ssl, rc);
	return why == 0 ? TLS_FAILED : why;
}

void tls_goodbye(SSL *ssl)
{
	ERR_clear_error();
	SSL_shutdown(ssl);
	ERR_clear_error();
}
