/* SPDX-License-Identifier: Apache-2.0 */

/** Why something asked of the server came to nothing: its own code, or DISCONNECTED, TIMEOUT. */
export class Refusal extends Error {
	code: string;
	retryAfterSeconds?: number;
}

/** A REST answer that is not a success; `status` 0: the server was not reached. */
export class ApiError extends Error {
	status: number;
	code: string;
	retryAfterSeconds?: number;
	errors: { field: string; code: string; message: string }[];
}

export function newId(): string;

export type Login =
	| { guest: string | true }
	| { email: string; password?: string; device?: string }
	| { token: (refused?: string) => Promise<string> };

export interface Options {
	/** Where the server is; default: where the page is from. */
	url?: string;
	login: Login;
	/** Like localStorage, which is the default; null: nothing is kept. */
	storage?: Pick<globalThis.Storage, "getItem" | "setItem" | "removeItem"> | null;
	/** "websocket", "sockjs" or a SockJS transport pins it. */
	transport?: string | null;
	/** Of @stomp/stompjs; default: the global StompJs.Client. */
	Client?: unknown;
	/** Of sockjs-client; default: the global, if there is one. */
	SockJS?: unknown;
	/** Default: the global one; Node before 22 has none, use that of the package ws. */
	WebSocket?: unknown;
}

export interface Message {
	id: string;
	clientId?: string;
	type: string;
	sender: string;
	senderId: string;
	senderName?: string;
	receiverId?: string;
	roomId?: string;
	content?: string;
	timestamp: string;
	seq?: number;
	status?: "SENT" | "DELIVERED" | "READ";
	replyTo?: string;
	mentions?: string[];
	edited?: boolean;
	deleted?: boolean;
	[field: string]: unknown;
}

export interface Position {
	seq: number;
	epoch: string;
}

export interface Gap {
	firstSeq: number;
	topSeq?: number;
	epoch: string;
}

export interface Page {
	messages: Message[];
	before?: number;
	after?: number;
	firstSeq?: number;
	topSeq?: number;
	epoch?: string;
}

export interface Stored {
	id: string;
	seq: number;
	clientId: string;
}

interface ConversationEvents {
	message: Message;
	/** EDIT, DELETE, REACTION, JOIN, LEAVE, SYSTEM */
	event: Message;
	/** Between watchTyping() and unwatchTyping(). */
	typing: { userId: string; name?: string; typing: boolean };
	read: { userId: string; seq?: number; messageId?: string; status: "READ" | "DELIVERED" };
	/** Rows are missing that will not come: read the history anew. */
	gap: Gap;
	/** The room can no longer be heard. */
	ended: Refusal;
}

export class Conversation {
	readonly kind: "room" | "user";
	readonly id: string;
	readonly following: boolean;
	readonly position: Position;
	on<K extends keyof ConversationEvents>(name: K, listener: (value: ConversationEvents[K]) => void): () => void;
	send(content: string, more?: Record<string, unknown>): Promise<Stored>;
	edit(messageId: string, content: string, more?: Record<string, unknown>): Promise<Record<string, string>>;
	delete(messageId: string): Promise<Record<string, string>>;
	react(messageId: string, reaction: string, on?: boolean): Promise<Record<string, string>>;
	typing(on?: boolean): void;
	watchTyping(): Promise<unknown>;
	unwatchTyping(): void;
	read(seq?: number): Promise<void>;
	history(range?: { before?: number; after?: number; limit?: number }): Promise<Page>;
	join(): Promise<void>;
	leave(): Promise<void>;
	follow(position?: Position): Promise<void>;
	unfollow(): void;
}

export type KeysEvent = { type: "KEYS"; userId: string } | { type: "KEYS_LOW"; deviceId: string; prekeys: number };

interface ClientEvents {
	state: { state: "connecting" | "online" | "waiting" | "stopped"; transport?: string; userId?: string; retryAt?: number };
	/** Of any conversation that was asked for, and direct ones of anybody. */
	message: Message;
	presence: Record<string, unknown>;
	/** Devices of somebody have changed, or one-time prekeys run out: for E2ee.told(). */
	keys: KeysEvent;
	/** From rooms that are not followed: unread counts, previews, invitations. */
	notice: Record<string, unknown>;
	/** What waits to be sent is tried again in so many seconds. */
	held: { seconds: number; code: string };
	error: Error;
	/** It does not come back by itself. */
	ended: Refusal;
}

export class ChatClient {
	constructor(options: Options);
	readonly state: "connecting" | "online" | "waiting" | "stopped";
	readonly me: string | null;
	on<K extends keyof ClientEvents>(name: K, listener: (value: ClientEvents[K]) => void): () => void;
	connect(): Promise<void>;
	disconnect(): Promise<void>;
	retryNow(): void;
	room(id: string): Conversation;
	direct(userId: string): Conversation;
	ask(destination: string, body: Record<string, unknown>): Promise<Record<string, string>>;
	rest(method: string, path: string, body?: unknown): Promise<any>;
	conversations(): Promise<Record<string, unknown>[]>;
	rooms(): Promise<Record<string, unknown>[]>;
	createRoom(name: string, more?: { public?: boolean; about?: string }): Promise<Conversation>;
	watch(...userIds: string[]): Promise<unknown>;
	unwatch(...userIds: string[]): Promise<unknown>;
	setPresence(status: "online" | "away" | "busy", text?: string): Promise<unknown>;
}
