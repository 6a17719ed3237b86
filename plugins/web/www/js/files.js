/* SPDX-License-Identifier: Apache-2.0 */
/* Files on their way up, and the addresses by which an element of the page may fetch one. Small ones go in one request,
 * others by tus (https://tus.io/protocols/resumable-upload): what came before a cut need not be sent again. */

import { ApiError } from "./errors.js";
import { t } from "./i18n.js";

export const AT_MOST = 16; /* files of one message, as the server has it */
const SIDE_MAX = 65535;
const IN_ONE = 1 << 20;
const PIECE = 4 << 20;
const TRIES = 8; /* without a byte more than before */
const WAIT_MS = [500, 1000, 2000, 4000, 8000];
const STALE_MS = 30000; /* before an address is over */
const REACH_MS = 15000;

const isOurs = /^\/api\/files\/([A-Za-z0-9_-]{1,64})(?=$|[/?#])/;

export const fileId = (url) => isOurs.exec(url)?.[1] ?? null;

/* As messages bring them, without what is no such thing. */
export function attachmentsOf(message) {
	const all = Array.isArray(message.attachments) ? message.attachments : [];
	const first = typeof message.attachmentUrl === "string" ? [{ url: message.attachmentUrl }] : [];
	const number = (n, most) => (Number.isInteger(n) && n > 0 && n <= most ? n : 0);
	return [...first, ...all]
		.filter((a) => typeof a?.url === "string" && /^(https?:\/\/|\/(?!\/))/.test(a.url))
		.slice(0, AT_MOST + 1)
		.map(({ url, name, size, contentType, width, height }) => ({
			url,
			name: typeof name === "string" ? name.slice(0, 255) : "",
			size: number(size, Number.MAX_SAFE_INTEGER),
			contentType: typeof contentType === "string" ? contentType : "",
			width: number(width, SIDE_MAX),
			height: number(height, SIDE_MAX),
		}));
}

export const nameOf = (a) => a.name || decodeName(a.url);

function decodeName(url) {
	const last = url.split(/[?#]/)[0].split("/").pop();
	try {
		return fileId(url) ? t("File") : decodeURIComponent(last) || url;
	} catch {
		return last;
	}
}

/* One line of what a message without a text says. */
export const filesText = (attachments) => attachments.map(nameOf).join(", ");

/* XMLHttpRequest, since fetch() does not tell how much has left. Resolves to the request, rejects with an ApiError. */
function send(method, url, { headers, body, progress, signal }) {
	return new Promise((resolve, reject) => {
		const xhr = new XMLHttpRequest();
		const fail = (code, text) => reject(new ApiError(0, code, text));
		xhr.open(method, url);
		for (const [name, value] of Object.entries(headers)) {
			xhr.setRequestHeader(name, value);
		}
		xhr.upload.onprogress = (event) => progress?.(event.loaded);
		xhr.onerror = () => fail("UNREACHABLE", t("The server cannot be reached."));
		xhr.onabort = () => fail("CANCELLED", "");
		xhr.onload = () => (xhr.status < 300 ? resolve(xhr) : reject(refusal(xhr)));
		signal.addEventListener("abort", () => xhr.abort(), { once: true });
		if (signal.aborted) {
			fail("CANCELLED", "");
		} else {
			xhr.send(body);
		}
	});
}

function refusal(xhr) {
	let answer = null;
	try {
		answer = JSON.parse(xhr.responseText);
	} catch {
		/* it is no problem document */
	}
	const seconds = Number(xhr.getResponseHeader("Retry-After")) || undefined;
	return new ApiError(xhr.status, answer?.code ?? `HTTP_${xhr.status}`, answer?.detail ?? "", { retryAfterSeconds: seconds });
}

/* What goes by itself: nothing was wrong with the file. */
const passes = (error) => error.status === 0 || error.status === 409 || error.status === 423 || error.status >= 500;

function pause(ms, signal) {
	return new Promise((resolve) => {
		const timer = setTimeout(resolve, ms);
		const now = () => {
			clearTimeout(timer);
			resolve();
		};
		addEventListener("online", now, { once: true });
		signal.addEventListener("abort", now, { once: true });
	});
}

function base64(text) {
	let bytes = "";
	for (const byte of new TextEncoder().encode(text)) {
		bytes += String.fromCharCode(byte);
	}
	return btoa(bytes);
}

export class Files {
	#api;
	#addresses = new Map();

	constructor(api) {
		this.#api = api;
	}

	/* Resolves to what a message says of its attachment. `progress(bytes)` hears how much has left. */
	async upload(file, { progress = () => {}, signal }) {
		if (file.size <= IN_ONE) {
			return this.#inOne(file, progress, signal);
		}
		const where = await this.#begin(file, signal).catch((error) => {
			if (error.status === 404) {
				return null; /* this server has no such uploads */
			}
			throw error;
		});
		return where ? this.#inPieces(where, file, progress, signal) : this.#inOne(file, progress, signal);
	}

	async #inOne(file, progress, signal) {
		for (let tries = 0; ; tries++) {
			const body = new FormData();
			body.append("file", file, file.name);
			try {
				const xhr = await this.#as((headers) => send("POST", "/api/files", { headers, body, progress, signal }));
				return attachmentOf(JSON.parse(xhr.responseText));
			} catch (error) {
				await this.#again(error, tries, signal);
			}
		}
	}

	async #begin(file, signal) {
		const more = { "Tus-Resumable": "1.0.0", "Upload-Length": String(file.size), "Upload-Metadata": `filename ${base64(file.name)}` };
		for (let tries = 0; ; tries++) {
			try {
				const xhr = await this.#as((headers) => send("POST", "/api/files/tus", { headers: { ...headers, ...more }, signal }));
				return xhr.getResponseHeader("Location");
			} catch (error) {
				await this.#again(error, tries, signal);
			}
		}
	}

	async #inPieces(where, file, progress, signal) {
		const tus = { "Tus-Resumable": "1.0.0" };
		let at = 0;
		let tries = 0;
		signal.addEventListener("abort", () => this.#as((headers) => request("DELETE", where, { ...headers, ...tus })).catch(() => {}), { once: true });
		while (at < file.size) {
			try {
				const more = { ...tus, "Upload-Offset": String(at), "Content-Type": "application/offset+octet-stream" };
				const body = file.slice(at, at + PIECE);
				const base = at;
				const tell = (bytes) => progress(base + bytes);
				const xhr = await this.#as((headers) => send("PATCH", where, { headers: { ...headers, ...more }, body, progress: tell, signal }));
				at = Number(xhr.getResponseHeader("Upload-Offset"));
				tries = 0;
			} catch (error) {
				await this.#again(error, tries++, signal);
				const there = await this.#offset(where, tus, signal).catch(() => at);
				tries = there > at ? 0 : tries;
				at = there;
			}
		}
		return attachmentOf((await this.facts(where.replace("/tus/", "/"))).file);
	}

	async #offset(where, tus, signal) {
		const xhr = await this.#as((headers) => send("HEAD", where, { headers: { ...headers, ...tus }, signal }));
		return Number(xhr.getResponseHeader("Upload-Offset"));
	}

	/* Returns after a while if it may help, else throws. */
	async #again(error, tries, signal) {
		if (signal.aborted || error.code === "CANCELLED" || !passes(error) || tries + 1 >= TRIES) {
			throw error;
		}
		const wait = WAIT_MS[Math.min(tries, WAIT_MS.length - 1)];
		await pause(Math.max(wait, (error.retryAfterSeconds ?? 0) * 1000), signal);
		if (signal.aborted) {
			throw new ApiError(0, "CANCELLED", "");
		}
	}

	#as(call) {
		return this.#api.authorized((token) => call(token ? { Authorization: `Bearer ${token}` } : {}));
	}

	/* Bytes that a file may have, null where the server does not say so. */
	async most() {
		const answer = await fetch("/api/files/tus", { method: "OPTIONS", credentials: "omit" }).catch(() => null);
		return Number(answer?.headers.get("Tus-Max-Size")) || null;
	}

	/* It was uploaded, and is not wanted after all. */
	drop(attachment) {
		return this.#as((headers) => request("DELETE", attachment.url, headers)).catch(() => {});
	}

	/* {url, expires, file}: where elements may fetch it without a token. */
	async facts(url) {
		const id = fileId(url);
		let known = this.#addresses.get(id);
		if (!known || known.until < Date.now() + STALE_MS) {
			const asked = this.#api.fileAddress(id);
			known = { until: Infinity, asked };
			this.#addresses.set(id, known);
			asked.then(
				(answer) => (known.until = Date.parse(answer.expires)),
				() => this.#addresses.delete(id),
			);
		}
		return known.asked;
	}

	/* Rejects if the file cannot be had there now: a browser that follows the link would say so in its own words, or not at all.
	 * Where the server sends on to another one, it has seen to that one. */
	async reach(url) {
		const signal = typeof AbortSignal.timeout === "function" ? AbortSignal.timeout(REACH_MS) : undefined;
		const answer = await fetch(url, { headers: { Range: "bytes=0-0" }, redirect: "manual", credentials: "omit", cache: "no-store", signal }).catch(() => {
			throw new ApiError(0, "UNREACHABLE", t("The server cannot be reached."));
		});
		if (answer.status >= 400 && answer.status !== 416 /* it is empty */) {
			throw new ApiError(answer.status, (await answer.json().catch(() => null))?.code ?? `HTTP_${answer.status}`, "");
		}
	}

	forget() {
		this.#addresses.clear();
	}
}

async function request(method, url, headers) {
	await fetch(url, { method, headers, credentials: "omit" });
}

/* What the message says of it, for those who lay out their page before they have it; nothing of what is not known. */
export function attachmentOf({ url, name, size, contentType, width, height }) {
	return { url, name, size, contentType, ...(width > 0 ? { width, height } : {}) };
}
