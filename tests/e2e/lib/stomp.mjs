/* @stomp/stompjs with promises, over WebSocket or anything that looks like one (SockJS). */

import { createRequire } from "node:module";
import WebSocket from "ws";
import { Client, Versions } from "@stomp/stompjs";
import { Inbox } from "./inbox.mjs";

/* stompjs asks for it at parse time. */
Object.assign(globalThis, { WebSocket: globalThis.WebSocket ?? WebSocket });

const require = createRequire(import.meta.url);
export const SockJS = require("sockjs-client");

export const transports = ["websocket", "xhr-streaming", "xhr-polling"];

/* A factory for stompjs: a SockJS connection forced to one transport. */
export const overSockJs = (url, transport) => () => new SockJS(`${url}/ws-chat`, null, { transports: [transport] });

export class StompUser {
	errors = new Inbox("ERROR");
	#n = 0;

	/* Options: url (ws://…) or factory, version ("1.2"), headers, beats ([out, in], default off), and any option of
	 * stompjs in `client`. */
	static async connect({ url, factory, version = "1.2", headers = {}, beats = [0, 0], client: more = {} }) {
		const user = new StompUser();
		const protocols = new Versions([version]).protocolVersions();
		await new Promise((resolve, reject) => {
			const timer = setTimeout(() => reject(new Error("no CONNECTED within 30 s")), 30000);
			const fail = (error) => {
				clearTimeout(timer);
				user.client.deactivate({ force: true });
				reject(error);
			};
			user.closed = new Promise((ended) => {
				user.client = new Client({
					webSocketFactory: factory ?? (() => new WebSocket(url, protocols)),
					stompVersions: new Versions([version]),
					connectHeaders: headers,
					reconnectDelay: 0,
					heartbeatOutgoing: beats[0],
					heartbeatIncoming: beats[1],
					discardWebsocketOnCommFailure: true,
					onConnect: (connected) => {
						clearTimeout(timer);
						user.connected = connected.headers;
						resolve();
					},
					onStompError: (frame) => {
						user.errors.push(frame);
						fail(new Error(`ERROR: ${frame.headers.message}: ${frame.body}`));
					},
					onWebSocketClose: (event) => {
						ended({ code: event.code, reason: event.reason });
						fail(new Error(`closed with ${event.code} ${event.reason}`));
					},
					...more,
				});
			});
			user.client.activate();
		});
		return user;
	}

	get id() {
		return this.connected["user-name"];
	}

	receipt(id, ms = 30000) {
		return new Promise((resolve, reject) => {
			const timer = setTimeout(() => reject(new Error(`no receipt ${id} within ${ms} ms`)), ms);
			this.client.watchForReceipt(id, (frame) => {
				clearTimeout(timer);
				resolve(frame);
			});
		});
	}

	/* Resolves once the server confirmed the subscription. The inbox has stompjs' messages; `.sub` unsubscribes. */
	async subscribe(destination, headers = {}) {
		const inbox = new Inbox(destination);
		const receipt = `r${++this.#n}`;
		const done = this.receipt(receipt);
		inbox.sub = this.client.subscribe(destination, (message) => inbox.push(message), { receipt, ...headers });
		await done;
		return inbox;
	}

	/* Like subscribe, with bodies parsed as JSON. */
	async events(destination) {
		const inbox = new Inbox(destination);
		const receipt = `r${++this.#n}`;
		const done = this.receipt(receipt);
		inbox.sub = this.client.subscribe(destination, (message) => inbox.push(JSON.parse(message.body)), { receipt });
		await done;
		return inbox;
	}

	publish(destination, body, headers = {}) {
		this.client.publish({ destination, body, headers });
	}

	/* Sends JSON; resolves with the receipt. */
	send(destination, body, headers = {}) {
		const receipt = `r${++this.#n}`;
		const done = this.receipt(receipt);
		this.client.publish({
			destination,
			body: JSON.stringify(body),
			headers: { "content-type": "application/json", receipt, ...headers },
		});
		return done;
	}

	/* Sends JSON that will be refused: no receipt is asked for. */
	post(destination, body) {
		this.client.publish({ destination, body: JSON.stringify(body), headers: { "content-type": "application/json" } });
	}

	/* Politely; returns how the socket closed. */
	async leave() {
		await this.client.deactivate();
		return this.closed;
	}
}
