/* SPDX-License-Identifier: Apache-2.0 */
#include "certs.h"

#include "../http/engine.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

static const char *reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());
	return text ? text : "it cannot be read";
}

/* libwebsockets would only say that it cannot make a context. */
SSL_CTX *certs_read(const struct chatd_host *h, chatd_ctx *ctx, const struct http_conf *conf)
{
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
	ERR_clear_error();
	if (!tls || SSL_CTX_use_certificate_chain_file(tls, conf->tls_cert) != 1) {
		h->fail(ctx, -EBADMSG, "certificate \"%s\": %s", conf->tls_cert, reason());
	} else if (SSL_CTX_use_PrivateKey_file(tls, conf->tls_key, SSL_FILETYPE_PEM) != 1) {
		h->fail(ctx, -EBADMSG, "key \"%s\": %s", conf->tls_key, reason());
	} else {
		return tls;
	}
	ERR_clear_error();
	SSL_CTX_free(tls);
	return NULL;
}

chatd_status certs_may_follow(
		const struct chatd_host *h, chatd_ctx *ctx, const SSL_CTX *now, const SSL_CTX *fresh)
{
	const X509 *x = SSL_CTX_get0_certificate(fresh);
	if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0) {
		return h->fail(ctx, -EBADMSG, "the certificate in tls_cert has expired");
	}
	if (X509_cmp_current_time(X509_get0_notBefore(x)) > 0) {
		return h->fail(ctx, -EBADMSG, "the certificate in tls_cert is not valid yet");
	}
	/* OpenSSL would go on with the old one beside it, for clients that prefer its kind. */
	if (EVP_PKEY_get_base_id(SSL_CTX_get0_privatekey(now)) !=
			EVP_PKEY_get_base_id(SSL_CTX_get0_privatekey(fresh))) {
		return h->fail(ctx, -EBADMSG,
				"the certificate in tls_cert has a key of another kind than the one in use: that takes "
				"a restart");
	}
	return 0;
}

int certs_take(SSL_CTX *tls, const SSL_CTX *fresh)
{
	STACK_OF(X509) *chain = NULL;
	SSL_CTX_get0_chain_certs((SSL_CTX *)(uintptr_t)fresh, &chain);
	int ok = SSL_CTX_use_cert_and_key(
			tls, SSL_CTX_get0_certificate(fresh), SSL_CTX_get0_privatekey(fresh), chain, 1);
	ERR_clear_error();
	return ok == 1;
}
