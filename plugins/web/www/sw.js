/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the page without a network. Its parts are kept by the name of their build, below which they never change; the
 * page itself is asked for, and what was kept is shown when no answer comes. What the chat says is no business of this. */

importScripts("sw-shell.js"); /* SHELL: {version, files, push}, made when the server was built */
if (self.SHELL.push) {
	importScripts("sw-push.js");
}

const PREFIX = "chatd-shell-";
const CACHE = PREFIX + self.SHELL.version;
const PATIENCE_MS = 3000;
const BASE = new URL("./", self.location);

async function keepShell() {
	const cache = await caches.open(CACHE);
	await cache.addAll(self.SHELL.files.map((file) => new Request(new URL(file, BASE), file === "./" ? { cache: "reload" } : {})));
}

async function forgetOthers() {
	for (const name of await caches.keys()) {
		if (name.startsWith(PREFIX) && name !== CACHE) {
			await caches.delete(name);
		}
	}
	await self.clients.claim();
}

async function pageOrKept(request) {
	try {
		const answer = await fetch(request, { signal: AbortSignal.timeout(PATIENCE_MS) });
		if (answer.status < 500) {
			return answer;
		}
	} catch {
		/* no network, or none to speak of */
	}
	const kept = await caches.match(BASE, { cacheName: CACHE });
	return kept ?? Response.error();
}

async function keptOrFetched(request) {
	return (await caches.match(request, { cacheName: CACHE })) ?? fetch(request);
}

self.addEventListener("install", (event) => {
	self.skipWaiting();
	event.waitUntil(keepShell());
});
self.addEventListener("activate", (event) => event.waitUntil(forgetOthers()));
self.addEventListener("fetch", (event) => {
	const { request } = event;
	const url = new URL(request.url);
	if (request.method !== "GET" || url.origin !== BASE.origin) {
		return;
	}
	if (request.mode === "navigate" && url.pathname === BASE.pathname) {
		event.respondWith(pageOrKept(request));
	} else if (url.pathname.startsWith(`${BASE.pathname}b-${self.SHELL.version}/`)) {
		event.respondWith(keptOrFetched(request));
	}
});
