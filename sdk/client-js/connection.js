/* SPDX-License-Identifier: Apache-2.0 */
/* One STOMP connection that comes back by itself.
 *
 * Plain WebSocket first; when it closes before STOMP is up, the next attempt goes through SockJS, for networks whose
 * proxies do not pass WebSocket. What worked once is preferred afterwards. Each attempt is a fresh stompjs client, so
 * nothing of a dead one lingers. Events go to the handlers given at construction:
 *   prepare()             async, before each attempt; returns the CONNECT headers; a throw counts as a failed attempt
 *   up(headers, transport) CONNECTED arrived
 *   down(wasUp)           the connection ended
 *   refused(message, code) the server answered CONNECT with ERROR
 *   closed({code, reason}) the server ended the connection; returns {stop: true}, {waitMs} or nothing
 *   state({state, transport, retryAt})   connecting | online | waiting | stopped */

const FIRST_DELAY_MS = 1000;
const MAX_DELAY_MS = 30000;
const FALLBACK_DELAY_MS = 250;
const CONNECT_TIMEOUT_MS = 12000;
const PATIENCE_MS = 20000;
/* WebSocket.OPEN, of whatever WebSocket */
const OPEN = 1;

/* Why something asked of the server came to nothing; `code` as in the server's own refusals, or DISCONNECTED, TIMEOUT. */
export class Refusal extends Error {
	constructor({ code, message, retryAfterSeconds }) {
		super(message);
		this.code = code;
		this.retryAfterSeconds = retryAfterSeconds;
	}
}

export class Connection {
	#handlers;
	#endpoint;
	#forced;
	#parts;
	#client = null;
	#good = null;
	#failures = 0;
	#timer = 0;
	#attempt = 0;
	#online = false;
	#stopped = true;
	#asked = new Map();

	/* `endpoint`: the address of /ws-chat. `forced`: "websocket", "sockjs" or a SockJS transport's name pins the
	 * transport; null lets it choose. `parts`: what it is made of, {Client, SockJS, WebSocket}; those that a page has as
	 * globals (StompJs.Client, SockJS, WebSocket) need not be given, and without SockJS there is no falling back to it.
	 * `loadSockJS()` in the place of SockJS resolves to it, and is called when it is needed first. */
	constructor(endpoint, forced, handlers, parts = {}) {
		const { Client = globalThis.StompJs?.Client, SockJS = globalThis.SockJS, WebSocket = globalThis.WebSocket, loadSockJS } = parts;
		if (!Client) {
			throw new TypeError("@stomp/stompjs is missing: load it before, or give its Client");
		}
		this.#endpoint = endpoint;
		this.#forced = forced;
		this.#handlers = handlers;
		this.#parts = { Client, SockJS, WebSocket, loadSockJS };
	}

	get online() {
		return this.#online;
	}

	get stopped() {
		return this.#stopped;
	}

