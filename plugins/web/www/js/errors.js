/* SPDX-License-Identifier: Apache-2.0 */
/* What the server's refusals mean to a person. The server speaks English; its codes are what is translated. */

import { language, t } from "./i18n.js";

export { ApiError } from "../client/rest.js";

/* Said better here than by the server, which does not know what the person was about to do. */
const TEXTS = {
	RATE_LIMIT_EXCEEDED: t("You are sending too fast."),
	NOT_FOUND: t("There is no such person, room or message."),
	NOT_MEMBER: t("You are not a member of this room."),
	FORBIDDEN: t("You may not do that here."),
	BANNED: t("You are banned from this room."),
	MUTED: t("You have been muted in this room."),
	SLOW_MODE: t("This room is in slow mode."),
	READ_ONLY: t("Only moderators may write in this room."),
	BLOCKED: t("This person does not take messages from you."),
	TOO_LARGE: t("This message is too long."),
	UNKNOWN_COMMAND: t("There is no such command. /help lists those there are."),
	ROOM_FULL: t("This room is full."),
	TOO_MANY_ROOMS: t("There are too many rooms already."),
	DUPLICATE_ID_MISMATCH: t("The server already has another message in its place. Edit it and send it as a new one."),
	DISCONNECTED: t("The connection is gone. Try again once it is back."),
	TIMEOUT: t("The server did not confirm it."),
	STORE_FULL: t("The server cannot store anything more."),
	UNAVAILABLE: t("The server cannot do this right now."),
	UNREACHABLE: t("The server cannot be reached."),
};

/* They pass by themselves. */
const BUSY = {
	STORE_BUSY: t("The server is busy."),
	OVERLOADED: t("The server is busy."),
};

/* Where the server's own words will do for those who read English. */
const OTHERS = {
	ALREADY_REGISTERED: t("You have an account already; log in to it."),
	CHANGED: t("It was changed meanwhile; try again."),
	CONTENT_TOO_LARGE: t("This is too large for the server."),
	DECRYPT_FAILED: t("The server cannot decrypt this message."),
	EMAIL_NOT_VERIFIED: t("The address is not confirmed yet."),
	EMAIL_TAKEN: t("There is an account of this address."),
	FILE_REFUSED: t("The server has found this file to be harmful."),
	FRESH_LOGIN_NEEDED: t("Log in again for this, and then do it within a few minutes."),
	INTERNAL: t("The server made a mistake. Try again in a moment."),
	INVALID_CODE: t("This code is wrong or too old."),
	INVALID_CREDENTIALS: t("The e-mail address or the password is wrong."),
	INVALID_TOKEN: t("This login has ended; log in again."),
	LAST_ADMIN: t("The last administrator cannot go; make another one first."),
	NICKNAME_TAKEN: t("Somebody has this name; choose another."),
	NOT_AVAILABLE: t("This server cannot do this."),
	NOT_STORED: t("The server does not keep this."),
	NOT_SUPPORTED: t("This server cannot do this."),
	REFRESH_REUSED: t("This login has ended; log in again."),
	TOKEN_EXPIRED: t("This login has ended; log in again."),
	UNAUTHORIZED: t("This login has ended; log in again."),
	UPLOAD_FORBIDDEN: t("Guests may not upload files; log in first."),
	WRONG_CODE: t("This code is wrong."),
};

/* In forms the words are about the account. */
const IN_FORMS = {
	BANNED: t("This account is banned."),
	NOT_FOUND: t("There is no such account."),
};

const FIELDS = {
	REQUIRED: () => t("This is needed."),
	BLANK: () => t("Spaces alone will not do."),
	EMAIL_TAKEN: () => t("There is an account of this address."),
	LENGTH: (reason) => t("The length does not fit: {reason}", { reason }),
};

/* What the server wrote, for those who can read it. */
export const serverWords = (text) => (language === "en" ? text : "");

const FILTERED = /a word in it that is not allowed/;
/* BLOCKED is either's; who has done it learns what undoes it. */
const BY_ME = /^you have blocked/;

/* The server begins some with the field's name, as for a form, and in small letters. */
function sentence(text) {
	const whole = text[0].toUpperCase() + text.slice(1);
	return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

function inOwnWords(code, message) {
	if (language === "en" && message) {
		return sentence(message.replace(/^[a-z]\w*: /, ""));
	}
	return FILTERED.test(message) ? t("There is a word in it that is not allowed here. Say it in another way.") : (OTHERS[code] ?? serverSays(message));
}

const serverSays = (message) => (message ? t("The server says: {reason}", { reason: message }) : t("Something went wrong."));

export const inAMoment = (text) => `${text} ${t("Try again in a moment.")}`;

export function explain(error) {
	const code = error.code ?? error.errorCode;
	const byMe = code === "BLOCKED" && BY_ME.test(error.message) ? t("You have blocked this person. Unblock them to write to them.") : null;
	const text = byMe ?? BUSY[code] ?? TEXTS[code] ?? inOwnWords(code, error.message);
	if (error.retryAfterSeconds) {
		return `${text} ${t("Try again in {n} s.", { n: error.retryAfterSeconds })}`;
	}
	return BUSY[code] ? inAMoment(text) : text;
}

/* What a form's refusal means; the server's own words where they say more. */
export function explainForm(error) {
	if (error.status > 0 && error.message && language === "en") {
		return error.message;
	}
	return IN_FORMS[error.code] ?? explain({ code: error.code, message: error.message });
}

/* What is wrong with one field. */
export function explainField({ code, message }) {
	const whole = sentence(message);
	if (language === "en") {
		return whole;
	}
	return FIELDS[code]?.(whole) ?? t("The server says: {reason}", { reason: whole });
}
