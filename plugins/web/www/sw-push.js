/* SPDX-License-Identifier: Apache-2.0 */
/* Shows what the server pushes while nobody looks, and opens the conversation when it is touched. Loaded by sw.js.
 * The texts are those that the page has laid down in its reader's language; see js/push.js. */

const WORDS_CACHE = "chatd-push";
const WORDS = { one: "New message", many: "{n} new messages", sealed: "Encrypted message" };

async function words() {
	try {
		const cache = await caches.open(WORDS_CACHE);
		const kept = await cache.match("words");
		return { ...WORDS, ...(kept ? await kept.json() : {}) };
	} catch {
		return WORDS;
	}
}

const keyOf = (said) => (said.roomId ? `room:${said.roomId}` : `user:${said.with}`);

async function show(said) {
	const text = await words();
	const place = said.roomName ?? said.roomId;
	const who = said.senderName || said.sender || "";
	const what = said.content ?? (said.encrypted ? text.sealed : said.unread > 1 ? text.many.replace("{n}", said.unread) : text.one);
	await self.registration.showNotification(place ?? who, {
		body: place ? `${who}: ${what}` : what,
		tag: keyOf(said) /* the newest of a conversation replaces the one before */,
		renotify: true,
		timestamp: Date.parse(said.timestamp) || Date.now(),
		data: { key: keyOf(said) },
		icon: "icons/icon-192.png",
	});
}

function readPush(event) {
	try {
		const said = event.data.json();
		return said && (said.roomId || said.with) ? said : null;
	} catch {
		return null;
	}
}

async function open(key) {
	const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
	const page = pages.find((p) => p.url.startsWith(self.registration.scope));
	if (page) {
		page.postMessage({ type: "open", key });
		return page.focus().catch(() => undefined); /* shown it is, in front perhaps not */
	}
	return self.clients.openWindow(`${self.registration.scope}#${encodeURIComponent(key)}`);
}

self.addEventListener("push", (event) => {
	const said = readPush(event);
	if (said) {
		event.waitUntil(show(said));
	}
});

self.addEventListener("notificationclick", (event) => {
	event.notification.close();
	if (event.notification.data?.key) {
		event.waitUntil(open(event.notification.data.key));
	}
});
