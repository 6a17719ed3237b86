/* HTTP as a test needs it: bodies as they come, while the answer goes on. */

import { once } from "node:events";
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const WAIT_MS = 30000;

/* Returns {status, headers, done: promise of the whole body, until(pattern): promise of what has come when it fits,
 * starting after what the last until() returned, abort()}. */
export async function open(url, { method = "GET", headers = {}, body } = {}) {
	const request = http.request(url, { method, headers, agent: false });
	request.on("error", () => {}); /* seen as a rejected `once`, or after abort() */
	request.end(body);
	const [response] = await once(request, "response");
	response.setEncoding("utf8");
	let whole = "";
	let seen = 0;
	response.on("data", (text) => (whole += text));
	const until = async (pattern) => {
		const deadline = Date.now() + WAIT_MS;
		for (;;) {
			const rest = whole.slice(seen);
			if (pattern.test(rest)) {
				seen = whole.length;
				return rest;
			}
			if (Date.now() > deadline) {
				throw new Error(`${method} ${url}: ${JSON.stringify(rest)} does not fit ${pattern}`);
			}
			await sleep(10);
		}
	};
	const done = new Promise((resolve, reject) => {
		response.on("end", () => resolve(whole));
		response.on("error", reject);
	});
	done.catch(() => {}); /* only those who wait for the end care */
	return { status: response.statusCode, headers: response.headers, until, done, abort: () => request.destroy() };
}

/* The whole answer: {status, headers, text, json}. */
export async function fetchAll(url, options) {
	const answer = await open(url, options);
	const text = await answer.done;
	return {
		...answer,
		text,
		get json() {
			return JSON.parse(text);
		},
	};
}
