/* SPDX-License-Identifier: Apache-2.0 */
/* What the server's refusals mean to a person. */

export { ApiError } from "../client/rest.js";

const TEXTS = {
	RATE_LIMIT_EXCEEDED: "You are sending too fast.",
	NOT_FOUND: "There is no such person, room or message.",
	NOT_MEMBER: "You are not a member of this room.",
	FORBIDDEN: "You may not do that here.",
	BANNED: "You are banned from this room.",
	MUTED: "You have been muted in this room.",
	SLOW_MODE: "This room is in slow mode.",
	READ_ONLY: "Only moderators may write in this room.",
	BLOCKED: "This person does not take messages from you.",
	TOO_LARGE: "This message is too long.",
	ROOM_FULL: "This room is full.",
	TOO_MANY_ROOMS: "There are too many rooms already.",
	DUPLICATE_ID_MISMATCH: "The server already has another message in its place. Edit it and send it as a new one.",
	DISCONNECTED: "The connection is gone. Try again once it is back.",
	TIMEOUT: "The server did not confirm it.",
	STORE_BUSY: "The server is busy. Try again in a moment.",
	STORE_FULL: "The server cannot store anything more.",
	UNAVAILABLE: "The server cannot do this right now.",
};

export function explain(error) {
	const text = TEXTS[error.code ?? error.errorCode] ?? error.message ?? "Something went wrong.";
	return error.retryAfterSeconds ? `${text} Try again in ${error.retryAfterSeconds} s.` : text;
}