	start() {
		clearTimeout(this.#timer);
		this.#stopped = false;
		this.#failures = 0;
		this.#connect();
	}

	/* Ends it for good, politely when it is up. */
	async stop() {
		this.#stopped = true;
		clearTimeout(this.#timer);
		this.#attempt++;
		const client = this.#client;
		const wasUp = this.#online;
		this.#client = null;
		this.#online = false;
		this.#handlers.down(wasUp);
		this.#forgetAsked();
		this.#handlers.state({ state: "stopped" });
		/* A farewell into a socket that the server is closing would only be complained about. */
		await client?.deactivate({ force: client.webSocket?.readyState !== OPEN });
	}

	/* Skips the waiting time, if it is waiting. */
	retryNow() {
		if (!this.#stopped && this.#timer) {
			this.#connect();
		}
	}

	/* Up, and the socket not about to be closed: what is written then is lost, and browsers complain. */
	get #writable() {
		return this.#online && this.#client?.webSocket?.readyState === OPEN;
	}

	/* Without an answer. Returns false when it is not up. */
	send(destination, body) {
		if (!this.#writable) {
			return false;
		}
		this.#publish(destination, body, {});
		return true;
	}

	/* Resolves once the server has done what was asked; rejects with a Refusal. */
	ask(destination, body, patienceMs) {
		if (!this.#writable) {
			return Promise.reject(disconnected());
		}
		const [receipt, done] = this.#awaitReceipt(patienceMs);
		this.#publish(destination, body, { receipt });
		return done;
	}

	#publish(destination, body, headers) {
		this.#client.publish({
			destination,
			body: JSON.stringify(body),
			headers: { "content-type": "application/json", ...headers },
		});
	}

	/* Returns {stop(), done}: `done` resolves to the receipt's headers once the server hands out messages, and rejects
	 * with a Refusal. Subscriptions end with the connection; `up` makes them again. `headers`: where to resume. */
	subscribe(destination, onBody, { patienceMs, headers = {} } = {}) {
		if (!this.#writable) {
			return { stop() {}, done: Promise.reject(disconnected()) };
		}
		const client = this.#client;
		const [receipt, done] = this.#awaitReceipt(patienceMs);
		const subscription = client.subscribe(
			destination,
			(frame) => {
				let body;
				try {
					body = JSON.parse(frame.body);
				} catch {
					return; /* not ours: plain topics may carry anything */
				}
				onBody(body, frame.headers);
			},
			{ ...headers, receipt },
		);
		const stop = () => {
			if (client === this.#client && this.#writable) {
				subscription.unsubscribe();
			}
		};
		return { stop, done };
	}

	/* The server refused the frame that had this receipt. Returns whether somebody was waiting for it. */
	refused(receipt, error) {
		const asked = this.#asked.get(receipt);
		asked?.reject(new Refusal(error));
		return Boolean(asked);
	}

	#awaitReceipt(patienceMs = PATIENCE_MS) {
		const receipt = `r-${newId()}`;
		const done = new Promise((resolve, reject) => {
			const timeout = () => this.#asked.get(receipt)?.reject(new Refusal({ code: "TIMEOUT", message: "The server did not answer." }));
			const timer = setTimeout(timeout, patienceMs);
			const end = (settle) => (value) => {
				clearTimeout(timer);
				this.#asked.delete(receipt);
				settle(value);
			};
			this.#asked.set(receipt, { resolve: end(resolve), reject: end(reject) });
		});
		this.#client.watchForReceipt(receipt, (frame) => this.#asked.get(receipt)?.resolve(frame.headers));
		return [receipt, done];
	}

	#forgetAsked() {
		for (const { reject } of [...this.#asked.values()]) {
			reject(disconnected());
		}
	}

	get #hasSockJS() {
		return Boolean(this.#parts.SockJS ?? this.#parts.loadSockJS);
	}

	#transport() {
		if (this.#forced || !this.#hasSockJS) {
			return this.#forced ?? "websocket";
		}
		if (this.#good) {
			/* Every third attempt tries the other way: the person may have moved to another network. */
			const other = this.#good === "websocket" ? "sockjs" : "websocket";
			return this.#failures % 3 === 2 ? other : this.#good;
		}
		return this.#failures % 2 === 0 ? "websocket" : "sockjs";
	}

	async #connect() {
		clearTimeout(this.#timer);
		this.#timer = 0;
		const attempt = ++this.#attempt;
		const transport = this.#transport();
		this.#handlers.state({ state: "connecting", transport });
		let headers;
		try {
			if (transport !== "websocket") {
				this.#parts.SockJS ??= await this.#parts.loadSockJS?.();
			}
			headers = await this.#handlers.prepare();
		} catch {
			if (attempt === this.#attempt) {
				this.#ended(attempt, false, false);
			}
			return;
		}
		if (attempt === this.#attempt && !this.#stopped) {
			this.#open(attempt, transport, headers);
		}
	}

	#open(attempt, transport, connectHeaders) {
		const current = () => attempt === this.#attempt;
		let wasUp = false;
		const client = new this.#parts.Client({
			webSocketFactory: () => this.#openSocket(transport),
			connectHeaders,
			connectionTimeout: CONNECT_TIMEOUT_MS,
			reconnectDelay: 0,
			heartbeatIncoming: 10000,
			heartbeatOutgoing: 10000,
			onConnect: (frame) => {
				if (!current()) {
					return;
				}
				wasUp = true;
				this.#online = true;
				this.#good = this.#forced ? null : transport;
				this.#failures = 0;
				this.#handlers.state({ state: "online", transport });
				this.#handlers.up(frame.headers, transport);
			},
			onStompError: (frame) => {
				if (current() && !wasUp) {
					this.#handlers.refused(frame.headers.message || frame.body, frame.headers.code);
				}
			},
			onWebSocketClose: (event) => {
				if (current()) {
					this.#ended(attempt, wasUp, true, event);
				}
				client.deactivate({ force: true });
			},
		});
		this.#client = client;
		client.activate();
	}

	#ended(attempt, wasUp, socketOpened, { code = 0, reason = "" } = {}) {
		this.#attempt = attempt + 1; /* late events of this attempt count no more */
		this.#client = null;
		this.#online = false;
		this.#handlers.down(wasUp);
		this.#forgetAsked();
		if (this.#stopped) {
			return;
		}
		const advice = (socketOpened && this.#handlers.closed({ code, reason })) || {};
		if (advice.stop || this.#stopped) {
			this.#stopped = true;
			return;
		}
		const fallback = this.#hasSockJS && socketOpened && !wasUp && !this.#good && !this.#forced && this.#failures === 0;
		const doubled = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(this.#failures, 10));
		/* Spread, so that a restarted server does not meet all its clients in one moment. */
		const delay = fallback ? FALLBACK_DELAY_MS : Math.max(advice.waitMs ?? 0, doubled) * (0.7 + 0.6 * Math.random());
		if (!wasUp) {
			this.#failures++;
		}
		this.#handlers.state({ state: "waiting", retryAt: Date.now() + delay });
		this.#timer = setTimeout(() => this.#connect(), delay);
	}

	#openSocket(transport) {
		const { SockJS, WebSocket } = this.#parts;
		if (transport !== "websocket") {
			const only = transport === "sockjs" ? ["xhr-streaming", "xhr-polling"] : [transport];
			return new SockJS(this.#endpoint, null, { transports: only });
		}
		const url = new URL(this.#endpoint, globalThis.location?.href);
		url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
		return new WebSocket(url, ["v12.stomp", "v11.stomp", "v10.stomp"]);
	}
}

const disconnected = () => new Refusal({ code: "DISCONNECTED", message: "The connection is gone." });

/* Unique enough for a client id; crypto.randomUUID exists only on https and localhost, and Node 18 has no crypto here. */
export function newId() {
	const bytes = new Uint8Array(12);
	if (globalThis.crypto?.getRandomValues) {
		crypto.getRandomValues(bytes);
	} else {
		bytes.forEach((_, i) => (bytes[i] = Math.random() * 256));
	}
	return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}
