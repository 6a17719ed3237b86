/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the page: connects the views, the state and the session. */

import { MessageActions } from "./actions.js";
import { Api } from "./api.js";
import { Composer } from "./composer.js";
import { confirm, Finder, initDialogs, initNameDialog, initRoomDialog } from "./dialogs.js";
import { $, oncePerFrame } from "./dom.js";
import { Drafts } from "./drafts.js";
import { serverWords } from "./errors.js";
import { Files } from "./files.js";
import { plural, t } from "./i18n.js";
import { initKeys } from "./keys.js";
import { part, using } from "./lazy.js";
import { Moderation } from "./moderation.js";
import { Notifier } from "./notify.js";
import { keepShell, Snapshot } from "./offline.js";
import { Place } from "./place.js";
import { Session } from "./session.js";
import { roomKey, State, userKey } from "./state.js";
import { deviceToken, login, outbox, pushed } from "./storage.js";
import { toast } from "./toasts.js";
import { showConversations, showMe, showPeople } from "./view-lists.js";
import { flash, initMessageKeys, nearBottom, nearTop, showHead, showMessages, showTyping, toBottom } from "./view-messages.js";
import { Lock } from "./view-lock.js";
import { initSettings } from "./view-settings.js";
import { StartScreen } from "./view-start.js";

/* The server is the judge; what it would refuse anyway is better mended before it is sent. */
const MAX_CONTENT = Number(document.querySelector('meta[name="chatd-max-content"]').content);
const narrow = matchMedia("(max-width: 820px)");

const state = new State();
const api = new Api({
	renewed: (token) => session.renewed(token),
	ended: (error) => session.account.refreshRefused(error),
});
const session = new Session({
	state,
	api,
	toast,
	endpoint: document.querySelector('meta[name="chatd-endpoint"]').content,
	transport: new URLSearchParams(location.search).get("transport"),
	invited: (room, by) =>
		room && toast(t("{name} invites you to {title}.", { name: by, title: room.name }), { sticky: true, action: { label: t("Show"), run: () => openConversation(roomKey(room.id)) } }),
	left: (reason) => showWelcome(serverWords(reason) ? t("You were logged out: {reason}", { reason }) : t("You are logged out."), "login"),
});
const files = new Files(api);
const drafts = new Drafts({ state, encryption: session.encryption });
const composer = new Composer({ state, session, drafts, max: MAX_CONTENT, files });
const finder = new Finder(state, api, (key) => openConversation(key));
const moderation = new Moderation({ state, api });
const openPerson = (id) => openConversation(userKey(id));
const actions = new MessageActions({ state, session, composer, files, moderation, jump: jumpTo, openPerson, thread: (id) => openThread(id) });
const startScreen = new StartScreen({ session, api, toast, done: comeIn });
const lock = new Lock({ state, encryption: session.encryption, toast });

/* ---- parts that are fetched when they are needed ---- */

const manager = part(
	() => import("./view-room.js"),
	({ RoomManager }) => new RoomManager(state, session, moderation),
);
const lists = () => import("./view-search.js");
const search = part(lists, ({ Search }) => new Search(state, api, jumpTo));
const pins = part(lists, ({ Pins }) => new Pins({ history: session.history, jump: jumpTo, actions, mayPin: (conversation) => actions.mayPin(conversation) }));
const account = part(
	() => import("./view-account.js"),
	({ AccountDialog }) => {
		const registered = (who, error) => {
			showWelcome();
			startScreen.registered(who, error);
		};
		return new AccountDialog({ state, session, api, toast, leave: askToSignOut, gone: showWelcome, registered });
	},
);
const notifications = part(
	() => import("./push.js"),
	({ Notifications }) => {
		const place = () => {
			const conversation = activeConversation();
			return conversation ? { kind: conversation.kind, id: conversation.id, title: state.titleOf(conversation) } : null;
		};
		return new Notifications({ api, toast, place });
	},
);
const threads = part(
	() => import("./view-thread.js"),
	({ ThreadPanel }) =>
		new ThreadPanel({ state, session, api, drafts, files, moderation, max: MAX_CONTENT, jump: jumpTo, openPerson, back: () => openConversation(state.active) }),
);
/* Once there is one. */
let threadPanel = null;
/* So that they are there when the server is not. Where there is a service worker it has them all. */
const PARTS_AFTER_MS = 10000;
let partsAsked = false;
state.onChange((topic) => {
	if (topic === "connection" && state.connection.state === "online" && !partsAsked) {
		partsAsked = true;
		setTimeout(() => !navigator.serviceWorker?.controller && [manager, search, pins, account, threads].forEach((load) => load()), PARTS_AFTER_MS);
	}
});
/* For the list of people: what may be done with one of them is known, how it is done is fetched. */
const managing = {
	mayManage: (roomId, member) => session.rooms.mayManage(roomId, member),
	menu: (roomId, member, anchor) => manager().then((it) => it?.menu(roomId, member, anchor)),
};

