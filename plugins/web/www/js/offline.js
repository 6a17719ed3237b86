/* SPDX-License-Identifier: Apache-2.0 */
/* What the page needs to open without a network: its own files, by a service worker, and what was said lately, which is
 * kept in this browser until the person is forgotten here. */

import { deviceToken, login, snapshot } from "./storage.js";

const CONVERSATIONS = 12;
const MESSAGES = 30;
const SAVE_AFTER_MS = 2000;
const BYTES_AT_MOST = 500000;
/* Only a build has its files below a name of its own; a page served from a folder is not kept. */
const BUILT = import.meta.url.includes("/b-");

export function keepShell() {
	if (BUILT && navigator.serviceWorker) {
		navigator.serviceWorker.register(new URL("./sw.js", document.baseURI), { updateViaCache: "none" }).catch(() => {
			/* private windows, policies: the page works, with a network */
		});
	}
}

const whose = () => login.get()?.userId ?? (deviceToken.get() ? "guest" : "");

/* What came sealed is not laid down in the open. */
function worthKeeping({ messages, ...conversation }) {
	const kept = messages.filter((m) => m.id && !m.encrypted && m.status === "sent").slice(-MESSAGES);
	const { kind, id, unread, lastAt, preview } = conversation;
	return { kind, id, unread, lastAt, preview: preview?.encrypted || !preview?.id ? null : preview, messages: kept };
}

export class Snapshot {
	#state;
	#timer = 0;

	constructor(state) {
		this.#state = state;
		state.onChange((topic) => {
			if (["messages", "conversations"].includes(topic) && state.connection.state === "online") {
				this.#timer ||= setTimeout(() => this.#save(), SAVE_AFTER_MS);
			}
		});
		addEventListener("pagehide", () => this.#timer && this.#save());
	}

	#save() {
		clearTimeout(this.#timer);
		this.#timer = 0;
		const { me, rooms, people, conversations } = this.#state;
		if (!me) {
			return;
		}
		const recent = [...conversations.values()].sort((a, b) => b.lastAt - a.lastAt).slice(0, CONVERSATIONS);
		const names = [...people.values()].slice(0, 300).map(({ id, name }) => ({ id, name }));
		const value = JSON.stringify({ whose: whose(), me, rooms: [...rooms.values()], people: names, conversations: recent.map(worthKeeping) });
		if (value.length <= BYTES_AT_MOST) {
			snapshot.set(value);
		}
	}

	/* Shows what was kept, until the server says how it is now. */
	restore() {
		const kept = snapshot.get();
		if (!kept?.me?.id || kept.whose !== whose() || this.#state.me) {
			return;
		}
		this.#state.restore(kept);
	}
}
