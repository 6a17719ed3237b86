/* HTTP as a test needs it: bodies chunk by chunk while the answer goes on. */

import { once } from "node:events";
import http from "node:http";
import { Inbox } from "./inbox.mjs";

/* Returns {status, headers, chunks: Inbox of strings, done: promise of the whole body, abort()}. */
export async function open(url, { method = "GET", headers = {}, body } = {}) {
	const request = http.request(url, { method, headers, agent: false });
	request.on("error", () => {}); /* seen as a rejected `once`, or after abort() */
	request.end(body);
	const [response] = await once(request, "response");
	response.setEncoding("utf8");
	const chunks = new Inbox(`${method} ${url}`);
	let whole = "";
	response.on("data", (text) => {
		whole += text;
		chunks.push(text);
	});
	const done = new Promise((resolve, reject) => {
		response.on("end", () => resolve(whole));
		response.on("error", reject);
	});
	done.catch(() => {}); /* only those who wait for the end care */
	return { status: response.statusCode, headers: response.headers, chunks, done, abort: () => request.destroy() };
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
