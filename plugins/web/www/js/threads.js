/* SPDX-License-Identifier: Apache-2.0 */
/* What is said in one thread: the message that it is about, and what has that message's id as its `threadId`. Most of it
 * is among the conversation's messages already; the rest is fetched, a page at a time. */

import { ApiError } from "./errors.js";
import { isLocal } from "./timeline.js";

const PAGE = 50;

/* `entries`: what is known of it beside what the conversation has; `before`: where older ones go on. */
export function makeThread(conversation, root) {
	return { key: `${conversation.key}/thread/${root}`, root, entries: [], loaded: "no", before: null, paging: false, draft: "", writing: null, files: [] };
}

export class Threads {
	#state;
	#api;
	#history;

	constructor({ state, api, history }) {
		this.#state = state;
		this.#api = api;
		this.#history = history;
	}

	/* The message that it is about, or null. */
	rootOf(conversation, { root, entries }) {
		const is = (m) => m.id === root;
		return conversation.messages.find(is) ?? entries.find(is) ?? conversation.quoted.get(root) ?? null;
	}

	/* The replies in their order, each once: those of the conversation first, since they are what is changed. */
	repliesOf(conversation, { root, entries }) {
		const found = conversation.messages.filter((m) => m.threadId === root && m.kind === "chat");
		const known = new Set(found.map((m) => m.id));
		found.push(...entries.filter((m) => m.threadId === root && !known.has(m.id)));
		const last = (m) => (isLocal(m) ? 1 : 0);
		return found.sort((a, b) => last(a) - last(b) || a.seq - b.seq || a.at - b.at);
	}

	/* The newest page. */
	async load(conversation, thread) {
		if (thread.loaded !== "no") {
			return;
		}
		thread.loaded = "loading";
		this.#history.quote(conversation, thread.root);
		await this.#page(conversation, thread, { limit: PAGE }, "failed");
	}

	async older(conversation, thread) {
		if (thread.loaded !== "yes" || thread.before === null || thread.paging) {
			return;
		}
		thread.paging = true;
		this.#state.changed("messages", conversation.key);
		await this.#page(conversation, thread, { limit: PAGE, before: thread.before }, "yes");
		thread.paging = false;
		this.#state.changed("messages", conversation.key);
	}

	async #page(conversation, thread, range, otherwise) {
		const { turn } = conversation;
		try {
			const page = await this.#api.thread(thread.root, range);
			if (turn !== conversation.turn || conversation.thread !== thread) {
				return;
			}
			this.#state.mergeThread(conversation, page.messages);
			/* It begins with what it is about. */
			const whole = page.messages.length === 0 || page.messages.some((m) => m.id === thread.root);
			Object.assign(thread, { loaded: "yes", failed: false, before: whole ? null : (page.before ?? null) });
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			/* A server that keeps nothing has no such page: what is heard is all there is. */
			thread.loaded = [403, 404].includes(error.status) ? "none" : otherwise;
			thread.failed = thread.loaded !== "none";
		}
		this.#state.changed("messages", conversation.key);
	}
}
