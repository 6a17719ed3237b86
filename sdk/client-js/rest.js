/* SPDX-License-Identifier: Apache-2.0 */
/* REST calls and what they are refused with. */

const TIMEOUT_MS = 15000;

/* An answer that is not a success. `status` 0: the server was not reached. `code`: a constant as in the server's
 * problem documents, UNREACHABLE, or HTTP_ and the status. `errors`: what is wrong with which field,
 * [{field, code, message}]. */
export class ApiError extends Error {
	constructor(status, code, message, { retryAfterSeconds, errors = [] } = {}) {
		super(message);
		Object.assign(this, { status, code, retryAfterSeconds, errors });
	}
}

/* Resolves to the answer's JSON ({} without any), rejects with an ApiError. `body` is sent as JSON. */
export async function request(method, url, { headers = {}, body, timeoutMs = TIMEOUT_MS } = {}) {
	let response;
	try {
		response = await fetch(url, {
			method,
			headers: body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
			body: body === undefined ? undefined : JSON.stringify(body),
			credentials: "omit", /* tokens travel in headers; a cookie would survive "forget me" */
			cache: "no-store",
			signal: typeof AbortSignal.timeout === "function" ? AbortSignal.timeout(timeoutMs) : undefined,
		});
	} catch {
		throw new ApiError(0, "UNREACHABLE", "The server cannot be reached.");
	}
	const answer = await response.json().catch(() => null);
	if (!response.ok) {
		const seconds = Number(answer?.retryAfterSeconds ?? response.headers.get("Retry-After")) || undefined;
		throw new ApiError(
			response.status,
			answer?.code ?? "HTTP_" + response.status,
			answer?.detail ?? answer?.message ?? answer?.title ?? `The server answered ${response.status}.`,
			{ retryAfterSeconds: seconds, errors: Array.isArray(answer?.errors) ? answer.errors : [] },
		);
	}
	return answer ?? {};
}

/* Runs call(token), and once more with another token when that one is refused. `token(refused)` resolves to one. */
export async function authorized(token, call) {
	const first = await token();
	try {
		return await call(first);
	} catch (error) {
		if (error.status !== 401 || error.code === "INVALID_CREDENTIALS") {
			throw error; /* the latter: a wrong password in the body */
		}
		return call(await token(first));
	}
}

export const bearer = (token) => (token ? { Authorization: `Bearer ${token}` } : {});