/* ---- what is shown ---- */

const activeConversation = () => state.conversations.get(state.active);

const place = new Place({ history: session.history, current: activeConversation, render: () => renderNow() });

function looking() {
	return document.visibilityState === "visible" && document.hasFocus();
}

function renderNow() {
	showConversations(state, openConversation);
	showMe(state.me);
	showConnection();
	const conversation = activeConversation();
	$("stage").dataset.open = conversation ? "true" : "false";
	if (!conversation) {
		openDefault();
		return;
	}
	showHead(state, conversation);
	lock.show(conversation);
	showMessages(state, conversation, actions);
	showTyping(state, conversation);
	const inRoom = conversation.kind === "room" && state.rooms.get(conversation.id)?.joined;
	if (inRoom) {
		showPeople(state, conversation.id, openPerson, managing);
	}
	$("people").hidden = !inRoom || !peopleShown();
	threadPanel?.show();
	if (!place.restore(conversation)) {
		readOn(conversation);
	}
}

const render = oncePerFrame(renderNow);

state.onChange(render);

/* Once for each account that comes. */
let notified = null;
state.onChange(() => {
	const who = state.connection.state === "online" && !session.isGuest ? state.me?.id : state.me && notified;
	if (who && who !== notified && pushed.get()) {
		notifications().then((it) => it?.start());
	}
	notified = who;
});

/* What the person has come near to: older pages above, newer ones below, the end. */
function readOn(conversation) {
	if (!state.me || state.connection.state !== "online") {
		return;
	}
	if (nearTop() && conversation.pagingFailed !== "older") {
		session.history.older(conversation);
	}
	if (nearBottom()) {
		if (conversation.pagingFailed !== "newer") {
			session.history.newer(conversation); /* after a failure with the next connection, or by the button */
		}
		if (looking()) {
			session.seen(conversation);
		}
	}
	for (const { replyTo, threadId } of conversation.messages) {
		for (const id of [replyTo, threadId]) {
			if (id) {
				session.history.quote(conversation, id);
			}
		}
	}
}

/* Shows one message where it was said. */
async function jumpTo(conversation, message) {
	openConversation(conversation.key, message.threadId ?? "");
	renderNow();
	if (await session.history.around(conversation, message)) {
		flash(message.id, renderNow);
	} else {
		toast(t("This message cannot be shown here any more."), { kind: "error" });
	}
}

function toNewest() {
	const conversation = activeConversation();
	if (conversation?.after !== null) {
		session.history.reload(conversation);
	} else {
		toBottom();
	}
}

function show(view) {
	document.body.dataset.view = view;
	$("welcome").hidden = view !== "welcome";
	$("app").hidden = view !== "chat";
}

function comeIn() {
	show("chat");
	if (!narrow.matches) {
		composer.focus(); /* opened already, but it could not be seen */
	}
}

function showWelcome(reason = "", way = "guest") {
	history.replaceState(null, "", location.pathname + location.search);
	for (const dialog of document.querySelectorAll("dialog[open]")) {
		dialog.close();
	}
	composer.close();
	closeThread();
	closeDrawers();
	show("welcome");
	startScreen.show(reason, way);
}

