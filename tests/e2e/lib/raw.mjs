/* A STOMP client that sends exactly the bytes it is told, over TCP or WebSocket, and reads strictly: for what stock
 * clients cannot be made to do. */

import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import WebSocket from "ws";
import { Inbox } from "./inbox.mjs";

const LF = 10;
const CR = 13;
const SETTLE_MS = 150;

/* frame("SEND", {destination: "/topic/x"}, "body") -> Buffer. `headers` may be pairs, to repeat one. */
export function frame(command, headers = {}, body = "") {
	const pairs = Array.isArray(headers) ? headers : Object.entries(headers);
	const head = `${command}\n${pairs.map(([k, v]) => `${k}:${v}\n`).join("")}\n`;
	return Buffer.concat([Buffer.from(head), Buffer.from(body), Buffer.from([0])]);
}

export class RawStomp {
	#pending = Buffer.alloc(0);

	/* Frames {command, headers, pairs, body, text}, in order. */
	frames = new Inbox("the raw client");
	/* Times of heart-beats, ms. */
	beats = [];
	/* WebSocket only: whether each message came as binary. */
	kinds = [];

	#take(chunk) {
		this.#pending = Buffer.concat([this.#pending, chunk]);
		for (;;) {
			let start = 0;
			while (this.#pending[start] === LF || this.#pending[start] === CR) {
				this.beats.push(Date.now());
				start++;
			}
			this.#pending = this.#pending.subarray(start);
			const got = parse(this.#pending);
			if (!got) {
				return;
			}
			this.#pending = this.#pending.subarray(got.length);
			this.frames.push(got.frame);
		}
	}

	static async tcp(port) {
		const client = new RawStomp();
		const socket = net.connect({ host: "127.0.0.1", port, noDelay: true });
		client.socket = socket;
		client.closed = new Promise((resolve) => socket.on("close", () => resolve({})));
		socket.on("data", (chunk) => client.#take(chunk));
		socket.on("error", () => {}); /* a reset shows as close */
		await once(socket, "connect");
		client.send = (bytes) =>
			new Promise((resolve) => {
				socket.write(bytes, () => resolve());
			});
		client.end = () => socket.destroy();
		return client;
	}

	static async websocket(url, protocols = ["v12.stomp"]) {
		const client = new RawStomp();
		const socket = new WebSocket(url, protocols);
		client.socket = socket;
		client.closed = new Promise((resolve) => {
			socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() }));
		});
		socket.on("message", (data, binary) => {
			client.kinds.push(binary);
			client.#take(data);
		});
		socket.on("error", () => {});
		await once(socket, "open");
		/* Text frames for strings, binary ones for buffers. */
		client.send = (data) => new Promise((resolve) => socket.send(data, () => resolve()));
		client.end = () => socket.terminate();
		return client;
	}

	async connect(version = "1.2", headers = {}) {
		const wanted = version === "1.0" ? {} : { "accept-version": version };
		await this.send(frame("CONNECT", { ...wanted, host: "localhost", ...headers }));
		const answer = await this.next("CONNECTED");
		return answer.headers;
	}

	/* The next frame, which must be a `command`. */
	async next(command, ms) {
		const got = await this.frames.next(ms);
		if (got.command !== command) {
			throw new Error(`expected ${command}, got ${got.command} ${JSON.stringify(got.headers)} ${got.text}`);
		}
		return got;
	}

	/* What had been sent has taken effect and what it caused has arrived: a receipt says the first, a short wait the
	 * second, since a message may take the way over another worker. Returns what came. */
	async settle() {
		const id = `settle-${Math.random().toString(36).slice(2)}`;
		await this.send(frame("SEND", { destination: `/topic/e2e.${id}`, receipt: id }));
		const came = [];
		for (;;) {
			const got = await this.frames.next();
			if (got.command === "RECEIPT" && got.headers["receipt-id"] === id) {
				break;
			}
			came.push(got);
		}
		await sleep(SETTLE_MS);
		return [...came, ...this.frames.drain()];
	}

	async subscribe(destination, headers = {}) {
		const receipt = `sub-${Math.random().toString(36).slice(2)}`;
		await this.send(frame("SUBSCRIBE", { id: "s0", destination, receipt, ...headers }));
		const got = await this.next("RECEIPT");
		if (got.headers["receipt-id"] !== receipt) {
			throw new Error(`another receipt: ${got.headers["receipt-id"]}`);
		}
	}

	/* An ERROR frame comes, then the connection ends. */
	async refused(ms = 30000) {
		const got = await this.frames.find((f) => f.command === "ERROR", ms);
		const close = await Promise.race([
			this.closed,
			new Promise((_, reject) => {
				setTimeout(() => reject(new Error("no close after ERROR")), ms).unref();
			}),
		]);
		return { ...got, close };
	}
}

/* One whole frame at the start of `bytes`, or null when it is not all there. */
function parse(bytes) {
	const headEnd = bytes.indexOf("\n\n");
	if (headEnd < 0) {
		return null;
	}
	const [command, ...lines] = bytes.subarray(0, headEnd).toString().split("\n");
	const pairs = lines.map((line) => {
		const at = line.indexOf(":");
		if (at < 1) {
			throw new Error(`bad header line from the server: ${JSON.stringify(line)}`);
		}
		return [line.slice(0, at), line.slice(at + 1)];
	});
	const headers = {};
	for (const [name, value] of pairs) {
		headers[name] ??= value;
	}
	const start = headEnd + 2;
	let end;
	if (headers["content-length"] === undefined) {
		end = bytes.indexOf(0, start);
		if (end < 0) {
			return null;
		}
	} else {
		end = start + Number(headers["content-length"]);
		if (bytes.length <= end) {
			return null;
		}
		if (bytes[end] !== 0) {
			throw new Error(`no NUL after content-length in ${command}`);
		}
	}
	const body = Buffer.from(bytes.subarray(start, end));
	return { length: end + 1, frame: { command, headers, pairs, body, text: body.toString() } };
}
