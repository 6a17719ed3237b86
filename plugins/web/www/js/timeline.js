/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of one conversation in the order in which the server has put them, without repeats and without holes.
 * Nothing here knows the page or the network.
 *
 * What is shown is one stretch of the conversation. `before` is where older pages go on, null at the beginning;
 * `after` is where newer ones do, null when the stretch reaches what arrives live. `lastSeq` is the last row that
 * this page has taken note of, shown or not: where to resume. */

const CHANGES_KEPT = 200;
const KEPT_WHEN_LEFT = 200;
const KEPT_UNOPENED = 40;

export function makeConversation(kind, id) {
	return {
		key: `${kind}:${id}`,
		kind,
		id,
		messages: [],
		loaded: "no", /* no | loading | yes | failed */
		paging: "", /* older | newer: which way a page is being fetched */
		pagingFailed: "",
		before: null,
		after: null,
		turn: 0, /* counts resets, so that late answers are known as such */
		lastSeq: 0,
		epoch: "",
		changes: [],
		pins: null, /* ids, once asked for */
		thread: null, /* the one that is shown beside it; see threads.js */
		quoted: new Map(), /* what others replied to and is not among the messages: id -> entry or null */
		unread: 0,
		preview: null,
		draft: "",
		writing: null, /* {what: "reply" | "edit", entry} */
		lastAt: 0,
		typing: new Map(),
		readUpTo: new Map(),
		deliveredTo: new Map(),
		readSent: 0,
		deliveredSent: 0,
		readSentId: "",
	};
}

/* Still here alone: on its way, or refused. */
export const isLocal = (entry) => entry.status === "pending" || entry.status === "failed";

export const lastStored = (conversation) => conversation.messages.findLast((m) => !isLocal(m));

function sameAs(entry) {
	return (m) =>
		(entry.id && m.id === entry.id) || (entry.clientId && m.clientId === entry.clientId && m.senderId === entry.senderId);
}

/* Puts the entry in its place, and in the place of the one that it is. Returns the one replaced. */
export function insert(conversation, entry) {
	const list = conversation.messages;
	const same = list.findIndex(sameAs(entry));
	const old = same >= 0 ? list[same] : null;
	if (old) {
		entry.row = old.row;
		list.splice(same, 1);
	}
	let at = list.length;
	/* What is still on its way will come after what the server has already put in order. */
	const after = (m) => (isLocal(entry) ? isLocal(m) && m.at > entry.at : isLocal(m) || (entry.seq && m.seq > entry.seq));
	while (at > 0 && after(list[at - 1])) {
		at--;
	}
	list.splice(at, 0, entry);
	conversation.lastAt = Math.max(conversation.lastAt, entry.at);
	return old;
}

/* An edit, a deletion, a reaction, a pin. Returns the message that it changed, if it is here. */
function change(conversation, row) {
	const entry = conversation.messages.find((m) => m.id === row.messageId);
	if (row.code === "PINNED") {
		conversation.pins?.add(row.messageId);
	} else if (row.code === "UNPINNED" || row.type === "DELETE") {
		conversation.pins?.delete(row.messageId);
	}
	const beside = conversation.thread?.entries.filter((m) => m.id === row.messageId) ?? [];
	for (const shown of [entry, conversation.quoted.get(row.messageId), ...beside]) {
		if (shown) {
			alter(shown, row);
		}
	}
	const preview = conversation.preview;
	if (preview?.id === row.messageId) {
		alter(preview, row);
	}
	return entry;
}

function alter(entry, row) {
	if (entry.deleted) {
		return;
	}
	if (row.type === "EDIT") {
		/* What is encrypted stays as it was until it has been opened. */
		Object.assign(entry, entry.encrypted ? { sealed: row.content, lock: "" } : { content: row.content }, { edited: true });
	} else if (row.type === "DELETE") {
		Object.assign(entry, { content: "", sealed: undefined, deleted: true, reactions: {}, replyTo: "" });
	} else if (row.type === "REACTION") {
		const who = row.senderId ?? row.sender;
		const others = (entry.reactions?.[row.reaction] ?? []).filter((id) => id !== who);
		const all = row.removed ? others : [...others, who];
		entry.reactions = { ...entry.reactions, [row.reaction]: all };
		if (all.length === 0) {
			delete entry.reactions[row.reaction];
		}
	}
}

export function applyChange(conversation, row) {
	conversation.changes.push(row);
	conversation.changes.splice(0, conversation.changes.length - CHANGES_KEPT);
	return change(conversation, row);
}

/* A page of history. It shows everything up to its `topSeq` as it is; what arrived while it was on its way and is newer
 * changes it once more. */
export function merge(conversation, page, entries) {
	for (const entry of entries) {
		insert(conversation, entry);
	}
	for (const row of conversation.changes) {
		if (row.seq > page.topSeq) {
			change(conversation, row);
		}
	}
	conversation.epoch = page.epoch ?? conversation.epoch;
}

/* Takes note of a row that arrived. Returns whether rows before it are missing. */
export function noteSeq(conversation, seq, epoch) {
	const hole = conversation.lastSeq > 0 && seq > conversation.lastSeq + 1;
	conversation.lastSeq = Math.max(conversation.lastSeq, seq);
	conversation.epoch = epoch || conversation.epoch;
	return hole;
}

/* Forgets what was fetched; what is only here stays. */
export function reset(conversation) {
	conversation.messages = conversation.messages.filter(isLocal);
	Object.assign(conversation, { loaded: "no", paging: "", pagingFailed: "", before: null, after: null, changes: [], pins: null });
	conversation.turn++;
	if (conversation.thread) {
		Object.assign(conversation.thread, { entries: [], loaded: "no", before: null });
	}
}

/* A conversation that was left need not keep all that was scrolled through, nor one that was never opened all that was
 * overheard. */
export function trim(conversation) {
	if (conversation.after !== null) {
		reset(conversation);
		return;
	}
	const excess = conversation.messages.length - (conversation.loaded === "no" ? KEPT_UNOPENED : KEPT_WHEN_LEFT);
	if (excess <= 0) {
		return;
	}
	const kept = conversation.messages.slice(excess);
	const first = kept.find((m) => m.seq);
	if (first) {
		conversation.messages = kept;
		if (conversation.loaded === "yes") {
			conversation.before = first.seq;
		}
	}
}