/* ---- connection line ---- */

const VIA = { sockjs: "SockJS", "xhr-streaming": "SockJS", "xhr-polling": "SockJS" };

function showConnection() {
	const { state: now, transport, retryAt, reason } = state.connection;
	const box = $("connection");
	box.dataset.state = now;
	box.dataset.transport = transport ?? "";
	const seconds = Math.max(1, Math.ceil(((retryAt ?? 0) - Date.now()) / 1000));
	const texts = {
		connecting: t("Connecting…"),
		online: VIA[transport] ? t("Connected through {name}", { name: VIA[transport] }) : t("Connected"),
		waiting: navigator.onLine ? t("Connection lost. Trying again in {n} s.", { n: seconds }) : t("You are offline."),
		stopped: "",
		taken: t("You opened this chat in another place. A guest can be in one at a time."),
		banned: reason && reason !== "banned" ? t("You are banned from this server: {reason}", { reason }) : t("You are banned from this server."),
	};
	/* Written only when it differs: a live region is read out at every change. */
	if ($("connection-text").textContent !== texts[now]) {
		$("connection-text").textContent = texts[now];
	}
	$("connection-retry").hidden = now !== "waiting";
	$("connection-here").hidden = now !== "taken";
	$("composer").dataset.offline = now === "online" ? "false" : "true";
}

let wasHeld = false;

setInterval(() => {
	if (state.connection.state === "waiting") {
		showConnection();
	}
	if (state.held > 0 || wasHeld) {
		render(); /* counts down at the messages that wait */
	}
	wasHeld = state.held > 0;
}, 1000);

/* ---- conversations and the address ---- */

/* `root`: of a thread of it that is to be shown as well. */
function openConversation(key, root = "") {
	const [before, beside] = [state.active, threadPanel?.root];
	const conversation = session.open(key);
	if (!conversation) {
		return;
	}
	const hash = `#${encodeURIComponent(key)}${root ? `/thread/${encodeURIComponent(root)}` : ""}`;
	if (location.hash !== hash) {
		history.pushState(null, "", hash);
	}
	if (before === key && beside && !root) {
		closeThread(); /* and nothing else changes */
		render();
		return;
	}
	composer.open(conversation);
	closeDrawers();
	if (!narrow.matches) {
		renderNow(); /* what cannot be seen yet cannot have the focus */
		composer.focus();
	}
	if (root) {
		showThread(root, false);
	} else {
		closeThread();
	}
}

/* "#KEY" or "#KEY/thread/ID" */
function placeInAddress() {
	try {
		const [key, root] = location.hash.slice(1).split("/thread/").map(decodeURIComponent);
		return { key, root: root ?? "" };
	} catch {
		return { key: "", root: "" };
	}
}

/* ---- the thread beside the conversation ---- */

/* The person asked for it. */
function openThread(root) {
	const hash = `#${encodeURIComponent(state.active)}/thread/${encodeURIComponent(root)}`;
	if (location.hash !== hash) {
		history.pushState(null, "", hash);
	}
	return showThread(root, true);
}

async function showThread(root, focus) {
	const conversation = activeConversation();
	const from = document.activeElement;
	const panel = await threads();
	if (conversation !== activeConversation() || placeInAddress().root !== root) {
		return;
	}
	if (!panel) {
		history.replaceState(null, "", `#${encodeURIComponent(conversation.key)}`);
		return;
	}
	threadPanel = panel;
	closeDrawers();
	document.body.dataset.thread = "open";
	coverStage();
	renderNow();
	panel.open(conversation, root, { from, focus, narrow: narrow.matches });
	render();
}

function closeThread() {
	if (document.body.dataset.thread) {
		delete document.body.dataset.thread;
		coverStage();
		threadPanel.close();
		render();
	}
}

