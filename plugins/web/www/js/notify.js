/* SPDX-License-Identifier: Apache-2.0 */
/* Tells of what is said while the person looks elsewhere: the system's notifications, and a number on the application's
 * icon. The server wakes those who are away altogether; that is push.js. */

import { t } from "./i18n.js";
import { notices } from "./storage.js";
import { snippet } from "./view-row.js";

const LASTS_MS = 12000;
const ICON = new URL("../icons/icon-192.png", import.meta.url).href;

const looking = () => document.visibilityState === "visible" && document.hasFocus();

export class Notifier {
	#state;
	#open;

	/* `open(key)` shows a conversation. */
	constructor(state, open) {
		this.#state = state;
		this.#open = open;
		state.onChange((topic, key, entry) => {
			if (topic === "arrived") {
				this.#arrived(state.conversations.get(key), entry);
			} else if (topic === "conversations") {
				this.#badge();
			}
		});
	}

	#arrived(conversation, entry) {
		if (looking() || !notices.get() || globalThis.Notification?.permission !== "granted") {
			return;
		}
		const room = conversation.kind === "room" ? this.#state.titleOf(conversation) : "";
		const vars = { name: entry.senderName, title: room };
		const title = room ? t("{name} in {title}", vars) : entry.senderName;
		this.#show(title, { body: snippet(entry), tag: conversation.key, icon: ICON, renotify: true });
	}

	#show(title, options) {
		let notice;
		try {
			notice = new Notification(title, options);
		} catch {
			return; /* phones let a service worker alone do it */
		}
		notice.onclick = () => {
			focus();
			this.#open(options.tag);
			notice.close();
		};
		setTimeout(() => notice.close(), LASTS_MS);
	}

	#badge() {
		const total = this.#state.unreadTotal();
		const done = total > 0 ? navigator.setAppBadge?.(total) : navigator.clearAppBadge?.();
		done?.catch(() => {}); /* not installed */
	}
}