/* Nothing is open yet: what the address names, or else the first room. */
function openDefault() {
	if (!state.me || state.rooms.size === 0) {
		return;
	}
	const named = placeInAddress();
	if (named.key && state.open(named.key)) {
		openConversation(named.key, named.root);
		return;
	}
	const rooms = [...state.rooms.values()];
	const first = rooms.find((r) => r.id === "lobby") ?? rooms.find((r) => r.joined) ?? rooms[0];
	openConversation(roomKey(first.id));
}

addEventListener("popstate", () => {
	const { key, root } = placeInAddress();
	if (key && state.me && (key !== state.active || root !== (threadPanel?.root ?? ""))) {
		openConversation(key, root);
	}
});

/* ---- drawers ---- */

let peopleWanted = true;

/* The thread takes the place of the people. */
const peopleShown = () => (narrow.matches ? document.body.dataset.drawer === "people" : peopleWanted && !document.body.dataset.thread);

function setDrawer(name) {
	const before = document.body.dataset.drawer ?? "";
	document.body.dataset.drawer = name;
	$("veil").hidden = !name;
	$("sidebar").inert = narrow.matches && name !== "sidebar";
	coverStage();
	$("open-sidebar").setAttribute("aria-expanded", String(name === "sidebar"));
	render();
	if (name === "sidebar") {
		$("close-sidebar").focus();
	} else if (before === "sidebar" && narrow.matches) {
		$("open-sidebar").focus();
	}
}

const closeDrawers = () => setDrawer("");

/* What lies below something else on a narrow screen. */
function coverStage() {
	const { drawer, thread } = document.body.dataset;
	$("stage").inert = narrow.matches && Boolean(drawer || thread);
}

function togglePeople() {
	if (narrow.matches) {
		setDrawer(document.body.dataset.drawer === "people" ? "" : "people");
		if (peopleShown()) {
			$("people").hidden = false;
			$("close-people").focus();
		}
	} else if (document.body.dataset.thread) {
		peopleWanted = true;
		openConversation(state.active);
	} else {
		peopleWanted = !peopleWanted;
		render();
	}
	$("toggle-people").setAttribute("aria-expanded", String(peopleShown()));
}

narrow.addEventListener("change", closeDrawers);
$("open-sidebar").addEventListener("click", () => setDrawer("sidebar"));
$("close-sidebar").addEventListener("click", closeDrawers);
$("veil").addEventListener("click", closeDrawers);
$("toggle-people").addEventListener("click", togglePeople);
$("close-people").addEventListener("click", togglePeople);
$("people-more").addEventListener("click", () => session.rooms.morePeople(activeConversation().id));

/* ---- the rest of the buttons ---- */

$("jump").addEventListener("click", toNewest);
$("scroller").addEventListener("scroll", () => {
	const conversation = activeConversation();
	if (nearBottom() && conversation?.after === null) {
		$("jump").hidden = true;
		render();
	} else if (nearBottom() || nearTop()) {
		render();
	}
});
$("history-retry").addEventListener("click", () => {
	const conversation = activeConversation();
	conversation.pagingFailed = "";
	if (conversation.loaded === "failed") {
		session.history.load(conversation);
	} else {
		session.history.older(conversation);
	}
});
const openSearch = using(search, (it) => it.open());
$("open-search").addEventListener("click", openSearch);
$("open-pins").addEventListener("click", using(pins, (it) => it.open(activeConversation())));
$("open-room").addEventListener("click", using(manager, (it) => it.open(activeConversation().id)));
$("open-account").addEventListener("click", using(account, (it) => it.open()));
$("open-account").addEventListener("click", () => !session.isGuest && notifications().then((it) => it?.offer()));
/* A notification was touched. */
navigator.serviceWorker?.addEventListener("message", ({ data }) => data?.type === "open" && typeof data.key === "string" && openConversation(data.key));
$("connection-retry").addEventListener("click", () => session.retryNow());
$("connection-here").addEventListener("click", () => session.start());
$("open-finder").addEventListener("click", () => {
	session.rooms.load();
	finder.open(false);
});
$("more-rooms").addEventListener("click", () => finder.open(false));
$("new-direct").addEventListener("click", () => finder.open(true));
$("join-room").addEventListener("click", async () => {
	$("join-room").disabled = true;
	await session.rooms.joinByHand(activeConversation().id);
	$("join-room").disabled = false;
});
async function askToLeave() {
	const conversation = activeConversation();
	$("manage").close();
	const title = state.titleOf(conversation);
	if (await confirm(t("Leave {title}?", { title }), t("You will not get its messages until you join again."), t("Leave"))) {
		session.rooms.leave(conversation.id);
	}
}

$("leave-room").addEventListener("click", askToLeave);
$("manage-leave").addEventListener("click", askToLeave);
async function askToSignOut() {
	const guest = t("This browser forgets who you are. A guest that was forgotten cannot come back. Make an account to keep everything.");
	const waiting = state.localOnes().length;
	const lost = plural(waiting, "One message could not be sent yet and would be lost.", "{n} messages could not be sent yet and would be lost.");
	const member = `${t("You can log in again with your e-mail address and password.")}${waiting > 0 ? ` ${lost}` : ""}`;
	const [title, text, yes] = session.isGuest ? [t("Forget me here?"), guest, t("Forget me")] : [t("Log out?"), member, t("Log out")];
	if (!(await confirm(title, text, yes))) {
		return;
	}
	const wasGuest = session.isGuest;
	if (pushed.get()) {
		await (await notifications())?.stop();
	}
	const heard = await session.account.signOut();
	const unheard = t("You are logged out here, but the server could not be told: it is over there when its tokens are.");
	showWelcome(heard ? "" : unheard, wasGuest ? "guest" : "login");
}

$("sign-out").addEventListener("click", askToSignOut);
$("me-id").addEventListener("click", async () => {
	try {
		await navigator.clipboard.writeText(state.me.id);
		toast(t("Your id is copied. Others can write to you with it."));
	} catch {
		toast(t("Your id is {id}.", { id: state.me.id }));
	}
});

addEventListener("keydown", (event) => {
	if (event.key === "Escape" && document.body.dataset.drawer) {
		closeDrawers();
	}
});
initKeys({ here: () => Boolean(state.me), find: () => finder.open(false), search: openSearch, open: openConversation });
addEventListener("online", () => session.retryNow());
addEventListener("offline", render);
addEventListener("focus", render);
/* A keyboard that opens on a phone takes half of the screen: who read the end goes on reading it. */
let wasNearBottom = true;
$("scroller").addEventListener("scroll", () => (wasNearBottom = nearBottom()));
addEventListener("resize", () => {
	if (state.active && wasNearBottom) {
		toBottom();
	}
});
document.addEventListener("visibilitychange", () => {
	if (document.visibilityState === "visible") {
		session.retryNow();
		render();
	}
});

/* What happened in another tab. */
addEventListener("storage", async (event) => {
	const done = event.newValue === null && outbox.clientIdOf(event.key);
	if (done && state.me) {
		session.outbox.forgetFailed(done);
	}
	if (event.key === login.key) {
		await onLoginElsewhere(event.newValue !== null);
	} else if (event.key === deviceToken.key && state.me && session.isGuest) {
		if (event.newValue === null) {
			await session.end();
			showWelcome();
		} else {
			session.followIdentity();
		}
	}
});

async function onLoginElsewhere(isThere) {
	if (isThere && document.body.dataset.view === "welcome") {
		show("chat");
		session.start();
	} else if (isThere) {
		await session.account.followLogin();
	} else if (document.body.dataset.view === "chat") {
		await session.end();
		showWelcome("", "login");
	}
}

initDialogs();
initNameDialog(
	() => state.me.name,
	(name) => session.rename(name),
);
initRoomDialog(
	(options) => session.rooms.create(options),
	(id) => openConversation(roomKey(id)),
);
initMessageKeys($("messages"), (row) => actions.thread(row));
initSettings(() => drafts.saved());
closeDrawers();
keepShell();
const kept = new Snapshot(state);
new Notifier(state, openConversation);
if (deviceToken.get() || login.get()) {
	show("chat");
	kept.restore();
	session.start();
} else {
	showWelcome();
}
